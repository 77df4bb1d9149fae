"""A plan lists the generations to start and to retire, in order, or the refusal; it runs none."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from epochal._core.change.plan import PlannedChange, Verb, plan_change
from epochal._core.plugin.manifest import Manifest, Requirement
from epochal.errors import (
    AlreadyLoadedError,
    DependencyCycleError,
    HostError,
    MissingDependencyError,
    RequiredByError,
    UnknownPluginError,
    VersionConflictError,
)


def candidate(plugin, version="1.0", requires=()):
    requirements = []
    for text in requires:
        name, _, spec = text.partition(">=")
        requirements.append(Requirement(name, SpecifierSet(f">={spec}" if spec else "")))
    manifest = Manifest(
        id=plugin,
        version=Version(version),
        description="",
        requires=tuple(requirements),
        dependencies=(),
        capabilities=None,
    )
    return SimpleNamespace(plugin=plugin, manifest=manifest, artifact=SimpleNamespace(origin=None))


class FakeEpoch:
    """The attributes of an epoch that planning reads."""

    def __init__(self, *candidates, number=7, keeping=()):
        self.number = number
        self.generations = {
            c.plugin: SimpleNamespace(
                candidate=c,
                number=0,
                version=str(c.manifest.version),
                plugin=c.plugin,
                exports={("tool", f"{c.plugin}.f"): None},
                keeps_state=c.plugin in keeping,
            )
            for c in candidates
        }

    def requiring(self, plugin):
        return frozenset(
            name
            for name, g in self.generations.items()
            if any(r.plugin == plugin for r in g.candidate.manifest.requires)
        )


def load(c):
    return PlannedChange(Verb.LOAD, c.plugin, c)


def reload(c):
    return PlannedChange(Verb.RELOAD, c.plugin, c)


def remove(plugin, **kw):
    return PlannedChange(Verb.REMOVE, plugin, **kw)


CHAIN = FakeEpoch(
    candidate("a"), candidate("b", requires=["a"]), candidate("c", requires=["b"]), candidate("d")
)


def test_loads_come_up_in_dependency_order_in_any_order_of_requests():
    wishes = [
        load(candidate("c", requires=["b"])),
        load(candidate("b", requires=["a"])),
        load(candidate("a")),
    ]
    plan = plan_change(FakeEpoch(), wishes)
    assert [c.plugin for c in plan.stage] == ["a", "b", "c"]
    assert plan.retire == ()


def test_a_reload_takes_dependents_along_and_goes_down_in_reverse():
    plan = plan_change(CHAIN, [reload(candidate("a", "1.1"))])
    assert [c.plugin for c in plan.stage] == ["a", "b", "c"]
    assert plan.retire == ("c", "b", "a")
    assert "again, because it requires a" in str(plan)
    assert plan.stage[1] is CHAIN.generations["b"].candidate, "re-linked from the same bytes"


def test_nothing_else_is_touched():
    plan = plan_change(CHAIN, [reload(candidate("d", "2"))])
    assert [c.plugin for c in plan.stage] == ["d"]
    assert plan.retire == ("d",)


def test_steps_are_listed_in_order():
    plan = plan_change(CHAIN, [reload(candidate("c", "1.1", requires=["b"])), load(candidate("e"))])
    assert str(plan).splitlines() == [
        "1. link c 1.0 -> 1.1",
        "2. compare c with generation 0",
        "3. init c",
        "4. link e 1.0, new",
        "5. init e",
        "6. validate exports of all plugins together",
        "7. build epoch 8",
        "8. publish epoch 8",
        "9. drain c generation 0",
        "10. shutdown c generation 0",
        "11. reclaim c generation 0",
    ]


def test_removals_name_the_dependents_or_take_them_along():
    with pytest.raises(RequiredByError) as caught:
        plan_change(CHAIN, [remove("a")])
    assert caught.value.dependents == ("b",)
    plan = plan_change(CHAIN, [remove("a", cascade=True)])
    assert plan.retire == ("c", "b", "a")
    assert plan.stage == ()
    plan = plan_change(CHAIN, [remove("c"), remove("b"), remove("a")])
    assert plan.retire == ("c", "b", "a")


def test_a_cascade_spares_plugins_that_the_same_change_reloads():
    plan = plan_change(CHAIN, [remove("a", cascade=True), reload(candidate("b", "2"))])
    assert set(plan.retire) == {"a", "b", "c"}
    assert [c.plugin for c in plan.stage] == ["b", "c"]


def test_a_new_version_that_no_longer_satisfies_a_dependent_is_refused_by_name():
    epoch = FakeEpoch(candidate("a", "2.0"), candidate("b", requires=["a>=2"]))
    with pytest.raises(VersionConflictError, match=r"'b'.*a>=2.*1\.0"):
        plan_change(epoch, [reload(candidate("a", "1.0"))])
    plan = plan_change(
        epoch, [reload(candidate("a", "1.0")), reload(candidate("b", requires=["a>=1"]))]
    )
    assert [c.plugin for c in plan.stage] == ["a", "b"]


def test_missing_requirements_are_all_named():
    with pytest.raises(MissingDependencyError, match=r"requires x.*; .*requires y"):
        plan_change(FakeEpoch(), [load(candidate("m", requires=["x", "y"]))])


def test_a_circle_names_every_member_and_only_them():
    wishes = [
        load(candidate("a", requires=["b"])),
        load(candidate("b", requires=["c"])),
        load(candidate("c", requires=["b"])),
    ]
    with pytest.raises(DependencyCycleError) as caught:
        plan_change(FakeEpoch(), wishes)
    assert sorted(caught.value.members) == ["b", "c"]


def test_a_circle_closed_by_a_reload_is_found():
    with pytest.raises(DependencyCycleError) as caught:
        plan_change(CHAIN, [reload(candidate("a", requires=["c"]))])
    assert sorted(caught.value.members) == ["a", "b", "c"]


def test_requests_that_contradict_the_epoch_or_each_other_are_refused():
    with pytest.raises(AlreadyLoadedError):
        plan_change(CHAIN, [load(candidate("a"))])
    with pytest.raises(UnknownPluginError, match="active: a, b, c, d"):
        plan_change(CHAIN, [reload(candidate("x"))])
    with pytest.raises(HostError, match="'d' is named 2 times"):
        plan_change(CHAIN, [remove("d"), reload(candidate("d"))])


def test_a_chain_longer_than_the_recursion_limit_is_ordered():
    chain = [candidate("p0")]
    chain += [candidate(f"p{n}", requires=[f"p{n - 1}"]) for n in range(1, 3000)]
    plan = plan_change(FakeEpoch(), [load(c) for c in reversed(chain)])
    assert [c.plugin for c in plan.stage] == [c.plugin for c in chain]


@given(st.data())
def test_any_graph_without_a_circle_is_ordered_dependencies_first(data):
    count = data.draw(st.integers(1, 8))
    names = [f"p{n}" for n in range(count)]
    edges = {
        name: data.draw(st.lists(st.sampled_from(names[:n]), unique=True)) if n else []
        for n, name in enumerate(names)
    }
    wishes = [load(candidate(name, requires=edges[name])) for name in names]
    plan = plan_change(FakeEpoch(), data.draw(st.permutations(wishes)))
    order = [c.plugin for c in plan.stage]
    assert sorted(order) == names
    for name, required in edges.items():
        assert all(order.index(r) < order.index(name) for r in required)
    active = FakeEpoch(*plan.stage)
    goner = data.draw(st.sampled_from(names))
    down = plan_change(active, [remove(goner, cascade=True)]).retire
    for name in down:
        assert all(down.index(name) < down.index(r) for r in edges[name] if r in down)
    assert goner in down


def test_state_is_handed_over_after_every_init():
    epoch = FakeEpoch(candidate("a"), candidate("b", requires=["a"]), keeping=["a"])
    steps = [str(step) for step in plan_change(epoch, [reload(candidate("a", "2.0"))]).steps]
    at = steps.index("hand over a what generation 0 keeps")
    assert steps.index("init b") < at < steps.index("publish epoch 8")
