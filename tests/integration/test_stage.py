"""A stage: an epoch aside, whole and callable, which is not published."""

import asyncio
import gc
import threading
import weakref
from contextlib import suppress
from time import monotonic

import pytest
from tests.conftest import tool

from epochal import LifecycleState, Runtime
from epochal.artifact import read_artifact
from epochal.errors import (
    EpochMovedError,
    HostError,
    IncompatibleError,
    InitError,
    RuntimeClosedError,
    UnknownPluginError,
)
from epochal.events import ChangeCommitted, ChangeFinished
from epochal.kinds import service

V1 = "@tool\ndef f(): return 1\n"
V2 = "@tool\ndef f(): return 2\n"
NOTES = """
import builtins
@tool
def f(): return {n}
def init(ctx): builtins.stage_notes.append("init {n}")
def shutdown(): builtins.stage_notes.append("shutdown {n}")
"""
COUNTER = """
from epochal.kinds import service
@service
class counter:
    def __init__(self): self.n = 0
    def add(self): self.n += 1; return self.n
    def export_state(self): return self.n
    def import_state(self, state, version): self.n = state
"""


@pytest.fixture
def notes(monkeypatch):
    import builtins

    made = []
    monkeypatch.setattr(builtins, "stage_notes", made, raising=False)
    return made


def artifact(plugins, plugin, code, **options):
    return read_artifact(plugins.write(plugin, code, **options))


def test_a_stage_is_callable_and_not_published(rt, plugins):
    rt.load(artifact(plugins, "geo", V1))
    before, published = rt.epoch, []
    rt.events.subscribe(
        lambda event: (
            published.append(event)
            if isinstance(event, (ChangeCommitted, ChangeFinished))
            else None
        )
    )
    with rt.stage(artifact(plugins, "geo", V2)) as stage:
        assert stage.epoch[tool]["geo.f"]() == stage[tool]["geo.f"]() == 2
        assert rt.epoch is before
        assert before[tool]["geo.f"]() == 1
        assert stage.epoch.generation("geo").state is LifecycleState.INITIALIZED
        assert not stage.cutover.published
    assert rt.epoch is before
    assert not published
    assert before.generation("geo").state is LifecycleState.ACTIVE


def test_several_stages_of_one_plugin_are_held_at_once(rt, plugins):
    made = [
        rt.stage(artifact(plugins, "geo", f"@tool\ndef f(): return {n}\n")).hold() for n in range(4)
    ]
    assert [stage.epoch[tool]["geo.f"]() for stage in made] == [0, 1, 2, 3]
    assert len({stage.epoch.id for stage in made}) == 4
    made.pop(1).release()
    assert [stage.epoch[tool]["geo.f"]() for stage in made] == [0, 2, 3]
    for stage in made:
        assert stage.release()


def test_a_stage_is_linked_against_its_own_plugins(rt, plugins):
    units = artifact(plugins, "units", "@tool\ndef k(): return 10\n")
    user = "def init(ctx):\n    global units\n    units = ctx.require('units')\n"
    geo = artifact(
        plugins, "geo", user + "@tool\ndef f(): return units[tool]['k']()\n", requires=["units"]
    )
    rt.change().load(units).load(geo).run()
    other = artifact(plugins, "units", "@tool\ndef k(): return 20\n")
    with rt.stage(other, geo) as stage:
        assert stage.epoch[tool]["geo.f"]() == 20
        assert rt.epoch[tool]["geo.f"]() == 10


def test_shutdown_runs_once_after_the_last_use_of_a_stage(rt, plugins, notes):
    stage = rt.stage(artifact(plugins, "geo", NOTES.format(n=2))).hold()
    taken = stage.epoch[tool]["geo.f"]
    assert not stage.release(timeout=0.0)
    assert taken() == 2
    assert notes == ["init 2"]
    del taken
    assert stage.release(timeout=30.0)
    assert notes == ["init 2", "shutdown 2"]
    assert stage.release()
    assert notes == ["init 2", "shutdown 2"]


def test_the_memory_of_a_dropped_stage_comes_back(rt, plugins):
    with rt.stage(artifact(plugins, "geo", "class Here: pass\n" + V2)) as stage:
        module = weakref.ref(stage.epoch.generation("geo").module)
        generation = stage.epoch.generation("geo")
    gc.collect()
    assert generation.state is LifecycleState.REMOVED
    assert module() is None


def test_what_cannot_be_staged_leaves_nothing(rt, plugins, notes):
    rt.load(artifact(plugins, "geo", V1))
    before = rt.epoch
    good = artifact(plugins, "units", NOTES.format(n=1))
    bad = artifact(plugins, "bad", "def init(ctx): raise ValueError('no')\n", requires=["units"])
    stage = rt.stage(good, bad)
    with pytest.raises(InitError, match="no"):
        stage.hold()
    assert rt.epoch is before
    assert notes == ["init 1", "shutdown 1"]
    with pytest.raises(HostError, match="has no epoch"):
        _ = stage.epoch
    with pytest.raises(HostError, match="held before"):
        stage.hold()


def test_changes_go_on_while_a_stage_is_held(rt, plugins):
    rt.load(artifact(plugins, "geo", V1))
    with rt.stage(artifact(plugins, "geo", "@tool\ndef f(): return 7\n")) as stage:
        rt.reload("geo", artifact(plugins, "geo", V2))
        assert rt.epoch[tool]["geo.f"]() == 2
        assert stage.epoch[tool]["geo.f"]() == 7


def test_promote_makes_the_staged_set_the_current_one(rt, plugins):
    rt.change().load(artifact(plugins, "geo", V1)).load(artifact(plugins, "old", V1)).run()
    with rt.stage(artifact(plugins, "geo", V2), artifact(plugins, "new", V1)) as stage:
        staged = stage.epoch.id
        cutover = stage.promote(reason="release 7")
        assert cutover.published
        assert rt.epoch.id == staged
        assert sorted(rt.epoch.generations) == ["geo", "new"]
        assert rt.epoch[tool]["geo.f"]() == 2
        with pytest.raises(HostError):
            stage.promote()


def test_promote_hands_state_over(rt, plugins):
    counter = artifact(plugins, "web", COUNTER)
    rt.load(counter)
    assert rt.epoch[service]["web.counter"].add() == 1
    with rt.stage(artifact(plugins, "web", COUNTER + "\n# later\n")) as stage:
        assert stage.epoch[service]["web.counter"].add() == 1  # one of its own
        stage.promote()
    assert rt.epoch[service]["web.counter"].add() == 2


def test_a_promotion_that_is_refused_leaves_the_stage_held(rt, plugins):
    rt.load(artifact(plugins, "web", COUNTER))
    broken = COUNTER.replace("self.n = state", "raise ValueError('cannot')")
    with rt.stage(artifact(plugins, "web", broken)) as stage:
        before = rt.epoch
        with pytest.raises(IncompatibleError, match="cannot"):
            stage.promote()
        assert rt.epoch is before
        assert stage.epoch[service]["web.counter"].add() == 1
    assert rt.epoch[service]["web.counter"].add() == 1


def test_a_stage_is_compared_with_nothing_unless_asked(rt, plugins):
    code = "from tests.integration.strict_kind import strict\n@strict\ndef f({}): pass\n"
    rt.load(artifact(plugins, "geo", code.format("a")))
    other = artifact(plugins, "geo", code.format("a, b"))
    with rt.stage(other) as stage:
        assert "geo" in stage.epoch.generations
    with pytest.raises(IncompatibleError, match="became"), rt.stage(other, compare=True):
        pass


def test_a_compared_stage_has_the_other_active_plugins(rt, plugins):
    rt.change().load(artifact(plugins, "geo", V1)).load(artifact(plugins, "web", COUNTER)).run()
    rt.epoch[service]["web.counter"].add()
    with rt.stage(artifact(plugins, "geo", V2), compare=True) as stage:
        assert stage.epoch.generation("web") is rt.epoch.generation("web")
        assert stage.epoch[tool]["geo.f"]() == 2
    assert rt.epoch[service]["web.counter"].add() == 2


def test_a_compared_stage_moves_no_state(rt, plugins):
    rt.load(artifact(plugins, "web", COUNTER))
    rt.epoch[service]["web.counter"].add()
    later = artifact(plugins, "web", COUNTER + "\n# later\n")
    with rt.stage(later, compare=True) as stage:
        assert rt.epoch[service]["web.counter"].add() == 2  # no gate is closed
        assert stage.promote().drained
    assert rt.epoch[service]["web.counter"].add() == 3


def test_a_stage_holds_no_generation_that_it_was_compared_with(rt, plugins):
    rt.load(artifact(plugins, "geo", V1))
    with rt.stage(artifact(plugins, "geo", V2), compare=True) as stage:
        assert rt.reload("geo", artifact(plugins, "geo", V1)).drained
        assert stage.epoch[tool]["geo.f"]() == 2


def test_a_compared_stage_is_not_promoted_over_another_epoch(rt, plugins):
    rt.load(artifact(plugins, "geo", V1))
    with rt.stage(artifact(plugins, "geo", V2), compare=True) as stage:
        rt.load(artifact(plugins, "other", V1))
        with pytest.raises(EpochMovedError):
            stage.promote()
        assert rt.epoch[tool]["geo.f"]() == 1


def test_a_plugin_that_stops_first_is_staged_alone(rt, package):
    files = {"__init__.py": "from tests.conftest import tool\n@tool\ndef f(): return 1\n"}
    manifest = 'id = "one"\nversion = "1"\nhandover = "stop-first"\n'
    one = read_artifact(package("one", {**files, "plugin.toml": manifest}))
    rt.load(one)
    with rt.stage(one) as stage:
        assert stage.epoch[tool]["one.f"]() == 1
    with pytest.raises(IncompatibleError, match="stop-first"), rt.stage(one, compare=True):
        pass
    assert rt.epoch[tool]["one.f"]() == 1


def test_a_stage_that_its_maker_forgot_is_dropped_at_the_end(plugins, notes):
    with Runtime() as rt:
        rt.stage(artifact(plugins, "geo", NOTES.format(n=3))).hold()
        gc.collect()
        assert notes == ["init 3"]
    assert notes == ["init 3", "shutdown 3"]
    with pytest.raises(RuntimeClosedError):
        rt.stage(artifact(plugins, "geo", V1)).hold()


def test_a_stage_takes_configurations_by_plugin(rt, plugins):
    code = "@tool\ndef f(): return where\n"
    code += "def init(ctx):\n    global where\n    where = ctx.config['at']\n"
    source = artifact(plugins, "geo", code)
    with rt.stage(source, configs={"geo": {"at": "here"}}) as stage:
        assert stage.epoch[tool]["geo.f"]() == "here"
    with pytest.raises(UnknownPluginError, match="ge0"):
        rt.stage(source, configs={"ge0": {"at": "here"}})


def test_nothing_goes_into_the_hosts_tables_before_the_promotion(rt, plugins, monkeypatch):
    import builtins

    table = {}
    monkeypatch.setattr(builtins, "stage_table", table, raising=False)
    code = "import builtins\n@tool\ndef f(): return 1\n"
    code += "def init(ctx): ctx.register(builtins.stage_table, 'geo', f)\n"
    with rt.stage(artifact(plugins, "geo", code)) as stage:
        assert not table
        stage.promote()
        assert table["geo"]() == 1


def test_event_loops_stage_without_blocking(plugins):
    async def main():
        async with Runtime() as rt:
            async with rt.stage(artifact(plugins, "geo", V2)) as stage:
                assert stage.epoch[tool]["geo.f"]() == 2
                generation = stage.epoch.generation("geo")
            assert generation.state is LifecycleState.REMOVED

    asyncio.run(main())


@pytest.mark.parametrize("fails", [False, True])
def test_the_end_of_the_runtime_waits_for_a_promotion_and_drops_every_stage(
    plugins, notes, monkeypatch, fails
):
    rt, promoting, go_on = Runtime(), threading.Event(), threading.Event()
    stages = [rt.stage(artifact(plugins, "geo", NOTES.format(n=n))).hold() for n in (1, 2)]
    publish = rt._promote

    def publish_late(*args):
        promoting.set()
        assert go_on.wait(30)
        if fails:
            raise HostError("not now")
        return publish(*args)

    monkeypatch.setattr(stages[0], "_publish", publish_late)
    thread = threading.Thread(target=_promote, args=(stages[0],))
    thread.start()
    assert promoting.wait(30)
    with pytest.raises(HostError, match="is being promoted"):
        stages[0].release()
    threading.Timer(0.05, go_on.set).start()
    rt.close()
    thread.join(30)
    for note in ("1", "2"):
        assert notes.count(f"shutdown {note}") == notes.count(f"init {note}") > 0
    assert not rt._stages.held


def _promote(stage):
    with suppress(HostError, RuntimeClosedError):
        stage.promote()


def test_a_release_races_with_another_and_with_close(plugins, notes):
    with Runtime() as rt:
        stage = rt.stage(artifact(plugins, "geo", NOTES.format(n=1))).hold()
        threads = [threading.Thread(target=stage.release) for _ in range(4)]
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join(30)
    assert notes == ["init 1", "shutdown 1"]


def test_an_init_that_does_not_return_is_given_up(plugins):
    go = "import threading\ndef init(ctx): threading.Event().wait(60)\n"
    with Runtime(phase_timeout=0.05) as rt:
        began = monotonic()
        with pytest.raises(TimeoutError), rt.stage(artifact(plugins, "geo", go)):
            pass
        assert monotonic() - began < 50
        rt.load(artifact(plugins, "geo", V1))
        assert rt.epoch[tool]["geo.f"]() == 1
