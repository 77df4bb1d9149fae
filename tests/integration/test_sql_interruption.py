"""Queries that end early: cancelled, late, interrupted, closed, or running at exit."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from tests.unit.sql.support import (
    BATCH,
    HOST,
    LIMIT_S,
    gate,
    numbers,
    open_gates,
    settled,
    shut_gates,
    write,
)

from epochal import Runtime
from epochal.errors import (
    HostError,
    QueryCancelledError,
    QueryError,
    QueryTimeoutError,
    RuntimeClosedError,
)
from epochal.sql import Database

CODE = """
@scalar
def waits(x: int) -> int:
    gate("waits")()
    return x
@scalar
def counted(x: int) -> int:
    HOST["made"] += 1
    gate("waits")()
    return x
@scalar
def same(x: int) -> int: return x
@scalar(vectorized=True, volatility="immutable")
def while_planning(x: pa.Int64Array) -> pa.Int64Array:
    gate("waits")()
    return x
class Row(NamedTuple):
    n: int
@table_function
def endless() -> Iterator[Row]:
    try:
        for n in range(3_000_000):
            if n == 10:  # in the first batch: a query that is late may end at the next
                gate("endless")()
            yield Row(n)
    finally:
        HOST["made"] = n
"""

# Hours of work in which the engine calls no function of ours and gives no batch.
LONG = "SELECT count(*) FROM generate_series(1, 1000000000000) AS a(x) WHERE x % 7 = 3"
WAITING = "SELECT p.waits(n) FROM t"


@pytest.fixture(autouse=True)
def gates():
    shut_gates()
    yield
    open_gates()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as executor:
        yield executor
        open_gates()


@pytest.fixture
def db(rt, tmp_path):
    rt.load(write(tmp_path, "p", CODE))
    with Database(rt) as database:
        database.register("t", numbers(6))
        yield database
        open_gates()


# --- cancelling ----------------------------------------------------------------------------------


def test_cancel_wakes_a_reader_that_waits_for_the_engine(db, pool):
    result = db.query(LONG)
    reading = pool.submit(result.rows)
    while result._execution._wake is None:
        assert not reading.done()
    result.cancel()
    with pytest.raises(QueryCancelledError, match="was cancelled: SELECT count"):
        reading.result(LIMIT_S)


def test_cancel_ends_a_reader_once_its_function_returns(db, pool):
    result = db.query(WAITING)
    reading = pool.submit(result.rows)
    gate("waits").wait_arrived()
    result.cancel()
    gate("waits").open()
    with pytest.raises(QueryCancelledError):
        reading.result(LIMIT_S)


def test_no_row_is_called_after_a_query_has_ended(db, pool):
    HOST["made"] = 0
    result = db.query("SELECT p.counted(n) FROM t")
    reading = pool.submit(result.rows)
    gate("waits").wait_arrived()
    result.cancel()
    gate("waits").open()
    with pytest.raises(QueryCancelledError):
        reading.result(LIMIT_S)
    assert db.close(LIMIT_S)
    assert 1 <= HOST["made"] <= os.cpu_count()  # a row for each part of the query


HELD = """
from epochal import Runtime
from epochal.errors import QueryTimeoutError
from epochal.sql import Database
db, n = Database(Runtime()), 10_000_000
try:
    db.query(
        f"SELECT count(*) FROM generate_series(1, {n}) a, generate_series(1, {n}) b", timeout=1
    ).rows()
except QueryTimeoutError:
    print(db.query("SELECT count(*) FROM generate_series(1, 1000)", timeout=60).rows(), flush=True)
import os
os._exit(0)  # the engine goes on
"""


def test_a_join_that_cannot_be_stopped_holds_no_other_query():
    ended = subprocess.run(
        [sys.executable, "-c", HELD],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert ended.stdout == "[(1000,)]\n", ended.stderr


def test_a_query_that_needs_more_memory_than_it_may_have_fails(rt):
    with Database(rt, memory=16 << 20) as db:
        gathered = "SELECT array_length(array_agg(value)) FROM generate_series(1, 20000000)"
        with pytest.raises(QueryError, match=r"more memory than it may have \(Database\(memory"):
            db.query(gathered).rows()
        assert db.query("SELECT 1").rows() == [(1,)]


def test_no_function_is_called_after_a_query_was_cancelled(rt, db, tmp_path):
    rt.load(write(tmp_path, "q", "@scalar\ndef f(x: int) -> int: return x"))
    result = db.query("SELECT q.f(n) FROM t")
    next(result)
    result.cancel()
    settled(rt.remove("q"))
    with pytest.raises(QueryCancelledError):
        next(result)


@pytest.mark.parametrize("sql", [WAITING, LONG])
def test_cancelling_the_reading_task_ends_the_query_at_once(db, sql):
    async def main():
        result = await db.aquery(sql)
        reading = asyncio.ensure_future(result.arows())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert result.done
        with pytest.raises(QueryCancelledError):
            await anext(result)

    asyncio.run(main())


def test_cancelling_the_planning_task_ends_the_query(rt, db, pool):
    async def main():
        planning = asyncio.ensure_future(db.aquery("SELECT p.while_planning(1)"))
        await asyncio.to_thread(gate("waits").wait_arrived)
        planning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await planning
        assert "0 queries running" in repr(db)
        gate("waits").open()

    asyncio.run(main())
    settled(rt.remove("p"))


def test_cancel_ends_a_reading_task(db):
    async def main():
        result = await db.aquery(LONG)
        reading = asyncio.ensure_future(result.arows())
        await asyncio.sleep(0)
        result.cancel()
        with pytest.raises(QueryCancelledError):
            await reading

    asyncio.run(main())


def test_the_event_loop_runs_while_a_query_waits(db):
    async def main():
        result = await db.aquery(WAITING)
        reading = asyncio.ensure_future(result.arows())
        await asyncio.to_thread(gate("waits").wait_arrived)
        gate("waits").open()
        assert len(await reading) == 6 * BATCH

    asyncio.run(main())


# --- time limits ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sql", [WAITING, LONG, "SELECT * FROM p.endless()"])
def test_a_late_query_raises_in_its_reader_while_its_function_hangs(db, sql):
    with pytest.raises(QueryTimeoutError, match=r"did not end within 0\.1 s: SELECT"):
        db.query(sql, timeout=0.1).rows()


@pytest.mark.parametrize("sql", [WAITING, LONG, "SELECT * FROM p.endless()"])
def test_a_late_query_raises_in_its_task_while_its_function_hangs(db, sql):
    async def main():
        with pytest.raises(QueryTimeoutError, match=r"did not end within 0\.1 s: SELECT"):
            async with await db.aquery(sql, timeout=0.1) as result:
                await result.arows()
        open_gates()  # closing the loop waits for the planning thread

    asyncio.run(main())


def test_a_late_table_function_is_stopped_between_rows(rt, db):
    with pytest.raises(QueryTimeoutError):
        db.query("SELECT * FROM p.endless()", timeout=0.5)
    gate("endless").open()
    settled(rt.remove("p"))
    assert 10 <= HOST["made"] < 2_000_000


def test_a_query_within_its_time_limit_gives_all_its_rows(db):
    assert len(db.query("SELECT p.same(n) FROM t", timeout=LIMIT_S).rows()) == 6 * BATCH
    assert db.query("SELECT 1", timeout=LIMIT_S).rows() == [(1,)]


def test_a_tasks_own_time_limit_raises_its_own_error(db):
    async def main():
        result = await db.aquery(WAITING)
        with pytest.raises(TimeoutError) as raised:
            async with asyncio.timeout(0.05):
                await result.arows()
        assert not isinstance(raised.value, QueryError)
        assert result.done

    asyncio.run(main())


# --- Ctrl-C --------------------------------------------------------------------------------------


@contextmanager
def interrupted(before=lambda: None, after=lambda: None):
    """Expects Ctrl-C in the block, which is sent once `before` returned."""
    main, ready, over = threading.main_thread().ident, threading.Event(), threading.Event()

    def send():
        assert ready.wait(LIMIT_S)
        before()
        signal.pthread_kill(main, signal.SIGINT)
        after()
        # A signal that arrives just as the interpreter begins to wait for a lock is lost: send it
        # again, as people do.
        while not over.wait(2.0):
            signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=send)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        ready.set()
        yield
    over.set()
    thread.join()


def test_ctrl_c_ends_a_query_once_its_functions_return(rt, db):
    gates = interrupted(gate("waits").wait_arrived, gate("waits").open)
    with db.query(WAITING) as result, gates:
        result.rows()
    settled(rt.remove("p"))


def test_ctrl_c_ends_a_query_with_a_time_limit_while_its_function_hangs(rt, db):
    assert db.query("SELECT 1").rows() == [(1,)]  # starts the thread that fetches
    result = db.query(WAITING, timeout=LIMIT_S)
    with interrupted(gate("waits").wait_arrived):
        next(result)
    assert result.done
    gate("waits").open()
    settled(rt.remove("p"))


def test_ctrl_c_ends_a_query_that_calls_no_function(db):
    assert db.query("SELECT 1").rows() == [(1,)]  # starts the thread that fetches
    result = db.query(LONG)
    with interrupted():
        next(result)
    with pytest.raises(QueryCancelledError):
        next(result)


# --- closing the database ------------------------------------------------------------------------


def test_close_ends_running_queries_and_refuses_new_ones(rt, db, pool):
    half_read = db.query("SELECT p.same(n) FROM t")
    next(half_read)
    hanging = pool.submit(db.query(LONG).rows)
    waiting = pool.submit(db.query(WAITING).rows)
    gate("waits").wait_arrived()
    assert db.close(timeout=0.0) is False, "a function is under way"
    with pytest.raises(QueryCancelledError, match="its database was closed"):
        hanging.result(LIMIT_S)
    with pytest.raises(QueryCancelledError, match="its database was closed"):
        next(half_read)
    with pytest.raises(HostError, match="this database is closed"):
        db.query("SELECT 1")
    gate("waits").open()
    with pytest.raises(QueryCancelledError):
        waiting.result(LIMIT_S)
    assert db.close() is True
    settled(rt.remove("p"))


def test_close_waits_for_calls_under_way(rt, db, pool):
    waiting = pool.submit(db.query(WAITING).rows)
    gate("waits").wait_arrived()
    closing = pool.submit(db.close)
    while "closed" not in repr(db):  # a query before that would wait for the engine's threads
        pass
    with pytest.raises(HostError):
        db.query("SELECT 1")
    assert not closing.done()
    gate("waits").open()
    assert closing.result(LIMIT_S) is True
    with pytest.raises(QueryCancelledError):
        waiting.result(LIMIT_S)


def test_a_closed_runtime_answers_no_queries(db):
    with Runtime() as runtime:
        database = Database(runtime)
    with pytest.raises(RuntimeClosedError):
        database.query("SELECT 1")


# --- leaving the process -------------------------------------------------------------------------

LEAVING = """
import sys, threading, time
from pathlib import Path
import pyarrow as pa
from epochal import EpochalError, Runtime, sql
from epochal.sql import Database

folder = Path(sys.argv[1])
(folder / "p.py").write_text('''
# /// plugin
# id = "p"
# version = "1"
# ///
import threading, time
import pyarrow as pa
from epochal.kinds import aggregate, scalar
running = threading.Event()
@scalar
def slow(x: int) -> int:
    running.set()
    if x % 1000 == 0:
        time.sleep(0.001)
    return x
@scalar(volatility="immutable")
def fails(x: int) -> int:
    return x // 0
@aggregate
class broken:
    value: int = 0
    def update(self, x: int) -> None: x // 0
    def merge(self, other): pass
    def evaluate(self) -> int: return 1
@scalar(vectorized=True)
def quick(x: pa.Int64Array) -> pa.Int64Array:
    running.set()
    return x
'''.lstrip())
rt = Runtime()
rt.load(folder / "p.py")
db = Database(rt, partitions=4)
db.register("t", pa.table({{"n": pa.array(range(400_000), pa.int64())}}))
def read(result):
    try:
        result.rows()
    except EpochalError:  # it was stopped
        pass
{how}
print("left")
"""

WAYS = {
    "half read": """
result = db.query("SELECT p.slow(n) FROM t ORDER BY n % 7")
threading.Thread(target=read, args=(result,), daemon=True).start()
while not db._running: pass
""",
    "many daemon threads": """
def ask(sql):
    while True:
        try:
            db.query(sql).rows()
        except EpochalError:  # it was stopped
            return
for sql in ["SELECT p.slow(n) FROM t", "SELECT sum(p.quick(n)) FROM t"] * 3:
    threading.Thread(target=ask, args=(sql,), daemon=True).start()
while len(db._running) < 6: pass
""",
    "daemon threads with time limits": """
def ask(sql):
    while True:
        try:
            db.query(sql, timeout=60).rows()
        except EpochalError:  # it was stopped
            return
for sql in ["SELECT p.slow(n) FROM t", "SELECT sum(p.quick(n)) FROM t", "SELECT sum(n) FROM t"] * 2:
    threading.Thread(target=ask, args=(sql,), daemon=True).start()
while len(db._running) < 6: pass
""",
    "engine only": """
result = db.query("SELECT count(*) FROM generate_series(1, 1000000000000) AS a(x) WHERE x % 7 = 3")
threading.Thread(target=read, args=(result,), daemon=True).start()
while threading.active_count() < 3: pass
""",
    "never read": """
results = [db.query("SELECT p.slow(n) FROM t ORDER BY n") for _ in range(4)]
""",
}


def leave(folder, how, limit_s):
    return subprocess.run(
        [sys.executable, "-c", LEAVING.format(how=how), folder],
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
    )


@pytest.mark.parametrize("how", WAYS)
def test_exiting_with_a_running_query_does_not_abort_the_process(tmp_path, how):
    done = leave(tmp_path, WAYS[how], 50.0)
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n", "")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT p.fails(n) FROM t",
        "SELECT sum(p.quick(n)), p.broken(n) FROM t",
        "SELECT p.fails(1)",
        "SELECT * FROM nothing",
    ],
)
def test_an_uncaught_error_does_not_delay_the_exit(tmp_path, sql):
    """Its traceback lives to the very end, and must not look like a running query."""
    how = f"sql.database._EXIT_TIMEOUT_S = 100\ndb.query({sql!r}).rows()"
    done = leave(tmp_path, how, 50.0)
    assert done.returncode == 1
    assert any("Error: " in line for line in done.stderr.splitlines()[-2:])
