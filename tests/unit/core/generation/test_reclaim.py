"""Taking modules apart, and naming the references that keep them."""

import gc
import threading
import weakref
from types import ModuleType

import pytest

from epochal._core.generation.reclaim import reclaim
from epochal._core.introspect import referrers
from epochal._core.introspect.referrers import ReferrerSearch

ROOT = "geo__g7_3fa9c1d2"
SOURCE = """
class Shape:
    def area(self): return helper(self)
def helper(shape): return shape
shapes = [Shape()]
"""


@pytest.fixture
def modules():
    module = ModuleType(ROOT)
    exec(SOURCE, vars(module))
    return {ROOT: module}


def test_functions_are_freed_at_once_and_shells_by_the_next_collection(modules):
    helper = weakref.ref(modules[ROOT].helper)
    shape = weakref.ref(modules[ROOT].Shape)
    gc.disable()
    try:
        outcome = reclaim(modules, root_name=ROOT)
        assert helper() is None
        assert not modules
    finally:
        gc.enable()
    gc.collect()
    assert shape() is None
    assert outcome.is_complete
    assert not outcome.leaks


def test_a_reference_from_outside_leaves_everything_whole_and_is_named(modules):
    holder = {"shape": modules[ROOT].shapes[0]}
    outcome = reclaim(modules, root_name=ROOT)
    assert holder["shape"].area() is holder["shape"]
    assert not outcome.is_complete
    assert any("'shape'" in str(leak) for leak in outcome.leaks)
    assert not any(ROOT in str(leak) for leak in outcome.leaks), "the private name is not shown"


def test_an_error_that_leads_to_the_modules_keeps_them_whole_and_is_no_leak(modules):
    def fail(helper):
        raise ValueError(helper.__name__)

    with pytest.raises(ValueError, match="helper") as raised:
        fail(modules[ROOT].helper)
    outcome = reclaim(modules, root_name=ROOT, error=raised.value)
    assert not outcome.leaks
    helper = raised.value.__traceback__.tb_next.tb_frame.f_locals["helper"]
    assert helper.__globals__["__name__"] == ROOT


def test_a_finalizer_runs_while_its_module_is_whole():
    ran = []
    module = ModuleType(ROOT)
    module.ran = ran
    exec(
        "class Resource:\n    def __del__(self): ran.append(word)\n"
        "word = 'whole'\nresource = Resource()",
        vars(module),
    )
    modules = {ROOT: module}
    del module
    reclaim(modules, root_name=ROOT)
    assert ran == ["whole"]


def test_what_another_thread_has_found_in_the_heap_is_no_leak(modules, monkeypatch):
    found, waits = threading.Event(), threading.Event()

    def search(target):
        search = ReferrerSearch()
        search.referrers([target])
        found.set()
        waits.wait(20)

    searching = threading.Thread(target=search, args=(modules[ROOT].helper,))
    searching.start()
    assert found.wait(20)
    monkeypatch.setattr(referrers, "sleep", lambda _: waits.set() or searching.join(20))
    outcome = reclaim(modules, root_name=ROOT)
    assert not outcome.leaks
    assert not modules
