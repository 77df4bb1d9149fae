"""The graph of a plugin's objects: closed exactly when nothing outside refers in."""

import gc
import sys
import types

import pytest

from epochal._core.introspect.object_graph import Graph

ROOT = "epochal.plugins.geo__g1"
CODE = """
import functools
class Point:
    def __init__(self): self.other = [self]
class Closing:
    def __del__(self): pass
def distance(): return Point
@functools.singledispatch
def show(value): pass
@show.register
def _(value: Point): pass
POINTS = [Point()]
def rows():
    yield
"""


@pytest.fixture
def modules():
    module = types.ModuleType(ROOT)
    exec(CODE, vars(module))
    return [module]


def test_a_plugin_that_nothing_refers_to_is_closed(modules):
    assert Graph(modules, ROOT, broad=True).is_closed()


def test_a_cycle_of_the_standard_librarys_objects_needs_a_broad_graph(modules):
    assert not Graph(modules, ROOT, broad=False).is_closed()
    del modules[0].show, vars(modules[0])["_"]
    gc.collect()
    assert Graph(modules, ROOT, broad=False).is_closed()


@pytest.mark.parametrize("name", ["Point", "distance", "POINTS"])
def test_a_reference_from_outside_opens_it_and_is_an_entrance(modules, name):
    references = [vars(modules[0])[name]]
    graph = Graph(modules, ROOT, broad=True)
    assert not graph.is_closed()
    nodes = [step.node for step in graph.entrances()]
    assert any(node is references[0] for node in nodes)


def test_a_library_that_the_plugin_imported_is_not_dead_with_it(modules):
    graph = Graph(modules, ROOT, broad=True)
    dead = [obj for obj, _ in graph.dead()]
    assert any(obj is modules[0].Point for obj in dead)
    assert not any(obj is sys.modules["functools"] for obj in dead)


def test_finalizers_and_suspended_generators_are_found(modules):
    modules[0].closing, modules[0].running = {"x": modules[0].Closing()}, modules[0].rows()
    next(modules[0].running)
    graph = Graph(modules, ROOT, broad=True)
    references, leading = graph.finalizable()
    kinds = {type(reference()).__name__ for reference in references}
    assert kinds == {"Closing", "generator"}
    assert id(modules[0].closing) in leading


@pytest.mark.parametrize("own", [True, False])
def test_an_error_that_the_caller_has_is_excused(modules, own):
    """Also one whose class is the plugin's: it is opened once, and counted once."""
    exec(
        "class Failure(ValueError):\n    pass\n" if own else "Failure = ValueError\n",
        vars(modules[0]),
    )
    error = None
    try:
        exec("def fail():\n    raise Failure('no')\nfail()", vars(modules[0]))
    except ValueError as raised:
        error = raised
    graph = Graph(modules, ROOT, broad=True, error=error)
    assert graph.is_closed()
    assert graph.is_excused()
