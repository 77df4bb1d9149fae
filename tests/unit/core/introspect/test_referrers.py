"""Paths to an object: through containers and attributes, up to a name."""

import gc
import sys
import threading

import pytest
from tests.sizes import sized

from epochal._core.introspect.object_names import describe_object, edge, root_name, type_name
from epochal._core.introspect.referrers import PathStep, ReferrerSearch

pytestmark = pytest.mark.usefixtures("whole_heap")


class Target:
    """The object that a path leads to."""


class Slotted:
    __slots__ = ("callback",)


class Hostile:
    def __getattribute__(self, name):
        raise ZeroDivisionError

    def __repr__(self):
        raise ZeroDivisionError

    def __eq__(self, other):
        raise ZeroDivisionError

    __hash__ = None


HOST: list = []


@pytest.fixture(autouse=True)
def empty():
    yield
    HOST.clear()


def slotted(target):
    holder = Slotted()
    holder.callback = target
    return holder


@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda target: target, ".HOST[0]"),
        (lambda target: {"x": (target,)}, ".HOST[0]['x'][0]"),
        (lambda target: {1: {target}}, ".HOST[0][1] (an element)"),
        (lambda target: {target: 1}, ".HOST[0] (a key)"),
        (slotted, ".HOST[0].callback"),
        (lambda target: lambda: target, ".HOST[0] (closure or defaults)[0]"),
    ],
)
def test_a_path_leads_from_a_module_to_the_object(wrap, path):
    targets = [Target()]
    HOST.append(wrap(targets[0]))
    search = ReferrerSearch({id(targets)})
    (described,) = search.paths([PathStep(targets[0])])
    assert described == f"{__name__}{path}"


def test_a_hostile_object_on_the_way_is_not_called():
    targets = [Target()]
    hostile = Hostile()
    object.__setattr__(hostile, "kept", targets[0])
    HOST.append(hostile)
    del hostile
    (described,) = ReferrerSearch({id(targets)}).paths([PathStep(targets[0])])
    assert described.startswith(f"{__name__}.HOST[0]")
    assert "kept" in described


def test_a_local_variable_of_a_running_call_is_named():
    inside, go_on, made = threading.Event(), threading.Event(), []

    def work():
        target = Target()
        made.append(id(target))
        inside.set()
        go_on.wait(30)

    thread = threading.Thread(target=work, name="worker")
    thread.start()
    assert inside.wait(10)
    named = [v.described for key, v in ReferrerSearch()._variables.items() if key == made[0]]
    go_on.set()
    thread.join(10)
    assert named[0].startswith("local variable 'target' at test_referrers.py:")
    assert named[0].endswith("(thread 'worker')")


def test_an_object_that_no_name_leads_to_is_held_by_native_code():
    targets = [Target()]
    assert ReferrerSearch({id(targets)}).paths([PathStep(targets[0])]) == ["native code"]


def test_a_search_does_not_find_itself():
    targets = [Target()]
    search = ReferrerSearch({id(targets)})
    for _ in range(3):
        assert search.referrers([targets[0]]) == []


def test_names_of_roots_and_types():
    thread = threading.Thread(name="worker")
    assert root_name(thread) == "thread 'worker'"
    assert root_name(sys) == "sys"
    assert root_name(vars(sys)) == "sys"
    assert root_name({"__name__": "sys"}) is None
    assert root_name(Target) == f"{__name__}.Target"
    assert type_name(int) == "int"
    assert describe_object(Target()) == f"a {__name__}.Target"
    assert describe_object([]) == "a list"


def test_an_edge_without_words_is_empty():
    assert edge([1], object()) == ""
    assert edge(Slotted(), object()) == ""


def test_a_deep_chain_is_followed_as_far_as_a_person_can_read(monkeypatch):
    monkeypatch.setattr("epochal._core.introspect.referrers._DEPTH", sized(10, 40))
    targets = [Target()]
    for depth, path in ((sized(5, 20), f"{__name__}.HOST[0]"), (sized(15, 60), "a list[0]")):
        HOST[:] = [targets[0]]
        for _ in range(depth):
            HOST[:] = [HOST.copy()]
        (described,) = ReferrerSearch({id(targets)}).paths([PathStep(targets[0])])
        assert described.startswith(path)
    assert described.endswith("[0], which an object that was not looked for any further holds")


def test_among_many_referrers_the_one_that_has_a_name_is_found(monkeypatch):
    targets = [Target()]
    targets.extend([targets[0]] for _ in range(sized(60, 200)))
    HOST.append(targets[0])
    search = ReferrerSearch({id(targets)})
    assert search.paths([PathStep(targets[0])]) == [f"{__name__}.HOST[0]"]


def test_a_walk_asks_about_few_objects_and_finds_the_referrers_of_all(monkeypatch):
    asked, walk = [], gc.get_referrers

    def counted(*of):
        asked.append(len(of))
        return [referrer for referrer in walk(*of) if referrer is not of]

    monkeypatch.setattr(gc, "get_referrers", counted)
    targets = [Target() for _ in range(100)]
    holders = [[target] for target in targets]
    edges = ReferrerSearch({id(targets)}).edges(targets)
    assert [edge.node for edge in edges] == holders
    assert [edge.target for edge in edges] == targets
    assert max(asked) <= 16


def test_a_search_ends_at_its_time_limit(monkeypatch):
    monkeypatch.setattr("epochal._core.introspect.referrers._LOOK_S", 0.0)
    targets = [Target() for _ in range(100)]
    HOST.extend([target] for target in targets)
    search = ReferrerSearch({id(targets)})
    assert len(search.edges(targets)) == 16, "one walk"
    assert search.paths([PathStep(targets[0])]) == ["an object that was not looked for any further"]


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ({"k" * 1_000: 1}, ".HOST[0]['" + "k" * 80 + "…']"),
        ({10**6_000: 1}, ".HOST[0][an int]"),
        (dict.fromkeys(range(200_000), 1), ".HOST[0][…]"),
    ],
)
def test_a_long_key_and_a_large_table_are_cut_short(table, path):
    targets = [Target()]
    HOST.append(dict.fromkeys(table, targets[0]))
    assert ReferrerSearch({id(targets)}).paths([PathStep(targets[0])]) == [f"{__name__}{path}"]
