"""Loads, reloads, removals, rollbacks and restarts in any order, against a plain model."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import tool
from tests.sizes import sized

from epochal import Runtime
from epochal.artifact import Artifact
from epochal.errors import EpochalError

PLUGINS = ("geo", "units")
SOURCE = """\
# /// plugin
# id = "{plugin}"
# version = "{value}.0"
# ///
from tests.conftest import tool
@tool
def value(): return {value}
"""

plugins = st.sampled_from(PLUGINS)
values = st.integers(1, 3)
steps = st.one_of(
    st.tuples(st.just("bring"), plugins, values, st.integers(0, 1)),
    st.tuples(st.just("remove"), plugins),
    st.tuples(st.just("to generation"), plugins, st.integers(0, 9)),
    st.tuples(st.just("to version"), plugins, values),
    st.tuples(st.just("to epoch"), st.integers(0, 12)),
    st.tuples(st.just("restart")),
)


def artifact(plugin, value):
    return Artifact(plugin, {f"{plugin}.py": SOURCE.format(plugin=plugin, value=value).encode()})


@dataclass
class Model:
    """The expected epochs: contents are plugin -> (value, config)."""

    epochs: list = field(default_factory=lambda: [{}])
    made: dict = field(default_factory=dict)  # (plugin, generation) -> contents of the plugin
    known: dict = field(default_factory=dict)  # after restarts: (plugin, generation) -> contents
    ids: dict = field(default_factory=dict)

    @property
    def current(self):
        return self.epochs[-1]

    def expect(self, step):
        """The next epoch's contents; None if the step is refused."""
        match step:
            case "bring", plugin, value, config:
                return self.current | {plugin: (value, {"n": config})}
            case "remove", plugin if plugin in self.current:
                return {p: c for p, c in self.current.items() if p != plugin}
            case "to generation", plugin, number:
                contents = self.known.get((plugin, number))
                return None if contents is None else self.current | {plugin: contents}
            case "to version", plugin, value:
                made = [c for (p, _), c in sorted(self.made.items()) if p == plugin]
                made = [c for c in made if c[0] == value]
                return self.current | {plugin: made[-1]} if made else None
            case "to epoch", number if 0 < number < len(self.epochs):
                return self.epochs[number]
        return None


def run(rt, step):
    match step:
        case "bring", plugin, value, config:
            source, options = artifact(plugin, value), {"config": {"n": config}}
            if plugin in rt.epoch.generations:
                rt.reload(plugin, source, **options)
            else:
                rt.load(source, **options)
        case "remove", plugin:
            rt.remove(plugin)
        case "to generation", plugin, number:
            rt.rollback(plugin, to=number)
        case "to version", plugin, value:
            rt.rollback(plugin, to=f"{value}.0")
        case "to epoch", number:
            rt.rollback(epoch=number)


def serves(rt):
    epoch = rt.epoch
    return {
        plugin: (epoch[tool][f"{plugin}.value"](), dict(generation.candidate.config))
        for plugin, generation in epoch.generations.items()
    }


def compare(rt, model):
    assert serves(rt) == model.current
    assert rt.epoch.number == len(model.epochs) - 1
    key = repr(sorted(model.current.items()))
    assert model.ids.setdefault(key, rt.epoch.id) == rt.epoch.id, "same contents, same id"
    records = rt.history()[::-1]
    assert [record.number for record in records] == list(range(1, len(model.epochs)))
    for record in records:
        contents = model.epochs[record.number]
        assert {v.plugin: v.version for v in record.plugins} == {
            plugin: f"{value}.0" for plugin, (value, _) in contents.items()
        }


def note(rt, model, *, restart=False):
    for plugin, generation in rt.epoch.generations.items():
        key = (plugin, generation.number)
        if key not in model.known:
            # A restart gives a number that replaces the one of the restart before.
            model.known[key] = model.current[plugin]
            if not restart:
                model.made[key] = model.current[plugin]


@settings(max_examples=sized(15, 60), deadline=None)
@given(sequence=st.lists(steps, min_size=3, max_size=14))
def test_any_sequence_of_changes_rollbacks_and_restarts_matches_the_model(
    sequence, tmp_path_factory
):
    folder, model = tmp_path_factory.mktemp("model") / "store", Model()
    rt = Runtime(store=folder)
    restored = {}
    try:
        for step in sequence:
            if step == ("restart",):
                rt.close()
                rt = Runtime(store=folder)
                for plugin, generation in rt.epoch.generations.items():
                    model.known.pop((plugin, restored.get(plugin)), None)
                    restored[plugin] = generation.number
                note(rt, model, restart=True)
            elif (expected := model.expect(step)) is None:
                epoch = rt.epoch
                with pytest.raises(EpochalError):
                    run(rt, step)
                assert rt.epoch is epoch
                del epoch  # or the next change waits for this very variable
            else:
                run(rt, step)
                model.epochs.append(expected)
                # A changed plugin has a new number; an unchanged one keeps its number.
                for plugin, generation in rt.epoch.generations.items():
                    if restored.get(plugin) not in (None, generation.number):
                        restored.pop(plugin)
                note(rt, model)
            compare(rt, model)
    finally:
        rt.close()
