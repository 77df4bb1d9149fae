"""Services: a reload hands their state over, and no call is lost or made twice."""

import asyncio
import random
import signal
import sys
import threading
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from tests.conftest import PluginFolder

from epochal import LifecycleState, Runtime
from epochal._core.use.gate import GateClosure
from epochal.errors import (
    ExportError,
    HandOverError,
    IncompatibleError,
    InitError,
    PauseTimeoutError,
    PhaseTimeoutError,
)
from epochal.kinds import service
from epochal.kinds.toolkit.gated_state import GatedTransfer

LIMITER = """
import threading
from epochal.kinds import service
CLOSED = []

@service
class limiter:
    def __init__(self):
        self.count = 0
        self.lock = threading.Lock()
    def hit(self):
        with self.lock:
            self.count += 1
            return self.count
    async def ahit(self):
        return self.hit()
    def version(self):
        return "{version}"
    def export_state(self):
        {export}
        return self.count
    def import_state(self, state, from_version):
        {take}
        self.count = state
    {more}
"""
GATE = threading.Event()
ENTERED = threading.Event()
NOTES = []


def write(plugins, version="1.0", export="pass", take="pass", more=""):
    code = LIMITER.format(version=version, export=export, take=take, more=more)
    return plugins.write("quota", code, version=version)


def limiter(rt):
    return rt.epoch[service]["quota.limiter"]


@pytest.fixture(autouse=True)
def _fresh():
    GATE.clear()
    ENTERED.clear()
    NOTES.clear()
    yield
    GATE.set()


def test_a_services_state_moves_to_the_next_generation(rt, plugins):
    rt.load(write(plugins))
    assert [limiter(rt).hit() for _ in range(3)] == [1, 2, 3]
    cut = rt.reload("quota", write(plugins, "2.0"))
    assert limiter(rt).version() == "2.0"
    assert limiter(rt).hit() == 4
    assert cut.drained
    assert cut.reclaimed, cut.leaks
    assert cut.swaps[0].pause_ms is not None
    assert any("hand over quota" in step for step in cut.steps)


def test_a_call_through_an_older_epoch_goes_where_the_state_is(rt, plugins):
    rt.load(write(plugins))
    with rt.operation("long") as op:
        rt.reload("quota", write(plugins, "2.0"), drain_timeout=0.0)
        rt.reload("quota", write(plugins, "3.0"), drain_timeout=0.0)
        assert op[service]["quota.limiter"].hit() == 1
        assert limiter(rt).hit() == 2
        assert op[service]["quota.limiter"].version() == "3.0"


def test_neither_neighbour_keeps_a_generation_between_them(rt, plugins):
    rt.load(write(plugins))
    with rt.operation("long") as op:
        op[service]["quota.limiter"].hit()
        rt.reload("quota", write(plugins, "2.0"), drain_timeout=0.0)
        op[service]["quota.limiter"].hit()
        second = rt.generation("quota")
        assert rt.reload("quota", write(plugins, "3.0")).drained
        assert second.state is LifecycleState.REMOVED


def test_an_operation_that_outlasts_the_plugin_uses_its_own_instance(rt, plugins):
    rt.load(write(plugins))
    with rt.operation("long") as op:
        rt.reload("quota", write(plugins, "2.0"), drain_timeout=0.0)
        rt.remove("quota", drain_timeout=0.0)
        assert op[service]["quota.limiter"].version() == "1.0"


def test_a_stored_method_keeps_its_generation_and_reaches_the_state(rt, plugins):
    rt.load(write(plugins))
    hit = limiter(rt).hit
    old = rt.generation("quota")
    assert not rt.reload("quota", write(plugins, "2.0"), drain_timeout=0.0).drained
    assert hit() == 1
    assert limiter(rt).hit() == 2
    assert old.state is LifecycleState.DRAINING
    del hit


@pytest.fixture
def short_switch_interval():
    """Let busy threads release the interpreter ten times as often, so that changes get it."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 10)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("short_switch_interval")
def test_no_count_is_lost_under_a_hundred_reloads(plugins):
    """In threads and tasks at once: the answers are all different, without a gap."""
    with Runtime() as rt, ThreadPoolExecutor(5) as pool:
        rt.load(write(plugins))
        stop = threading.Event()

        def work():
            answers = []
            stored = limiter(rt)
            while not stop.wait(0.0001):
                answers.append(limiter(rt).hit())
                answers.append(stored.hit())
                if len(answers) % 6 == 0:
                    stored = limiter(rt)
            return answers

        async def task():
            answers = []
            while not stop.is_set():
                answers.append(await limiter(rt).ahit())
                await asyncio.sleep(0.001)
            return answers

        async def tasks():
            done = await asyncio.gather(*[task() for _ in range(10)])
            return [answer for answers in done for answer in answers]

        workers = [pool.submit(work) for _ in range(3)]
        workers.append(pool.submit(lambda: asyncio.run(tasks())))
        try:
            for number in range(100):
                rt.reload("quota", write(plugins, f"{number}.0"), drain_timeout=0.05)
        finally:
            stop.set()
        answers = sorted(answer for worker in workers for answer in worker.result(30))
        assert answers == list(range(1, len(answers) + 1))
        assert limiter(rt).hit() == len(answers) + 1


# --- the pause -----------------------------------------------------------------------------------

BLOCK = "import tests.integration.test_service as t; t.ENTERED.set(); t.GATE.wait(20)"


def in_background(work):
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    return future


def test_calls_wait_while_the_state_moves_and_other_services_do_not(rt, plugins, tmp_path):
    rt.load(write(plugins))
    other = tmp_path / "others"
    other.mkdir()
    code = "from epochal.kinds import service\n@service\nclass s:\n    def f(self): return 1\n"
    rt.load(PluginFolder(other).write("other", code))
    reload = in_background(lambda: rt.reload("quota", write(plugins, "2.0", take=BLOCK)))
    assert ENTERED.wait(10)
    waiting = in_background(limiter(rt).hit)
    assert rt.epoch[service]["other.s"].f() == 1
    assert not waiting.done()
    GATE.set()
    assert waiting.result(10) == 1
    assert reload.result(10).published


def test_tasks_wait_without_blocking_their_loop(rt, plugins):
    rt.load(write(plugins))

    async def main():
        reload = asyncio.create_task(rt.areload("quota", write(plugins, "2.0", take=BLOCK)))
        assert await asyncio.to_thread(ENTERED.wait, 10)
        waiting = [asyncio.create_task(limiter(rt).ahit()) for _ in range(5)]
        cancelled = asyncio.create_task(limiter(rt).ahit())
        await asyncio.sleep(0)
        cancelled.cancel()
        del cancelled  # a reference to the task would keep the task's frames
        for _ in range(10):
            await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        GATE.set()
        assert sorted(await asyncio.gather(*waiting)) == [1, 2, 3, 4, 5]
        assert (await reload).published

    asyncio.run(main())


def test_a_call_that_is_inside_ends_before_the_state_is_exported(rt, plugins):
    slow = f"def slow(self):\n        {BLOCK}\n        return self.hit()"
    rt.load(write(plugins, more=slow))
    inside = in_background(limiter(rt).slow)
    assert ENTERED.wait(10)
    reload = in_background(lambda: rt.reload("quota", write(plugins, "2.0", more=slow)))
    assert futures.wait([reload], 0.2).not_done
    GATE.set()
    assert inside.result(10) == 1
    reload.result(10)
    assert limiter(rt).hit() == 2


def test_a_call_from_inside_a_call_does_not_wait_for_itself(rt, plugins):
    again = f"def again(self, other):\n        {BLOCK}\n        return other.hit()"
    rt.load(write(plugins, more=again))
    inside = in_background(lambda: limiter(rt).again(limiter(rt)))
    assert ENTERED.wait(10)
    gate = limiter(rt)._ref.state.gate
    reload = in_background(lambda: rt.reload("quota", write(plugins, "2.0", more=again)))
    while gate._closing is None:  # ends with the test's time limit
        pass
    GATE.set()
    assert inside.result(10) == 1
    assert reload.result(10).published
    assert limiter(rt).hit() == 2


def test_a_hand_over_past_its_time_limit_is_rolled_back(rt, plugins):
    rt.load(write(plugins))
    limiter(rt).hit()
    epoch = rt.epoch
    late = pytest.raises(PhaseTimeoutError, match="hand over")
    with late, rt.change(pause_timeout=0.05) as change:
        change.reload("quota", write(plugins, "2.0", take=BLOCK))
    assert rt.epoch is epoch
    assert limiter(rt).version() == "1.0"
    assert limiter(rt).hit() == 2
    GATE.set()
    del epoch
    assert rt.reload("quota", write(plugins, "3.0")).drained
    assert limiter(rt).hit() == 3


def test_a_call_that_never_ends_keeps_the_state_where_it_is(rt, plugins):
    stay = f"def stay(self):\n        {BLOCK}"
    rt.load(write(plugins, more=stay))
    inside = in_background(limiter(rt).stay)
    assert ENTERED.wait(10)
    late = pytest.raises(PauseTimeoutError, match=r"for calls: thread .* at quota.py:\d+ in .*stay")
    with late, rt.change(pause_timeout=0.05) as change:
        change.reload("quota", write(plugins, "2.0", more=stay))
    assert limiter(rt).hit() == 1
    GATE.set()
    inside.result(10)
    rt.reload("quota", write(plugins, "2.0", more=stay))
    assert limiter(rt).hit() == 2


def test_a_change_cancelled_while_it_waits_for_calls_opens_the_gate(rt, plugins):
    stay = f"def stay(self):\n        {BLOCK}"
    rt.load(write(plugins, more=stay))
    inside = in_background(limiter(rt).stay)
    assert ENTERED.wait(10)

    async def main():
        reload = asyncio.create_task(rt.areload("quota", write(plugins, "2.0", more=stay)))
        while gate_of(limiter(rt))._closing is None:
            await asyncio.sleep(0.001)
        reload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reload

    asyncio.run(main())
    assert limiter(rt).hit() == 1
    GATE.set()
    inside.result(10)


@pytest.mark.parametrize("where", [(GateClosure, "close"), (GatedTransfer, "run")])
def test_a_hand_over_given_up_at_any_point_leaves_no_gate_closed(rt, plugins, monkeypatch, where):
    rt.load(write(plugins))
    usual = getattr(*where)

    def late(*args):
        GATE.wait(0.3)
        try:
            return usual(*args)
        finally:
            NOTES.append("done")

    monkeypatch.setattr(*where, late)
    with pytest.raises(PhaseTimeoutError), rt.change(pause_timeout=0.1) as change:
        change.reload("quota")
    while not NOTES:  # the late step has ended
        pass
    monkeypatch.undo()
    assert limiter(rt).hit() == 1
    assert rt.reload("quota").drained
    assert limiter(rt).hit() == 2


def test_calls_interrupted_anywhere_block_no_change(rt, plugins):
    """A signal interrupts them between any two instructions."""
    rt.load(write(plugins))

    class Interrupted(Exception):  # noqa: N818
        pass

    def interrupt(*_):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    count = limiter(rt)
    try:
        for _ in range(200):
            with suppress(Interrupted):
                signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0002, 0.001))
                while True:
                    count.version()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    del count
    assert rt.reload("quota", write(plugins, "2.0")).drained


def test_plain_calls_block_no_loop_with_an_admitted_call(rt, plugins):
    slow = "async def slow(self):\n        import asyncio; await asyncio.sleep(0.01); self.hit()"
    rt.load(write(plugins, more=slow))

    async def main():
        stop = asyncio.Event()
        calls = [0, 0]

        async def suspended():
            while not stop.is_set():
                await limiter(rt).slow()
                calls[0] += 1

        async def plain():
            while not stop.is_set():
                limiter(rt).hit()
                calls[1] += 1
                await asyncio.sleep(0.001)

        tasks = [asyncio.create_task(loop()) for loop in (suspended, plain, suspended)]
        for version in ("2.0", "3.0", "4.0"):
            await rt.areload("quota", write(plugins, version, more=slow))
        stop.set()
        await asyncio.gather(*tasks)
        assert limiter(rt).hit() == sum(calls) + 1

    asyncio.run(main())


def test_a_coroutine_from_a_plain_method_is_inside_the_gate(rt, plugins):
    later = """async def _later(self):
        import asyncio
        count = self.count
        import tests.integration.test_service as t; t.ENTERED.set()
        while not t.GATE.is_set(): await asyncio.sleep(0.001)
        self.count = count + 1
    def later(self):
        return self._later()"""
    rt.load(write(plugins, more=later))

    async def call():
        await limiter(rt).later()

    inside = in_background(lambda: asyncio.run(call()))
    assert ENTERED.wait(10)
    reload = in_background(lambda: rt.reload("quota", write(plugins, "2.0", more=later)))
    while gate_of(limiter(rt))._closing is None:
        pass
    GATE.set()
    inside.result(10)
    reload.result(10)
    assert limiter(rt).hit() == 2


def test_a_generator_from_a_plain_method_is_refused(rt, plugins):
    each = "each = lambda self: (n for n in range(3))"
    rt.load(write(plugins, more=each))
    with pytest.raises(TypeError, match="return a list"):
        limiter(rt).each()
    assert rt.reload("quota", write(plugins, "2.0", more=each)).drained


# --- failures at every step ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", ["RuntimeError", "SystemExit", "KeyboardInterrupt", "MemoryError"]
)
@pytest.mark.parametrize("where", ["export", "take"])
def test_an_error_in_a_hand_over_rolls_the_change_back(rt, plugins, where, error):
    rt.load(write(plugins, export="raise " + error if where == "export" else "pass"))
    limiter(rt).hit()
    epoch = rt.epoch
    with pytest.raises(HandOverError, match=error):
        rt.reload("quota", write(plugins, "2.0", take="raise " + error))
    assert rt.epoch is epoch
    assert limiter(rt).hit() == 2


def test_a_version_that_refuses_the_state_is_refused(rt, plugins):
    rt.load(write(plugins, "1.0"))
    limiter(rt).hit()
    take = "if from_version < '2': raise ValueError('versions before 2 cannot be taken over')"
    with pytest.raises(IncompatibleError, match="before 2"):
        rt.reload("quota", write(plugins, "3.0", take=take))
    rt.reload("quota", write(plugins, "2.0"))
    rt.reload("quota", write(plugins, "3.0", take=take))
    assert limiter(rt).hit() == 2


def test_versions_may_be_skipped_where_they_are_accepted(rt, plugins):
    take = "import tests.integration.test_service as t; t.NOTES.append(from_version)"
    rt.load(write(plugins, "1.0"))
    rt.reload("quota", write(plugins, "3.0", take=take))
    assert NOTES == ["1.0"]


def test_if_the_second_of_two_plugins_refuses_the_first_is_rolled_back(rt, plugins, tmp_path):
    folder = tmp_path / "b"
    folder.mkdir()
    second = PluginFolder(folder)
    rt.load(write(plugins))
    body = LIMITER.format(version="1", export="pass", take="pass", more="")
    rt.load(second.write("quotb", body))
    limiter(rt).hit()
    broken = LIMITER.format(version="2", export="pass", take="1 / 0", more="")
    with pytest.raises(HandOverError, match="quotb"), rt.change() as change:
        change.reload("quota", write(plugins, "2.0"))
        change.reload("quotb", second.write("quotb", broken))
    assert limiter(rt).version() == "1.0"
    assert limiter(rt).hit() == 2
    assert rt.epoch[service]["quotb.limiter"].hit() == 1


def test_a_dry_run_hands_over_and_rolls_back(rt, plugins):
    rt.load(write(plugins))
    limiter(rt).hit()
    take = "import tests.integration.test_service as t; t.NOTES.append(state)"
    with rt.change(dry_run=True) as change:
        change.reload("quota", write(plugins, "2.0", take=take))
    assert NOTES == [1]
    assert limiter(rt).version() == "1.0"
    assert limiter(rt).hit() == 2


def test_a_service_that_cannot_be_made_fails_the_change(rt, plugins):
    code = "from epochal.kinds import service\n@service\nclass s:\n    def __init__(self): 1 / 0\n"
    with pytest.raises(InitError, match="ZeroDivisionError"):
        rt.load(plugins.write("quota", code))


def test_a_service_is_closed_before_its_plugin_is_shut_down(rt, plugins):
    close = 'def close(self): import tests.integration.test_service as t; t.NOTES.append("closed")'
    path = write(plugins, more=close)
    down = "import tests.integration.test_service as t\n    t.NOTES.append('down')"
    path.write_text(f"{path.read_text()}\ndef shutdown():\n    {down}\n")
    rt.load(path)
    rt.remove("quota")
    assert NOTES == ["closed", "down"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def hit(self): return 1", "def hot(self): return 1", "gone: hit"),
        ("def hit(self): return 1", "async def hit(self): return 1", "became async def"),
        ("def hit(self): return 1", "def hit(self, key): return 1", "missing a required .*'key'"),
        (
            "def hit(self, key): return 1",
            "def hit(self, name): return 1",
            r"hit\(self, key\) became",
        ),
        ("def hit(self, a, b=1): return 1", "def hit(self, a): return 1", "too many positional"),
        (
            "def hit(self, *, a): return 1",
            "def hit(self, *, b=1): return 1",
            "keyword argument 'a'",
        ),
        ("def hit(self, a=1): return 1", "def hit(self, a): return 1", "missing a required .*'a'"),
        (
            "def export_state(self): return 1\n    def import_state(self, s, v): pass",
            "def hit(self): return 1",
            "would be lost",
        ),
    ],
)
def test_a_version_that_breaks_callers_is_refused(rt, plugins, old, new, message):
    code = "from epochal.kinds import service\n@service\nclass s:\n    {}\n"
    rt.load(plugins.write("quota", code.format(old)))
    with pytest.raises(IncompatibleError, match=message):
        rt.reload("quota", plugins.write("quota", code.format(new)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def hit(self): pass", "def hit(self, key=None, *, by=1): pass"),
        ("def hit(self, a, /, b, *, c): pass", "def hit(self, *args, **kw): pass"),
    ],
)
def test_a_version_that_callers_can_use_is_accepted(rt, plugins, old, new):
    code = "from epochal.kinds import service\n@service\nclass s:\n    {}\n"
    rt.load(plugins.write("quota", code.format(old)))
    assert rt.reload("quota", plugins.write("quota", code.format(new))).published


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("@service\ndef f(): pass", "expected a class"),
        ("@service\nclass s:\n    def __init__(self, x): pass", "without arguments"),
        ("@service\nclass s:\n    def export_state(self): pass", "alone"),
        (
            "@service\nclass s:\n    def export_state(self): pass\n"
            "    async def import_state(self, state, from_version): pass",
            r"import_state\(state, from_version\) must be a plain method",
        ),
        (
            "@service\nclass s:\n    def export_state(self): pass\n"
            "    def import_state(self, state): pass",
            r"import_state\(state, from_version\): too many",
        ),
        ("@service\nclass s:\n    def each(self): yield 1", "generator"),
    ],
)
def test_an_invalid_service_class_is_refused(rt, plugins, body, message):
    with pytest.raises(ExportError, match=message):
        rt.load(plugins.write("quota", f"from epochal.kinds import service\n{body}\n"))


def test_only_methods_are_offered(rt, plugins):
    rt.load(write(plugins))
    with pytest.raises(AttributeError, match="it has: ahit, hit, version"):
        _ = limiter(rt).count
    with pytest.raises(AttributeError):
        limiter(rt).export_state()


def test_a_plugin_calls_a_service_that_it_requires(rt, plugins):
    rt.load(write(plugins))
    code = """
def init(ctx):
    global LIMITER
    LIMITER = ctx.require("quota").limiter
@tool
def hit(): return LIMITER.hit()
"""
    from tests.conftest import tool

    rt.load(plugins.write("web", code, requires=["quota"]))
    with rt.operation("old") as op:
        assert op[tool]["web.hit"]() == 1
        cut = rt.reload("quota", write(plugins, "2.0"), drain_timeout=0.0)
        assert set(cut.plugins) == {"quota", "web"}
        assert op[tool]["web.hit"]() == 2
        assert rt.epoch[tool]["web.hit"]() == 3


# --- services that call services -----------------------------------------------------------------

BOOKS = """
from epochal.kinds import service

def init(ctx):
    global LIMITER
    LIMITER = ctx.require("quota").limiter

@service
class books:
    noted = 0
    def note(self):
        {inside}
        self.noted += 1
        return LIMITER.hit()
    def export_state(self):
        return self.noted, LIMITER.hit()
    def import_state(self, state, from_version):
        self.noted, self.seen = state[0], (state[1], LIMITER.hit(), LIMITER.version())
    def all(self):
        return self.noted, self.seen
"""


def write_books(plugins, inside="pass", version="1.0"):
    return plugins.write("books", BOOKS.format(inside=inside), version=version, requires=["quota"])


def books(rt):
    return rt.epoch[service]["books.books"]


def gate_of(handle):
    return handle._ref.state.gate


def test_a_call_about_to_enter_a_service_blocks_no_change_of_it(rt, plugins):
    rt.load(write(plugins))
    rt.load(write_books(plugins, inside=BLOCK))
    inside = in_background(lambda: books(rt).note())
    assert ENTERED.wait(10)
    gates = gate_of(limiter(rt)), gate_of(books(rt))
    reload = in_background(lambda: rt.reload("quota", write(plugins, "2.0")))
    while all(gate._closing is None for gate in gates):  # ends with the test's time limit
        pass
    GATE.set()
    assert inside.result(10) == 1
    assert reload.result(10).plugins == ("quota", "books")
    assert books(rt).note() == 3  # the new one got 2 as it took over


def test_import_state_reaches_the_new_state_of_a_required_service(rt, plugins):
    rt.load(write(plugins))
    rt.load(write_books(plugins))
    assert [books(rt).note() for _ in range(3)] == [1, 2, 3]
    cut = rt.reload("quota", write(plugins, "2.0"))
    # The old books called the old limiter, after its 3 was exported; the new called the new.
    assert books(rt).all() == (3, (4, 4, "2.0"))
    assert cut.drained
    assert cut.reclaimed, cut.leaks


def test_a_refusal_rolls_back_every_service_of_the_change(rt, plugins):
    rt.load(write(plugins))
    rt.load(write_books(plugins))
    refusing = "def import_state(self, state, from_version): raise ValueError('not mine')"
    code = BOOKS.format(inside="pass") + f"    {refusing}\n"
    with pytest.raises(IncompatibleError, match="not mine"), rt.change() as change:
        change.reload("quota", write(plugins, "2.0"))
        change.reload("books", plugins.write("books", code, version="2.0", requires=["quota"]))
    assert books(rt).note() == 2  # after the call that the old one's export_state made
    assert limiter(rt).version() == "1.0"


def test_services_that_call_each_other_move_in_one_change(rt, plugins):
    each = f"def each(self, other):\n        {BLOCK}\n        return other()"
    rt.load(write(plugins, more=each))
    code = LIMITER.format(version="1.0", export="pass", take="pass", more=each)
    rt.load(plugins.write("other", code))
    limits, other = limiter(rt), rt.epoch[service]["other.limiter"]
    gates = gate_of(limits), gate_of(other)
    crossing = [
        in_background(lambda: limits.each(other.hit)),
        in_background(lambda: other.each(limits.hit)),
    ]
    while not all(gate.inside() for gate in gates):  # ends with the test's time limit
        pass

    def reload():
        with rt.change(drain_timeout=0.0) as change:
            change.reload("quota")
            change.reload("other")

    moving = in_background(reload)
    while any(gate._closing is None for gate in gates):
        pass
    GATE.set()
    moving.result(10)
    assert [call.result(10) for call in crossing] == [1, 1]
    assert [limits.hit(), other.hit()] == [2, 2]


def test_calls_from_init_of_a_required_service_move_along(rt, plugins):
    """Such calls go to the older version, which still has the state."""
    code = 'def init(ctx): ctx.require("quota").limiter.hit()\n'
    rt.load(write(plugins))
    rt.load(plugins.write("web", code, requires=["quota"]))
    for version in ("2.0", "3.0"):
        rt.reload("quota", write(plugins, version))
    assert limiter(rt).hit() == 4


def test_one_pause_limit_covers_all_moves_of_a_change(rt, plugins):
    slow = "import time; time.sleep(0.2)"
    rt.load(write(plugins, take=slow))
    rt.load(
        plugins.write("other", LIMITER.format(version="1.0", export="pass", take=slow, more=""))
    )
    late = pytest.raises(PhaseTimeoutError, match=r"0\.3 s")
    with late, rt.change(pause_timeout=0.3) as change:
        change.reload("quota")
        change.reload("other")
    rt.reload("quota")
    assert limiter(rt).hit() == 1


# --- a plugin's own state ------------------------------------------------------------------------

OWN = """
SEEN = []
@tool
def see(x): SEEN.append(x); return len(SEEN)
def export_state(): return SEEN
def import_state(state, from_version): {take}
"""

LIMITER_AND_OWN = OWN.format(take="pass") + LIMITER.format(
    version="1.0", export="pass", take="pass", more=""
)


def test_a_plugin_hands_over_its_own_state(rt, plugins):
    from tests.conftest import tool

    rt.load(plugins.write("geo", OWN.format(take="pass")))
    rt.epoch[tool]["geo.see"](1)
    rt.reload("geo", plugins.write("geo", OWN.format(take="SEEN.extend(state)")))
    assert rt.epoch[tool]["geo.see"](2) == 2
    with pytest.raises(IncompatibleError, match="the state of plugin 'geo'"):
        rt.reload("geo", plugins.write("geo", OWN.format(take="raise ValueError('no')")))
    assert rt.epoch[tool]["geo.see"](3) == 3


def test_state_without_a_place_in_the_new_version_is_reported(rt, plugins):
    from tests.conftest import tool

    from epochal.events import StateDropped

    events = []
    rt.events.subscribe(events.append)
    rt.load(plugins.write("geo", LIMITER_AND_OWN))
    cut = rt.reload("geo")
    assert cut.dropped == ()
    plain = "from tests.conftest import tool\n@tool\ndef see(x): return x\n"
    cut = rt.reload("geo", plugins.write("geo", plain))
    assert cut.dropped == (
        "service geo.limiter: its state",
        "what export_state() returns: there is no import_state() to take it",
    )
    assert cut.as_dict()["swaps"][0]["dropped"] == cut.dropped
    assert rt.epoch[tool]["geo.see"](2) == 2
    new = cut.swaps[0].new.generation
    cut = rt.reload("geo", plugins.write("geo", plain))
    assert cut.dropped == ()
    rt.close()
    assert [event.generation for event in events if isinstance(event, StateDropped)] == [new]


def test_dropped_state_of_a_plugin_without_exports_is_reported(rt, plugins):
    rt.load(plugins.write("geo", "def export_state(): return 1\n"))
    assert rt.reload("geo", plugins.write("geo", "")).dropped


def test_an_unpublished_change_reports_no_dropped_state(rt, plugins):
    from epochal.events import StateDropped

    events = []
    rt.events.subscribe(events.append)
    rt.load(plugins.write("geo", "def export_state(): return 1\n"))
    with pytest.raises(InitError):
        rt.reload("geo", plugins.write("geo", "def init(ctx): raise ValueError\n"))
    rt.close()
    assert not [event for event in events if isinstance(event, StateDropped)]
