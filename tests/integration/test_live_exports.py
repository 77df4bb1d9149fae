"""A live export is kept by a program for ever, and calls the version of its caller's epoch."""

import asyncio
import gc
import inspect
import weakref

import pytest
from tests.conftest import tool

from epochal.errors import UnknownExportError
from epochal.kinds import scalar

SOURCE = """
N = {n}

@tool
def view(request, *, size: int = {n}):
    "Version {n}."
    return request, N

@tool
async def aview(request):
    return request, N
"""


@pytest.fixture
def save(rt, plugins):
    def write(n):
        plugins.write("geo", SOURCE.format(n=n))
        return plugins.root / "geo.py"

    rt.load(write(1))
    return lambda n, **options: (write(n), rt.reload("geo", **options))[1]


def test_a_kept_callable_goes_to_the_version_that_is_current(rt, save):
    view = rt.live(tool, "geo.view")
    assert view("a") == ("a", 1)
    cut = save(2)
    assert cut.drained
    assert cut.reclaimed
    assert view("b", size=3) == ("b", 2)


def test_within_an_operation_it_goes_to_that_operations_version(rt, save):
    view = rt.live(tool, "geo.view")
    with rt.operation("request"):
        save(2, drain_timeout=0.0)
        assert view("a") == ("a", 1)
    assert view("a") == ("a", 2)


def test_a_coroutine_function_stays_one(rt, save):
    view = rt.live(tool, "geo.aview")
    assert inspect.iscoroutinefunction(view.__call__)
    assert asyncio.run(view("a")) == ("a", 1)
    assert view.__doc__ is None
    save(2)
    assert asyncio.run(view("a")) == ("a", 2)


def test_it_looks_like_the_present_version_and_keeps_none(rt, save):
    view = rt.live(tool, "geo.view")
    assert view.__name__ == "view"
    assert view.__doc__ == "Version 1."
    assert inspect.signature(view).parameters["size"].default == 1
    module = weakref.ref(rt.generation("geo").module)
    save(2)
    gc.collect()
    assert module() is None
    assert inspect.signature(view).parameters["size"].default == 2
    assert repr(view) == "<live tool geo.view>"


def test_two_of_one_export_are_equal(rt, save):
    assert rt.live(tool, "geo.view") == rt.live(tool, "geo.view")
    assert hash(rt.live(tool, "geo.view")) == hash(rt.live(tool, "geo.view"))
    assert rt.live(tool, "geo.view") != rt.live(tool, "geo.aview")


def test_an_export_that_is_not_there_is_named(rt, save):
    with pytest.raises(UnknownExportError, match=r"geo\.vieww"):
        rt.live(tool, "geo.vieww")
    with pytest.raises(UnknownExportError):
        rt.live(scalar, "geo.view")
    view = rt.live(tool, "geo.view")
    rt.remove("geo")
    with pytest.raises(UnknownExportError, match=r"geo\.view"):
        view("a")
