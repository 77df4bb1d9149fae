"""A text that comes again is not planned again, and sees what a plan made now would see."""

import asyncio
import gc
import os
import threading

import pyarrow as pa
import pytest

from epochal import Runtime
from epochal.errors import FunctionError, QueryCancelledError, QueryError, QueryTimeoutError
from epochal.sql import Database
from epochal.sql.contexts import new_context
from epochal.sql.kept_plans import facts_of
from epochal.sql.parameters import with_calls

GEO = """\
# /// plugin
# id = "geo"
# version = "{version}"
# ///
import threading
from epochal.kinds import aggregate, scalar

GO_ON, INSIDE, LEFT = threading.Event(), threading.Event(), threading.Event()
CALLS = threading.Semaphore(0)

@scalar
def version(x: {type}) -> {type}:
    return {type}({version})

CALLED, COUNT = [], []

@scalar
def alternates(x: int) -> int:
    COUNT.append(x)
    return x if (len(COUNT) - 1) // 3 % 2 else -x

@scalar(volatility="immutable")
def fixed(x: int) -> int:
    CALLED.append(x)
    if x == 13:
        raise ValueError("not thirteen")
    return x

@scalar
def fails(x: int) -> int:
    raise ValueError("not that one")

@scalar
def waits(x: int) -> int:
    INSIDE.set()
    CALLS.release()
    GO_ON.wait(20)
    LEFT.set()
    return x

@aggregate
class total:
    sum: int = 0
    def update(self, x: int):
        self.sum += x
    def merge(self, other):
        self.sum += other.sum
    def evaluate(self) -> int:
        return self.sum
"""

NUMBERS = pa.table({"x": [1, 2, 3]})


class Host:
    """A database with one plugin, and a look at what it keeps."""

    def __init__(self, folder):
        self.path = folder / "geo.py"
        self.rt = Runtime()
        self.write("1")
        self.rt.load(self.path)
        self.db = Database(self.rt)
        self.db.register("t", NUMBERS)

    def write(self, version, kind="int"):
        self.path.write_text(GEO.format(version=version, type=kind))

    def kept(self, sql):
        """The number of plans that are kept for a text, in the current epoch."""
        return len(self.plans(sql))

    def plans(self, sql):
        """These plans, whatever the types of their parameters."""
        _, shelves = self.db._planner.cache_of(self.rt.epoch)._kept
        return [
            plan for (text, _), shelf in shelves.items() if text == sql for plan in shelf._plans
        ]


@pytest.fixture
def host(tmp_path):
    host = Host(tmp_path)
    yield host
    host.db.close()
    host.rt.close()


def test_a_text_that_comes_again_is_planned_once(host, monkeypatch):
    sql = "SELECT geo.version(x) AS v FROM t WHERE x > 1"
    assert host.db.query(sql).rows() == [(1,), (1,)]
    assert host.kept(sql) == 1
    monkeypatch.setattr("epochal.sql.planning._frame", lambda *_: pytest.fail("planned again"))
    for _ in range(3):
        assert host.db.query(sql).rows() == [(1,), (1,)]
    assert asyncio.run(_awaited(host.db, sql)) == [(1,), (1,)]


async def _awaited(db, sql):
    return await (await db.aquery(sql)).arows()


def test_a_reload_that_changes_a_type_plans_anew(host):
    sql = "SELECT geo.version(1) AS v"
    assert host.db.query(sql).rows() == [(1,)]
    host.write("2", "str")
    host.rt.reload("geo")
    result = host.db.query(sql.replace("1", "'1'"))
    assert result.rows() == [("2",)]
    host.write("3", "float")
    host.rt.reload("geo")
    result = host.db.query(sql)
    assert result.schema.field("v").type == pa.float64()
    assert (result.rows(), result.provenance[0].version) == ([(3.0,)], "3")


def test_a_kept_plan_holds_no_generation_in_use(host):
    sql = "SELECT geo.version(x) FROM t"
    host.db.query(sql).rows()
    assert host.kept(sql) == 1
    host.write("2")
    cut = host.rt.reload("geo", drain_timeout=20.0)
    assert (cut.drained, cut.reclaimed) == (True, True)


def test_kept_plans_go_with_their_epoch(host):
    sql = "SELECT geo.version(x) FROM t"
    host.db.query(sql).rows()
    host.write("2")
    host.rt.reload("geo")
    gc.collect()
    caches = host.db._planner._caches
    assert [len(cache._kept[1]) for cache in caches.live()] in ([], [0])


def test_two_queries_at_once_have_a_plan_each(host):
    sql = "SELECT geo.version(x) FROM t"
    host.db.query(sql).rows()
    first, second = host.db.query(sql), host.db.query(sql)
    first.cancel()
    assert second.rows() == [(1,)] * 3
    with pytest.raises(QueryCancelledError):
        first.rows()
    assert host.kept(sql) == 1


def test_a_table_that_is_replaced_is_read_anew(host):
    sql = "SELECT sum(x) FROM t"
    assert host.db.query(sql).rows() == [(6,)]
    running = host.db.query(sql)
    host.db.register("t", pa.table({"x": [10]}))
    assert host.db.query(sql).rows() == [(10,)]
    assert running.rows() == [(6,)]  # its plan is of the old table, and is not put back
    assert host.db.query(sql).rows() == [(10,)]
    host.db.deregister("t")
    with pytest.raises(QueryError, match=r"\bt\b"):
        host.db.query(sql)


def _owned():
    """A table of zeros, and an event that is set when its memory goes."""
    freed = threading.Event()

    class Owner(bytearray):
        def __del__(self):
            freed.set()

    column = pa.Array.from_buffers(pa.int64(), 100, [None, pa.py_buffer(Owner(8 * 100))])
    return pa.table({"x": column}), freed


def _goes(freed, db):
    for _ in range(100):  # the binding drops what the engine has let go with its next query
        db.query("SELECT 1").rows()
        gc.collect()
        if freed.is_set():
            return True
    return False


def test_a_table_that_is_removed_goes_at_once(host):
    table, freed = _owned()
    host.db.register("big", table)
    del table
    at_once = [host.db.query("SELECT sum(x) FROM big") for _ in range(4)]
    assert [result.rows() for result in at_once] == [[(0,)]] * 4
    still = host.db.query("SELECT sum(x) FROM big")
    host.db.deregister("big")
    assert still.rows() == [(0,)]
    del at_once, still
    assert _goes(freed, host.db)


@pytest.mark.parametrize("closes", [True, False])
def test_a_database_that_is_dropped_leaves_nothing_in_the_epoch(host, closes):
    table, freed = _owned()
    other = Database(host.rt)
    other.register("big", table)
    del table
    assert other.query("SELECT sum(x) FROM big").rows() == [(0,)]
    kept = len(host.rt.epoch._derived)
    if closes:
        other.close()
    del other
    assert _goes(freed, host.db)
    for _ in range(3):
        Database(host.rt).query("SELECT 1").rows()
    assert len(host.rt.epoch._derived) == kept


def test_the_time_is_read_at_each_run(host):
    sql = "SELECT arrow_cast(now(), 'Int64') AS t"
    times = [host.db.query(sql).rows()[0][0] for _ in range(3)]
    assert host.kept(sql) == 1
    assert times[0] < times[1] < times[2]


def test_the_files_of_a_folder_are_listed_at_each_run(host, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.csv").write_text("x\n1\n")
    host.db.register("files", folder)
    assert host.db.query("SELECT sum(x) FROM files").rows() == [(1,)]
    (folder / "b.csv").write_text("x\n2\n")
    assert host.db.query("SELECT sum(x) FROM files").rows() == [(3,)]


def test_the_plan_of_a_stopped_query_is_not_kept(host):
    sql = "SELECT geo.version(x) FROM t"
    host.db.query(sql).close()
    host.db.query(sql).cancel()
    assert host.kept(sql) == 0
    failing = "SELECT geo.fails(x) FROM t"
    with pytest.raises(FunctionError, match="not that one"):
        host.db.query(failing).rows()
    assert host.kept(failing) == 0


@pytest.mark.parametrize(
    ("sql", "is_plain", "is_small"),
    [
        ("SELECT 1", True, True),
        ("SELECT x FROM t WHERE x > 1 GROUP BY x ORDER BY x", True, True),
        ("SELECT x FROM t ORDER BY x LIMIT 1", True, True),
        ("SELECT x FROM big", True, False),
        ("SELECT x FROM t UNION ALL SELECT x FROM big", True, False),
        ("SELECT x FROM t LIMIT 1", False, False),
        ("SELECT a.x FROM t a, t b", False, False),
        ("SELECT a.x FROM t a JOIN t b ON a.x = b.x", False, False),
        ("SELECT x FROM t WHERE x = (SELECT max(x) FROM t)", False, False),
        ("SELECT * FROM generate_series(1, 1000000)", False, False),
        ("SELECT unnest([1, 2])", False, False),
        ("SELECT table_name FROM information_schema.tables", False, False),
        (
            "WITH RECURSIVE n AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM n) SELECT * FROM n",
            False,
            False,
        ),
        ('SELECT 1 AS "a\nTableScan: t"', True, True),
        ('SELECT 1 AS "a\nnothing"', False, False),
        ('SELECT x FROM "t of many"', True, False),
    ],
)
def test_which_plans_are_kept(host, sql, is_plain, is_small):
    many = pa.table({"x": list(range(20_000))})
    host.db.register("big", many)
    host.db.register("t of many", many)
    snapshot = host.db._tables.current
    context = host.db._planner._take(snapshot)
    assert facts_of(context.sql(sql).logical_plan(), snapshot) == (is_plain, is_small)


def test_a_function_of_one_query_is_planned_each_time(host):
    host.db.query("SELECT geo.total(x) FROM t").rows()
    assert host.kept("SELECT geo.total(x) FROM t") == 0


def test_the_number_of_kept_texts_is_bounded(host):
    for number in range(300):
        host.db.query(f"SELECT {number}").rows()
    _, plans = host.db._planner.cache_of(host.rt.epoch)._kept
    assert len(plans) <= 256


# --- physical plans ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1", True),
        ("SELECT geo.version(x) FROM t WHERE x > 1 ORDER BY x", True),
        ("SELECT x, count(*), max(x) FROM t GROUP BY x", True),
        ("SELECT x FROM t WHERE 1 > 2", True),
        ("SELECT x FROM t ORDER BY x LIMIT 1", False),
        ("SELECT x FROM t UNION ALL SELECT x FROM t", False),
        ("SELECT x FROM pieces", False),
        ("SELECT row_number() OVER (ORDER BY x) FROM t", False),
        ("SELECT geo.version(1), random() > 2", False),
    ],
)
def test_which_physical_plans_run_again(host, sql, expected):
    pieces = pa.Table.from_batches(NUMBERS.to_batches() * 2)
    host.db.register("pieces", pieces)
    answers = [sorted(host.db.query(sql).rows()) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert [plan._physical is not None for plan in host.plans(sql)] == [expected]


def test_each_run_of_a_physical_plan_calls_its_functions(host):
    sql = "SELECT max(geo.alternates(x)) AS a FROM t WHERE x > 0"
    answers = [host.db.query(sql).rows() for _ in range(80)]
    assert answers == [[(-1,)], [(3,)]] * 40
    (kept,) = host.plans(sql)
    assert 0 < kept._runs <= 32


def test_a_context_for_optimised_plans_has_no_functions(host):
    assert new_context(optimises=False).udfs() == []
    host.db.register("big", pa.table({"x": list(range(20_000))}))
    sql = "SELECT count(x), sum(CAST(x AS DOUBLE)), avg(x), max(geo.version(x)) FROM big"
    for _ in range(3):
        assert host.db.query(sql).rows() == [(20_000, 199_990_000.0, 9_999.5, 1)]
    assert [plan.is_optimised for plan in host.plans(sql)] == [True]


def test_two_runs_at_once_have_a_physical_plan_each(host):
    sql = "SELECT geo.version(x) + x AS y FROM t"
    for _ in range(3):
        host.db.query(sql).rows()
    first, second = host.db.query(sql), host.db.query(sql)
    assert first.rows() == second.rows() == [(2,), (3,), (4,)]
    third = host.db.query(sql)
    third.cancel()
    with pytest.raises(QueryCancelledError):
        third.rows()
    assert host.db.query(sql).rows() == [(2,), (3,), (4,)]


# --- parameters ----------------------------------------------------------------------------------


def test_a_text_with_parameters_is_planned_once(host, monkeypatch):
    prepared = host.db.prepare("SELECT geo.version(x) + $2 AS v FROM t WHERE x > $1")
    assert prepared.execute([1, 10]).rows() == [(11,), (11,)]
    assert host.kept(prepared.sql) == 0  # it may come once
    assert prepared.execute([2, 20]).rows() == [(21,)]
    assert host.kept(prepared.sql) == 1
    monkeypatch.setattr("epochal.sql.planning._frame", lambda *_: pytest.fail("planned again"))
    assert prepared.execute([2, 30]).rows() == [(31,)]
    assert prepared.execute([0, 40]).rows() == [(41,)] * 3
    assert prepared.execute([5, 50]).rows() == []

    async def main():
        result = await prepared.aexecute([1, 60])
        return await result.arows(), result.epoch.id, result.provenance[0].version

    assert asyncio.run(main()) == ([(61,), (61,)], host.rt.epoch.id, "1")
    assert [plan.slot.execution for plan in host.plans(prepared.sql)] == [None]


@pytest.mark.parametrize(
    ("sql", "many"),
    [
        ("SELECT $1", [[1], [None], ["x"], [1.5], [True], [b"x"], [[1, 2]], [{"a": 1}], [2]]),
        ("SELECT $1", [[pa.scalar(None, pa.int64())], [3], [pa.scalar("x", pa.large_string())]]),
        ("SELECT x + $1 FROM t", [[1], [None], ["1"], [2.5], ["a"], [2]]),
        ("SELECT x FROM t WHERE x < $a AND x > $b", [{"a": 3, "b": 1}, {"b": 0, "a": 2}]),
        ("SELECT x FROM t ORDER BY x LIMIT $1", [[2], [-1], [None], ["x"], [1]]),
        ("SELECT string_agg(x::text, $1) FROM t", [["-"], ["+"], [None]]),
        ("SELECT round(1.2345::decimal(10,4), $1)", [[2], [4], [1]]),
        ("SELECT $_, '$1', $$ $1 $$, $1 -- $1", [{"_": 1, "1": 2}, {"_": "x", "1": 3}]),
        ("SELECT CAST($1 AS INT), 1 / $2", [["1", 1], ["a", 1], ["2", 0], ["3", 1]]),
        ('SELECT x FROM (SELECT x, x + $1 FROM t) WHERE "t.x + $1" > 2', [[1], [2]]),
        ("SELECT count(*) FROM t GROUP BY $1, x > $2", [[1, 2], [None, 1], ["a", 0]]),
        ("SELECT interval $1", [["1 day"], ["2 days"]]),
        ("SELECT geo.version($1), geo.fixed($2), geo.fixed($1)", [[1, 2], [1, 13], [3, 4]]),
    ],
)
def test_a_kept_plan_answers_as_one_made_now(host, sql, many):
    def answer(params):
        try:
            result = host.db.query(sql, params)
            table = result.to_table()
        except QueryError as error:
            return type(error), str(error)
        else:
            return table.schema, sorted(map(str, table.to_pylist()))

    expected = []
    for params in many:
        host.db.forget_plans()
        expected.append(answer(params))
    for _ in range(3):
        assert [answer(params) for params in many] == expected


@pytest.mark.parametrize(
    ("sql", "values", "takes"),
    [
        ("SELECT geo.version(x) + $1 AS y FROM t WHERE x > $2 AND x <> $1", [[1, 1], [2, 0]], True),
        ("SELECT $1, $2, $1 = $1 FROM t", [[1, "a"], [2, "b"]], True),
        ("SELECT count($1), sum(x * $1) FROM t WHERE x > $2 OR $3", [[2, 1, False]], True),
        ("SELECT x FROM t WHERE x > $1 ORDER BY x LIMIT 1", [[0], [1], [2], [3]], True),
        ("SELECT x FROM t WHERE y > $1 AND NOT y IS NULL", [[0], [1], [3]], True),
        ("SELECT $a, $A, $ä FROM t WHERE x > $a", [{"a": 1, "A": 2, "ä": "x"}], True),
        ("SELECT x FROM t WHERE $1 = 'x'", [["x"], ["y" * 256]], True),
        ("SELECT x FROM t WHERE $1 <> 'x'", [["x" * 257], ["ü" * 200]], False),
        ("SELECT x FROM t WHERE x > $1", [[1.5], [2.5]], False),  # a cast of a column
        ("SELECT x FROM t WHERE 10 / $1 > 1 AND $1 <> 0", [[1], [0], [20]], False),
        ("SELECT x FROM t WHERE $1 AND x::text::int > 0", [[True], [False]], False),
        ("SELECT x FROM t WHERE x::text LIKE $1", [["1%"], ["%"]], False),
        ("SELECT string_agg(x::text, $1) FROM t", [["-"], ["+"]], False),
        ("SELECT geo.fixed($1) FROM t", [[1], [2]], False),
        ("SELECT abs($1)", [[1], [-1]], False),
    ],
)
def test_which_plans_take_columns_of_values(host, sql, values, takes):
    host.db.register("t", pa.table({"x": [1, 2, 3], "y": [1.0, None, 3.0]}))
    expected = []
    for params in values:
        host.db.forget_plans()
        expected.append(host.db.query(sql, params).to_table().to_pylist())
    for _ in range(3):
        answers = [host.db.query(sql, params).to_table().to_pylist() for params in values]
        assert answers == expected
    assert [plan.is_optimised for plan in host.plans(sql)] == [takes]


def test_an_error_of_a_value_belongs_to_the_planning(host):
    sql = "SELECT CAST($1 AS INT)"
    for _ in range(3):
        assert host.db.query(sql, ["1"]).rows() == [(1,)]
    assert host.kept(sql) == 1
    with pytest.raises(QueryError, match="Cannot cast string 'a'"):
        host.db.query(sql, ["a"])


def test_a_function_of_a_parameter_is_called_once_a_query(host):
    called = host.rt.epoch.generation("geo").module.CALLED
    prepared = host.db.prepare("SELECT geo.fixed($1) FROM t")
    for value in (1, 2, 3, 4):
        called.clear()
        assert prepared.execute([value]).rows() == [(value,)] * 3
        assert called == [value]
    with pytest.raises(FunctionError, match="not thirteen"):
        prepared.execute([13]).rows()


def test_two_queries_at_once_have_their_own_values(host):
    sql = "SELECT geo.version(x) + $1 FROM t WHERE x > $2"
    for _ in range(2):
        host.db.query(sql, [0, 0]).rows()
    results = [host.db.query(sql, [value, 2]) for value in range(10)]
    assert [result.rows() for result in reversed(results)] == [[(10 - n,)] for n in range(10)]


def test_a_kept_plan_with_parameters_goes_with_its_epoch(host):
    prepared = host.db.prepare("SELECT geo.version(x) * $1 FROM t WHERE x = $2")
    for value in range(4):
        assert prepared.execute([value, 1]).rows() == [(value,)]
    assert host.kept(prepared.sql) == 1
    host.write("2")
    cut = host.rt.reload("geo", drain_timeout=20.0)
    assert (cut.drained, cut.reclaimed) == (True, True)
    result = prepared.execute([10, 1])
    assert (result.rows(), result.epoch.id) == ([(20,)], host.rt.epoch.id)
    host.db.register("t", pa.table({"x": [1, 1]}))
    assert prepared.execute([10, 1]).rows() == [(20,), (20,)]


def test_a_kept_plan_with_parameters_is_stopped_as_any(host):
    module = host.rt.epoch.generation("geo").module
    prepared = host.db.prepare("SELECT geo.waits($1)")
    module.GO_ON.set()
    for value in range(3):
        assert prepared.execute([value]).rows() == [(value,)]
    module.GO_ON.clear()

    async def main():
        with pytest.raises(QueryTimeoutError):
            await (await prepared.aexecute([4], timeout=0.05)).arows()

    asyncio.run(main())
    module.GO_ON.set()
    host.write("2")
    assert host.rt.reload("geo", drain_timeout=20.0).drained


def test_values_come_in_place_of_parameters_alone():
    sql = """SELECT $1, '$1', "$1", $$ $1 $$, a$1, $t$ $1 $t$, $10 /* $1 */ -- $1"""
    assert with_calls(sql, {"1"}, is_column=False) == sql.replace("$1", '"$1"()', 1)
    assert with_calls(sql, {"10"}, is_column=True) == sql.replace("$10", '"$10"(TRUE)')


# --- read ahead ----------------------------------------------------------------------------------


def test_a_small_result_is_read_before_anybody_asks(host, monkeypatch):
    # On a busy machine it may take longer than that, and is given while it is read.
    monkeypatch.setattr("epochal.sql.planning_threads._AHEAD_S", 20.0)

    async def main():
        result = await host.db.aquery("SELECT geo.version(x) FROM t")
        assert not result.done  # nobody has read it
        assert result._ahead.is_done
        return await result.arows()

    assert asyncio.run(main()) == [(1,)] * 3


def test_a_small_result_that_waits_is_given_meanwhile(host):
    module = host.rt.epoch.generation("geo").module

    async def main():
        result = await asyncio.wait_for(host.db.aquery("SELECT geo.waits(x) FROM t"), 20)
        assert await asyncio.to_thread(module.INSIDE.wait, 20)
        reading = asyncio.create_task(result.arows())
        await asyncio.sleep(0)
        assert not reading.done()
        module.GO_ON.set()
        return await reading

    assert asyncio.run(main()) == [(1,), (2,), (3,)]


def test_an_error_that_was_read_ahead_is_raised_at_the_reader(host):
    async def main():
        result = await host.db.aquery("SELECT geo.fails(x) FROM t")
        with pytest.raises(FunctionError, match="not that one"):
            await result.arows()
        assert result.done

    asyncio.run(main())


def test_an_error_that_was_read_ahead_and_is_dropped_unread_holds_nothing(host):
    async def main():
        result = await host.db.aquery("SELECT geo.fails(x) FROM t")
        await result._ahead._done.wait_async()

    asyncio.run(main())
    host.write("2")
    cut = host.rt.reload("geo", drain_timeout=20.0)
    assert (cut.drained, cut.reclaimed) == (True, True)


@pytest.mark.parametrize("end", ["close", "cancel"])
def test_a_result_that_was_read_ahead_can_be_ended(host, end):
    async def main():
        result = await host.db.aquery("SELECT geo.version(x) FROM t")
        getattr(result, end)()
        with pytest.raises(QueryError, match=r"closed|cancelled"):
            await result.arows()

    asyncio.run(main())


def test_cancelling_a_reader_of_what_is_read_ahead_ends_the_query(host):
    module = host.rt.epoch.generation("geo").module

    async def main():
        result = await host.db.aquery("SELECT geo.waits(x) FROM t")
        assert await asyncio.to_thread(module.INSIDE.wait, 20)
        reading = asyncio.create_task(result.arows())
        await asyncio.sleep(0.01)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert result.done
        module.GO_ON.set()

    asyncio.run(main())


def test_only_a_plan_that_is_the_same_at_any_time_is_kept_optimised(host):
    def kept(sql):
        for _ in range(3):
            host.db.query(sql).to_table()
        return host.plans(sql)[0].is_optimised

    assert kept("SELECT geo.version(1)")
    assert kept("SELECT geo.version(x) + 1 AS y FROM t WHERE x > 1 ORDER BY y")
    assert kept("SELECT geo.version(count(*)) FROM t")
    assert not kept("SELECT geo.version(1), now()")
    assert not kept("SELECT geo.version(1), current_date")
    assert not kept("SELECT geo.version(1), random()")
    assert not kept("SELECT geo.version(1), 'now()'")


def test_a_small_result_may_be_read_in_an_event_loop_and_then_in_a_thread(host):
    sql = "SELECT geo.version(x) FROM t"

    async def main():
        result = host.db.query(sql)
        first = await anext(result)
        return first.num_rows + len(result.rows())

    assert [asyncio.run(main()) for _ in range(2)] == [3, 3]


@pytest.mark.parametrize("was_kept", [False, True])
def test_a_small_query_that_waits_is_given_up_at_its_time_limit(host, was_kept):
    module, sql = host.rt.epoch.generation("geo").module, "SELECT geo.waits(x) FROM t"
    if was_kept:
        module.GO_ON.set()
        host.db.query(sql).rows()
        module.GO_ON.clear()
        module.LEFT.clear()
    with pytest.raises(QueryTimeoutError):
        host.db.query(sql, timeout=0.1).rows()
    assert not module.LEFT.is_set()
    module.GO_ON.set()


def test_calls_that_hang_hold_up_no_other_query_of_an_event_loop(host):
    module, hanging = host.rt.epoch.generation("geo").module, (os.cpu_count() or 1) + 1
    db = Database(host.rt, partitions=1)  # so that awaiting the batches runs the functions
    db.register("many", pa.table({"x": list(range(20_000))}))

    async def main():
        waits = [
            asyncio.create_task(_awaited(db, "SELECT max(geo.waits(x)) FROM many"))
            for _ in range(hanging)
        ]
        try:
            for _ in range(hanging):
                assert await asyncio.to_thread(module.CALLS.acquire, timeout=20)
            answer = await asyncio.wait_for(_awaited(db, "SELECT max(x) FROM many"), 20)
        finally:
            module.GO_ON.set()
        assert await asyncio.gather(*waits) == [[(19_999,)]] * hanging
        return answer

    assert asyncio.run(main()) == [(19_999,)]
    db.close()


@pytest.mark.parametrize("seconds", [float("inf"), 1e300, float("nan"), -1.0])
@pytest.mark.parametrize("sql", ["SELECT geo.version(x) FROM t", "SELECT max(x) FROM t a, t b"])
def test_a_time_limit_may_be_any_number(host, sql, seconds):
    sql = sql.replace("max(x)", "max(a.x)")
    for read in (_read, lambda *args: asyncio.run(_read_in_loop(*args))):
        if seconds > 0.0:
            assert read(host.db, sql, seconds)
        else:
            with pytest.raises(QueryTimeoutError):
                read(host.db, sql, seconds)


def _read(db, sql, seconds):
    return db.query(sql, timeout=seconds).rows()


async def _read_in_loop(db, sql, seconds):
    return await (await db.aquery(sql, timeout=seconds)).arows()
