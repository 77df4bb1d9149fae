"""Queries and reloads: the code that a query runs, and the plugins that it holds and releases."""

import asyncio
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from tests.sizes import sized
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

from epochal.errors import FunctionError, QueryCancelledError, QueryError, QueryTimeoutError
from epochal.events import ChangeCommitted
from epochal.sql import Database

VERSIONED = """
VERSION = {version!r}
@scalar
def version(x: int) -> str: return VERSION
@scalar(vectorized=True)
def versions(x: pa.Int64Array) -> pa.StringArray: return pa.array([VERSION] * len(x))
@scalar
def fails(x: int) -> int:
    if x == 10_000:
        raise ValueError(f"no {{x}}")
    return x
@scalar
def waits(x: int) -> int:
    if x % 8192 == 0:
        gate("waits")()
    return x
@scalar
def gated(x: int) -> int:
    if x == 6 * 8192 - 1:
        gate("gated")()
    return x
@aggregate
class latest:
    value: str = ""
    def update(self, x: int) -> None: self.value = VERSION
    def merge(self, other): self.value = max(self.value, other.value)
    def evaluate(self) -> str: return self.value
@window
def stamps(x: list[int]) -> list[str]: return [VERSION] * len(x)
class Row(NamedTuple):
    version: str
@table_function
def rows(n: int) -> Iterator[Row]:
    for _ in range(n):
        yield Row(VERSION)
def shutdown(): HOST["shutdowns"].append((__name__, VERSION))
"""

BATCHES = 6
ALL = BATCHES * BATCH
SQL = "SELECT {}.version(n) FROM t"


def versioned(folder, version, plugin="p"):
    return write(folder, plugin, VERSIONED.format(version=version), version)


@pytest.fixture(autouse=True)
def gates():
    shut_gates()
    yield
    open_gates()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as executor:
        yield executor
        open_gates()  # a thread at a gate must go on before it is joined


@pytest.fixture
def db(rt):
    with Database(rt, partitions=1) as database:
        database.register("t", numbers(BATCHES))
        yield database


@pytest.fixture
def p(rt, tmp_path):
    rt.load(versioned(tmp_path, "1.0"))
    return lambda version: rt.reload("p", versioned(tmp_path, version))


@pytest.fixture
def published(rt, p, pool):
    """Begin a reload; once the new version is published, return the future of its cutover."""

    def begin(version):
        committed = threading.Event()
        stop = rt.events.subscribe(
            lambda event: committed.set() if isinstance(event, ChangeCommitted) else None
        )
        reloading = pool.submit(p, version)
        assert committed.wait(LIMIT_S), reloading
        stop()
        return reloading

    return begin


@pytest.fixture
def by_reference_counts_alone():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def values(batches):
    return [value.as_py() for batch in batches for value in batch.column(0)]


# --- which code ----------------------------------------------------------------------------------


def test_a_reload_changes_the_code_of_later_queries_only(rt, db, published):
    old = db.query("SELECT p.version(n) FROM t")
    seen = values([next(old)])
    reloading = published("2.0")
    new = db.query("SELECT p.version(n) FROM t")
    assert new.epoch.number == old.epoch.number + 1
    assert set(new.rows()) == {("2.0",)}
    assert not reloading.done(), "the old version was not waited for"
    assert not HOST["shutdowns"], "it was shut down under the query"
    seen += values(old)
    assert (len(seen), set(seen)) == (ALL, {"1.0"})
    settled(reloading.result(LIMIT_S))
    assert [version for _, version in HOST["shutdowns"]] == ["1.0"]


def test_an_unread_query_runs_the_code_that_it_was_planned_with(db, published):
    old = db.query("SELECT p.version(n) FROM t")
    reloading = published("2.0")
    assert set(old.rows()) == {("1.0",)}
    settled(reloading.result(LIMIT_S))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT p.versions(n) FROM t",
        "SELECT p.latest(n) FROM t",
        "SELECT p.stamps(n) OVER (ORDER BY n) FROM t",
        "SELECT version FROM p.rows(3)",
        "SELECT v FROM (SELECT p.version(n) AS v, p.waits(n) FROM t) GROUP BY v",
    ],
)
def test_every_kind_of_function_is_of_one_version_in_a_query(db, published, sql):
    gate("waits").open()
    old = db.query(sql)
    reloading = published("2.0")
    assert set(db.query(sql).rows()) == {("2.0",)}
    assert set(old.rows()) == {("1.0",)}
    settled(reloading.result(LIMIT_S))


def test_a_prepared_query_runs_the_current_code_and_pins_nothing(db, p):
    prepared = db.prepare("SELECT p.version(n) FROM t WHERE n < $1")
    assert prepared.execute([2]).rows() == [("1.0",), ("1.0",)]
    settled(p("2.0"))
    result = prepared.execute([1])
    assert [record.version for record in result.provenance] == ["2.0"]
    assert result.rows() == [("2.0",)]
    assert asyncio.run(_rows(prepared.aexecute([1]))) == [("2.0",)]


async def _rows(query):
    return await (await query).arows()


# --- where a result comes from -------------------------------------------------------------------


def test_provenance_lists_exactly_the_functions_of_the_query(rt, db, tmp_path):
    for plugin, version in [("a", "1.0"), ("b", "1.1"), ("c", "1.2")]:
        rt.load(versioned(tmp_path, version, plugin))
    rt.reload("b", versioned(tmp_path, "2.1", "b"))
    sql = (
        "SELECT a.version(n), b.stamps(n) OVER (ORDER BY n), 'c.version(n)' FROM t -- c.version(n)"
    )
    result = db.query(sql)
    assert (result.epoch.number, result.epoch.id) == (rt.epoch.number, rt.epoch.id)
    records = [
        (record.function, record.kind, record.version, record.generation)
        for record in result.provenance
    ]
    assert records == [
        ("a.version", "scalar", "1.0", rt.generation("a").number),
        ("b.stamps", "window", "2.1", rt.generation("b").number),
    ]
    assert [record.digest for record in result.provenance] == [
        rt.generation("a").digest,
        rt.generation("b").digest,
    ]
    assert db.query("SELECT count(*) FROM t").provenance == ()


def test_a_result_streams_before_all_rows_are_computed(db, p):
    result = db.query("SELECT p.gated(n) FROM t")
    assert next(result).num_rows == BATCH  # the gate, in the last row, is shut
    assert not result.done
    gate("gated").open()
    assert len(values(result)) == ALL - BATCH
    assert result.done


# --- what is held back, and for how long ---------------------------------------------------------


def test_a_running_query_delays_only_the_plugins_that_it_uses(rt, db, tmp_path):
    for plugin in "abc":
        rt.load(versioned(tmp_path, "1.0", plugin))
    running = db.query("SELECT a.version(n) FROM t")
    next(running)
    settled(rt.reload("b"))
    settled(rt.reload("c"))
    assert not rt.reload("a", drain_timeout=0.0).drained
    assert len(values(running)) == ALL - BATCH


def test_a_waiting_drain_names_a_running_query_with_its_sql(rt, db, p):
    running = db.query("SELECT p.version(n)\n  FROM t")
    next(running)
    cut = rt.reload("p", drain_timeout=0.0)
    assert not cut.drained
    assert any(
        "operation 'SELECT p.version(n) FROM t' (" in holder for holder in map(str, cut.holders)
    )


def exhausted(db):
    result = db.query(SQL.format("p"))
    values(result)
    return result


def closed(db):
    result = db.query(SQL.format("p"))
    next(result)
    result.close()
    with pytest.raises(QueryError, match="was closed"):
        next(result)
    return result


def left_by_with(db):
    with db.query(SQL.format("p")) as result:
        next(result)
    return result


def dropped(db):
    next(db.query(SQL.format("p")))


def never_read(db):
    db.query(SQL.format("p"))


def never_read_and_gathering(db):
    db.query("SELECT n FROM t ORDER BY p.version(n)")


def cancelled(db):
    result = db.query(SQL.format("p"))
    next(result)
    result.cancel()
    with pytest.raises(QueryCancelledError):
        next(result)
    return result


def failed(db):
    result = db.query("SELECT p.fails(n) FROM t")
    with pytest.raises(FunctionError):
        values(result)
    return result


def failed_while_planning(db):
    with pytest.raises(QueryError):
        db.query("SELECT p.version(n), nothing FROM t")


def late(db):
    result = db.query("SELECT p.waits(n) FROM t", timeout=0.05)
    with pytest.raises(QueryTimeoutError):
        next(result)
    gate("waits").open()
    return result


def left_by_a_task(db):
    async def leave():
        async with await db.aquery(SQL.format("p")) as result:
            await anext(result)
        return result

    return asyncio.run(leave())


def shut(db):
    result = db.query(SQL.format("p"))
    next(result)
    assert db.close()
    return result


@pytest.mark.parametrize(
    "end",
    [
        exhausted,
        closed,
        left_by_with,
        dropped,
        never_read,
        never_read_and_gathering,
        cancelled,
        failed,
        failed_while_planning,
        late,
        left_by_a_task,
        shut,
    ],
)
def test_a_query_releases_its_plugins_at_once_however_it_ends(
    db, p, end, by_reference_counts_alone
):
    result = end(db)
    settled(p("2.0"))
    assert result is None or result.done


def test_a_call_under_way_holds_its_plugin_after_its_query_is_cancelled(rt, db, p, pool):
    result = db.query("SELECT p.waits(n) FROM t")
    reading = pool.submit(next, result)
    gate("waits").wait_arrived()
    result.cancel()
    assert not rt.reload("p", drain_timeout=0.0).drained
    assert not HOST["shutdowns"]
    gate("waits").open()
    with pytest.raises(QueryCancelledError):
        reading.result(LIMIT_S)


# --- failures of functions -----------------------------------------------------------------------


def test_a_functions_exception_reaches_the_caller_with_its_name_and_traceback(db, p):
    with pytest.raises(FunctionError) as raised:
        db.query("SELECT p.fails(n) FROM t").rows()
    error = raised.value
    assert str(error) == "p.fails (plugin p 1.0) raised ValueError: no 10000 (p.py, line 24)"
    assert (error.function, error.code) == ("p.fails", "function")
    cause = error.__cause__
    assert isinstance(cause, ValueError)
    frames = []
    step = cause.__traceback__
    while step is not None:
        frames.append(step.tb_frame.f_code.co_name)
        step = step.tb_next
    assert frames[-1] == "fails"
    assert "epochal-fault" not in "".join(map(str, [error, cause, cause.__context__]))


def test_an_exception_holds_its_plugin_exactly_until_it_is_dropped(
    db, published, by_reference_counts_alone
):
    errors = []
    try:
        db.query("SELECT p.fails(n) FROM t").rows()
    except FunctionError as error:
        errors.append(error)
    reloading = published("2.0")
    assert not HOST["shutdowns"]
    errors.clear()
    settled(reloading.result(LIMIT_S))


@pytest.mark.parametrize("sql", ["SELECT p.fails(n) FROM t", "SELECT p.fails(n, n) FROM t"])
def test_a_dropped_exception_is_freed_without_a_collection(db, p, sql, by_reference_counts_alone):
    def ask():
        try:
            db.query(sql).rows()
        except QueryError as error:
            return weakref.ref(error)

    assert ask()() is None


# --- many at once --------------------------------------------------------------------------------

PAIR = """
VERSION = {version!r}
GONE = []
def stamp():
    if GONE: HOST["used_late"].append(__name__)
    return VERSION
@scalar
def version(x: int) -> str: return stamp()
@scalar(vectorized=True)
def versions(x: pa.Int64Array) -> pa.StringArray: return pa.array([stamp()] * len(x))
@aggregate
class latest:
    value: str = ""
    def update(self, x: int) -> None: self.value = stamp()
    def merge(self, other):
        assert {{self.value, other.value}} <= {{"", stamp()}}
        self.value = max(self.value, other.value)
    def evaluate(self) -> str: return self.value
def shutdown(): GONE.append(True)
"""

RELOADS = sized(16, 30, 60)
QUESTIONS = (
    "SELECT DISTINCT a.version(n), b.version(n), a.versions(n), b.versions(n) FROM small",
    "SELECT DISTINCT a.versions(n), b.versions(n) FROM t",
    "SELECT a.latest(n), b.latest(n), min(a.versions(n)) FROM small GROUP BY n % 3",
    "WITH x AS (SELECT a.versions(n) AS v, n FROM small) SELECT DISTINCT v, b.version(n) FROM x",
)


def test_no_query_sees_a_mix_of_two_plugins_reloaded_together(rt, tmp_path, pool):
    """Threads and tasks query all the time; one change publishes each pair of versions."""
    folders = [tmp_path / str(n) for n in range(RELOADS + 1)]
    for n, folder in enumerate(folders):
        folder.mkdir()
        for plugin in "ab":
            write(folder, plugin, PAIR.format(version=f"{n:03}"), f"{n}.0")
    over = threading.Event()
    faults, seen = [], set()

    def judge(result, rows):
        versions = {value for row in rows for value in row}
        recorded = {record.version for record in result.provenance}
        if len(versions) != 1 or recorded != {f"{int(next(iter(versions)))}.0"}:
            faults.append((versions, recorded))
        seen.update(versions)

    def ask(start):
        count = 0
        while not over.is_set():
            result = db.query(QUESTIONS[(start + count) % len(QUESTIONS)])
            judge(result, result.rows())
            count += 1
        return count

    async def ask_as_tasks():
        async def ask_in_task(start):
            count = 0
            while not over.is_set():
                result = await db.aquery(QUESTIONS[(start + count) % len(QUESTIONS)])
                judge(result, await result.arows())
                count += 1
            return count

        return sum(await asyncio.gather(*map(ask_in_task, range(4))))

    with Database(rt) as db:
        db.register("t", numbers(2))
        db.register("small", pa.table({"n": list(range(30))}))
        with rt.change() as change:
            for plugin in "ab":
                change.load(folders[0] / f"{plugin}.py")
        asking = [pool.submit(ask, n) for n in range(3)]
        asking.append(pool.submit(lambda: asyncio.run(ask_as_tasks())))
        for folder in folders[1:]:
            with rt.change() as change:
                for plugin in "ab":
                    change.reload(plugin, folder / f"{plugin}.py")
            assert change.cutover.drained, change.cutover.holders
        over.set()
        asked = [future.result(LIMIT_S) for future in asking]
    assert faults == []
    assert HOST["used_late"] == []
    assert all(asked), asked
    assert len(seen) > RELOADS // 6, "too few versions were seen to have tested anything"


def test_a_query_calls_the_functions_of_the_epoch_that_it_is_given(rt, db, p, tmp_path):
    def answer(epoch=None):
        return db.query("SELECT p.version(1)", epoch=epoch).rows()

    async def answer_async(epoch):
        result = await db.aquery("SELECT p.version(1)", epoch=epoch)
        return result.rows()

    first = rt.epoch
    with rt.stage(versioned(tmp_path, "2.0")) as stage:
        assert (answer(), answer(stage.epoch)) == ([("1.0",)], [("2.0",)])
        rt.reload("p", versioned(tmp_path, "3.0"), drain_timeout=0)
        assert (answer(), answer(first), answer(stage.epoch)) == (
            [("3.0",)],
            [("1.0",)],
            [("2.0",)],
        )
        assert asyncio.run(answer_async(first)) == [("1.0",)]
        with rt.operation("around"):
            assert answer(stage.epoch) == [("2.0",)]
        with pytest.raises(QueryError, match="version"):
            answer(first.bare())
        result = db.query(SQL.format("p"), epoch=stage.epoch)
        assert not stage.release(timeout=0.0)  # the query holds its plugin in use
        assert set(result.rows()) == {("2.0",)}
