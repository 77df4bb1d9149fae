"""Plugin code in a change: its time limit, its context, and calls that do not return."""

import contextvars
import threading

import pytest

from epochal._core.change.plan import Deadline, Step
from epochal._core.change.plugin_calls import Abandoned, StepRunner, is_changing
from epochal.errors import ChangeCancelledError, PhaseTimeoutError
from epochal.report import StepName

VARIABLE = contextvars.ContextVar("variable", default="unset")
LIMIT_S = 20


class Machine:
    def __init__(self):
        self.resumed = threading.Event()
        self.error = None

    def resume(self, error):
        self.error = error
        self.resumed.set()


@pytest.fixture
def runner():
    runner = StepRunner(7, contextvars.copy_context())
    runner.machine = Machine()
    return runner


def step(limit_s=None, **options):
    return Step(StepName.INIT, "geo", deadline=Deadline(limit_s, **options))


def test_plugin_code_runs_in_a_copy_of_the_context_and_is_marked_as_inside_a_change(runner):
    def work():
        VARIABLE.set("by the plugin")
        return is_changing(7), is_changing(8), threading.current_thread()

    assert runner.call_plugin(step(), "geo#1", work) == (
        True,
        False,
        threading.current_thread(),
    )
    assert VARIABLE.get() == "unset"
    assert not is_changing(7)


def test_a_task_of_plugin_code_is_inside_the_change_until_the_call_is_over(runner):
    contexts = []
    runner.call_plugin(step(), "geo#1", lambda: contexts.append(contextvars.copy_context()))
    assert not contexts[0].run(is_changing, 7)


def test_the_machine_resumes_on_another_thread_when_the_code_does_not_return(runner):
    machine, seen = runner.machine, []

    def work():
        assert machine.resumed.wait(LIMIT_S)
        seen.append(threading.current_thread())

    with pytest.raises(Abandoned):
        runner.call_plugin(step(0.01), "geo#1", work)
    assert seen == [threading.current_thread()]
    assert isinstance(machine.error, PhaseTimeoutError)
    assert (machine.error.phase, machine.error.plugin) == ("init", "geo#1")


def test_a_cancelled_change_gives_up_the_code_that_runs_and_starts_no_more(runner):
    machine, inside = runner.machine, threading.Event()

    def work():
        inside.set()
        assert machine.resumed.wait(LIMIT_S)

    def cancel():
        assert inside.wait(LIMIT_S)
        runner.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(Abandoned):
        runner.call_plugin(step(), "geo#1", work)
    canceller.join(LIMIT_S)
    assert isinstance(machine.error, ChangeCancelledError)
    with pytest.raises(ChangeCancelledError):
        runner.call_plugin(step(), "geo#1", pytest.fail)
    # Undoing is not cancellable.
    assert runner.call_plugin(step(is_cancellable=False), "geo#1", lambda: "undone") == "undone"


def test_times_add_up_by_name_also_of_a_step_that_raises_but_not_of_an_abandoned_one(runner):
    def fail(_):
        raise LookupError

    def leave(_):
        raise Abandoned

    assert runner.run(Step(StepName.LINK, do=lambda _: "linked")) == "linked"
    first = runner.ms["link"]
    with pytest.raises(LookupError):
        runner.run(Step(StepName.LINK, do=fail))
    with pytest.raises(Abandoned):
        runner.run(Step(StepName.INIT, do=leave))
    assert runner.ms["link"] > first > 0
    assert set(runner.ms) == {"link"}


def test_a_deadline_is_shared_once_it_was_started():
    deadline = Deadline(30.0)
    assert deadline.left_s == 30.0
    deadline.start()
    assert 0.0 < deadline.left_s < 30.0
    assert deadline.spent_s > 0.0
    spent = Deadline(0.0)
    spent.start()
    assert spent.left_s == 0.0
    assert Deadline(None).left_s is None
