"""A kind as a marker, and its default rules."""

import copy
import pickle

import pytest

from epochal import Export, Kind, kinds
from epochal._core.generation import kind as module
from epochal._core.generation.kind import Mark, marks_of, read_marks

tool = Kind("agent.tool")


class Optional(Kind):
    def options(self, *, cached=False):
        return {"cached": cached}


class Opening(Kind):
    def open(self, export):
        return export.target()


@pytest.mark.parametrize("name", ["Tool", "agent tool", "agent.", ".tool", "1st", "", "agent-tool"])
def test_a_kinds_name_is_dotted_lower_case(name):
    with pytest.raises(ValueError, match="is not valid"):
        Kind(name)


def test_a_marker_returns_the_object_itself_with_a_mark():
    def search(): ...

    assert tool(search) is search
    assert tool(name="other")(search) is search
    assert [mark.name for mark in marks_of(search)] == [None, "other"]


def test_a_mark_is_not_inherited():
    @tool
    class Base: ...

    class Derived(Base): ...

    tool(Derived)
    assert len(marks_of(Base)) == len(marks_of(Derived)) == 1


def test_an_object_without_attributes_cannot_be_marked():
    with pytest.raises(TypeError, match=r"export it with ctx\.export\(agent\.tool"):
        tool(len)


def test_options_are_checked_when_the_marker_is_used():
    with pytest.raises(TypeError, match=r"takes no options, but was given \['cached'\]"):
        tool(cached=True)
    [mark] = marks_of(Optional("agent.optional")(cached=True)(lambda: None))
    assert dict(mark.options) == {"cached": True}


def test_the_plain_kind_accepts_what_can_be_called():
    tool.validate(Export(tool, "geo.f", "geo", {}, len))
    with pytest.raises(TypeError, match="can be called"):
        tool.validate(Export(tool, "geo.f", "geo", {}, 7))


def test_a_kind_opens_its_exports_if_it_overrides_open():
    assert Opening("agent.opening").opens
    assert not tool.opens
    assert not tool.has_global_rule


def test_a_reader_adds_the_marks_of_another_library(monkeypatch):
    monkeypatch.setattr(module, "_readers", ())
    foreign = Mark(tool, "foreign", {})
    read_marks(lambda name, target: [foreign] if name == "hook_x" else [])
    assert marks_of(len, "hook_x") == (foreign,)
    assert marks_of(len, "other") == ()


def test_an_object_that_raises_on_a_look_has_no_marks():
    class Proxy:
        def __getattribute__(self, name):
            raise RuntimeError("there is no request")

    assert marks_of(Proxy()) == ()


def test_an_object_that_no_memory_is_left_to_look_at_is_not_skipped():
    class Proxy:
        @property
        def __dict__(self):
            raise MemoryError

    with pytest.raises(MemoryError):
        marks_of(Proxy())


@pytest.mark.parametrize("kind", [tool, kinds.scalar, kinds.service], ids=str)
def test_a_kind_is_pickled_and_copied_to_itself(kind):
    assert pickle.loads(pickle.dumps(kind)) is kind
    assert copy.deepcopy(kind) is copy.copy(kind) is kind


def test_a_kind_that_no_module_has_is_not_pickled():
    with pytest.raises(TypeError, match="top level of a module"):
        pickle.dumps(Kind("agent.made_here"))


def test_stateless_kinds_cross_to_other_processes_and_others_do_not():
    crossing = {
        kind.name for kind in vars(kinds).values() if isinstance(kind, Kind) and kind.crosses
    }
    assert {"scalar", "aggregate", "window", "table_function", "data_type", "storage"} <= crossing
    assert "mergeable_state" in crossing
    assert not {"service", "stream", "job", "index"} & crossing
    assert tool.crosses
    assert not Opening("agent.opening").crosses
