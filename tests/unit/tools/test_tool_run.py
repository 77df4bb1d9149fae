"""Running tools: progress, logs, time limits, cancellation; no error keeps a plugin in use."""

import asyncio
import threading

import pytest

from epochal.errors import ToolCancelledError, ToolFailedError, ToolTimeoutError
from epochal.kinds import tool
from epochal.tools import current_call, run

CODE = """\
# /// plugin
# id = "web"
# version = "1.0"
# ///
import asyncio
import functools
import threading
from collections.abc import AsyncIterator
from epochal.kinds import tool
from epochal.kinds.tool_call import cancelled, check_cancelled, log, progress, remaining

begun, stopped, go = threading.Event(), threading.Event(), threading.Event()

@tool
def report(n: int) -> float:
    "Report."
    for i in range(n):
        progress(i, n, f"step {i}")
    log("done", "warning")
    return remaining()

@tool
def hang() -> str:
    "Hang."
    begun.set()
    while not cancelled():
        pass
    stopped.set()
    check_cancelled()

@tool
def deaf() -> str:
    "Wait for the test."
    begun.set()
    go.wait(30)
    return "late"

@tool
async def wait() -> str:
    "Wait."
    begun.set()
    try:
        await asyncio.Event().wait()
    finally:
        stopped.set()

@tool
async def stream(n: int) -> AsyncIterator[int]:
    "Stream."
    try:
        for i in range(n):
            yield i
            if i == 2:
                raise ValueError("three")
    finally:
        stopped.set()

@tool
async def quits() -> str:
    "Quit."
    raise asyncio.CancelledError

@tool
def stop_iteration() -> str:
    "Stop."
    raise StopIteration(3)

@tool
def exits() -> str:
    "Exit."
    raise SystemExit(3)

@tool
async def exits_too() -> str:
    "Exit."
    raise SystemExit(3)

def decorated(function):
    @functools.wraps(function)
    def call(*args, **kw):
        return function(*args, **kw)
    return call

@tool
@decorated
async def wrapped(x: int) -> int:
    "A coroutine behind a plain function."
    progress(x)
    return x
"""


class Reporter:
    def __init__(self):
        self.lines = []

    def progress(self, done, total, message):
        self.lines.append((done, total, message))

    def log(self, level, text):
        self.lines.append((level, text))


@pytest.fixture
def web(tmp_path, rt):
    path = tmp_path / "web.py"
    path.write_text(CODE)
    rt.load(path)
    # Not an export: the module's own names, for the test.
    return rt.epoch[tool]["web.hang"].function.__globals__


def of(rt, name):
    return rt.epoch[tool][f"web.{name}"]


def test_progress_logs_and_the_time_left_reach_the_plugin(rt, web):
    reporter = Reporter()
    left = asyncio.run(run(of(rt, "report"), {"n": 2}, timeout=60, reporter=reporter))
    assert 0 < left <= 60
    assert reporter.lines == [(0, 2, "step 0"), (1, 2, "step 1"), ("warning", "done")]
    assert asyncio.run(run(of(rt, "wrapped"), {"x": 3}, reporter=reporter)) == 3
    assert reporter.lines[-1] == (3, None, None)
    assert current_call() is None


def test_items_of_a_generator_are_the_result_and_its_progress(rt, web):
    reporter = Reporter()
    assert asyncio.run(run(of(rt, "stream"), {"n": 2}, reporter=reporter)) == [0, 1]
    assert reporter.lines == [(1, None, "0"), (2, None, "1")]
    with pytest.raises(ToolFailedError, match="three"):
        asyncio.run(run(of(rt, "stream"), {"n": 5}))
    assert web["stopped"].is_set()


@pytest.mark.parametrize("name", ["hang", "wait"])
def test_a_call_over_its_time_is_answered_and_asked_to_stop(rt, web, name):
    with pytest.raises(ToolTimeoutError, match=r"within 0\.05 s"):
        asyncio.run(run(of(rt, name), {}, timeout=0.05))
    assert web["stopped"].wait(30)


def test_a_function_that_goes_on_keeps_its_generation_and_no_caller(rt, web):
    with pytest.raises(ToolTimeoutError):
        asyncio.run(run(of(rt, "deaf"), {}, timeout=0.05))
    go = web["go"]
    report = rt.reload("web", drain_timeout=0.0)
    assert not report.drained
    go.set()


def test_a_cancelled_caller_stops_the_tool(rt, web):
    async def main(name):
        task = asyncio.create_task(run(of(rt, name), {}))
        while not web["begun"].is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for name in ("hang", "wait"):
        web["begun"].clear()
        web["stopped"].clear()
        asyncio.run(main(name))
        assert web["stopped"].wait(30)


def test_a_cancelled_operation_stops_the_tool(rt, web):
    async def main():
        with rt.operation("call") as operation:
            task = asyncio.create_task(run(of(rt, "wait"), {}, operation=operation))
            while not web["begun"].is_set():
                await asyncio.sleep(0)
            threading.Thread(target=operation.cancel).start()
            with pytest.raises(ToolCancelledError, match="replaced"):
                await task

    asyncio.run(main())


@pytest.mark.parametrize("name", ["stop_iteration", "exits", "exits_too"])
def test_whatever_a_tool_raises_is_its_failure(rt, web, name):
    with pytest.raises(ToolFailedError, match="3"):
        asyncio.run(run(of(rt, name), {}))


def test_errors_carry_no_frames_of_the_plugin(rt, web):
    with pytest.raises(ToolCancelledError, match="cancelled itself"):
        asyncio.run(run(of(rt, "quits"), {}))
    kept = []
    for name in ("stream", "deaf"):
        try:
            asyncio.run(run(of(rt, name), {"n": 5}))
        except ToolFailedError as error:
            kept.append(error)
    report = rt.reload("web")
    assert report.drained, report.holders
    assert [error.tool for error in kept] == ["web.stream", "web.deaf"]
