"""The steps of a change: run forward, undone backward, and reported by their names."""

import pytest
from tests.conftest import tool

from epochal import LifecycleState, Runtime
from epochal._core.change.staging import Staging
from epochal.errors import ChangeCancelledError, InitError
from epochal.events import ChangeStarted
from epochal.report import StepName

REMOVED = LifecycleState.REMOVED
CODE = "@tool\ndef f(): return 1\n"
KEEPING = CODE + "def export_state(): return 1\ndef import_state(state, from_version): ...\n"


class Host:
    """Takes part in changes, and prepares every newcomer."""

    def __init__(self):
        self.ended = []

    def check(self, epoch, newcomers):
        return newcomers

    def prepare(self, generation):
        return None

    def finish(self, *, published):
        self.ended.append(published)
        return []


def names(lines):
    """The names of steps, by their lines."""
    longest_first = sorted(StepName, key=len, reverse=True)
    return [next(name for name in longest_first if line.startswith(name)) for line in lines]


def test_the_phases_of_a_report_are_the_names_of_its_steps(rt, plugins):
    host = Host()
    rt.join(host)
    rt.load(plugins.write("geo", KEEPING))
    cut = rt.reload("geo")
    ran = names(cut.steps)
    assert ran == [
        *("wait", "read", "plan"),
        *("link", "compare", "init", "match"),
        *("build", "check", "prepare", "close gates", "hand over", "publish"),
        *("drain", "shutdown", "reclaim"),
    ]
    assert set(cut.phases_ms) <= set(ran)
    # Nothing used the old generation, so there was no wait for its drain.
    assert set(ran) - set(cut.phases_ms) == {"drain"}
    assert host.ended == [True, True]


def test_a_dry_run_shows_the_steps_of_the_change_and_stops_before_the_commit(rt, plugins):
    rt.load(plugins.write("geo", KEEPING))
    with rt.change(dry_run=True) as change:
        change.reload("geo")
    dry, wet = change.cutover, rt.reload("geo")
    assert names(dry.steps) == names(wet.steps)
    assert "publish" not in dry.phases_ms
    assert "hand over" in dry.phases_ms


def test_a_change_with_less_to_do_has_fewer_steps(rt, plugins):
    cut = rt.load(plugins.write("geo", CODE))
    assert names(cut.steps) == ["wait", "read", "plan", "link", "init", "build", "publish"]
    cut = rt.remove("geo")
    assert names(cut.steps) == [
        *("wait", "read", "plan", "build", "publish"),
        *("drain", "shutdown", "reclaim"),
    ]


def test_a_store_adds_the_journals_step(plugins, tmp_path):
    with Runtime(store=tmp_path / "store") as rt:
        cut = rt.load(plugins.write("geo", CODE))
    assert names(cut.steps)[-2:] == ["journal", "publish"]
    assert cut.phases_ms["journal"] > 0


def test_a_step_that_fails_undoes_those_before_it_and_reports_to_the_hosts(rt, plugins):
    host, started = Host(), []
    rt.load(plugins.write("geo", CODE))
    rt.join(host)
    end = rt.events.subscribe(lambda e: isinstance(e, ChangeStarted) and started.append(e))
    host.prepare = lambda generation: 1 / 0
    before = rt.epoch
    with pytest.raises(Exception, match="ZeroDivisionError"):
        rt.reload("geo")
    assert host.ended == [False]
    with pytest.raises(InitError):
        rt.reload("geo", plugins.write("geo", CODE + "def init(ctx): 1 / 0\n"))
    assert host.ended == [False]  # the second change did not come that far
    assert rt.epoch is before
    assert rt.epoch[tool]["geo.f"]() == 1
    end()
    assert "check" in names(started[0].steps)


def test_a_change_that_is_given_up_before_its_commit_never_commits(rt, plugins):
    """Even if no plugin code comes any more that could be given up."""
    host = Host()
    rt.load(plugins.write("geo", CODE))
    rt.join(host)
    before, change = rt.epoch, rt.change().reload("geo")._prepare()
    host.check = lambda epoch, newcomers: change.executor.cancel() or ()
    with pytest.raises(ChangeCancelledError):
        change.wait()
    assert rt.epoch is before
    assert host.ended == [False]


# --- faults of our own ----------------------------------------------------------------------------


def test_an_error_that_cannot_be_trimmed_is_the_answer_all_the_same(rt, plugins, monkeypatch):
    def fail(error):
        raise TypeError("no line")

    monkeypatch.setattr("epochal._core.change.executor.without_machinery", fail)
    with pytest.raises(TypeError, match="no line"):
        rt.load(plugins.write("geo", CODE + "def init(ctx): 1 / 0\n"))
    monkeypatch.undo()
    assert rt.load(plugins.write("geo", CODE)).published


def test_a_step_that_cannot_be_undone_is_tried_again(rt, plugins, monkeypatch):
    undo, tried = Staging.withdraw, []

    def fail_at_first(self, plugin):
        tried.append(plugin)
        if len(tried) == 1:
            raise MemoryError
        return undo(self, plugin)

    monkeypatch.setattr(Staging, "withdraw", fail_at_first)
    rt.load(plugins.write("units", CODE))
    with pytest.raises(MemoryError):
        rt.load(plugins.write("geo", CODE + "def init(ctx): 1 / 0\n"))
    assert tried == ["geo", "geo"]
    assert {g.plugin for g in rt._epochs.generations.live()} <= {"units", "geo"}
    assert not rt.draining
    assert rt.load(plugins.write("geo", CODE)).published


def test_a_step_that_can_never_be_undone_keeps_no_other_from_it(rt, plugins, monkeypatch):
    undo = Staging.withdraw

    def fail(self, plugin):
        return undo(self, plugin) if plugin == "units" else 1 / 0

    monkeypatch.setattr(Staging, "withdraw", fail)
    with pytest.raises(ZeroDivisionError), rt.change() as change:
        change.load(plugins.write("units", CODE))
        change.load(plugins.write("geo", CODE + "def init(ctx): 1 / 0\n"))
    monkeypatch.undo()
    assert not rt.draining
    assert rt.load(plugins.write("units", CODE)).published
