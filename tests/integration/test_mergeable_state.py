"""Mergeable state: later versions merge stored states, or are refused."""

import subprocess
import sys
import textwrap

import pyarrow as pa
import pytest

from epochal import examples
from epochal.errors import ExportError, IncompatibleError, QueryError
from epochal.sql import Database


@pytest.fixture
def db(rt):
    with Database(rt) as database:
        yield database


def table(db, sql):
    with db.query(sql) as result:
        return result.to_table()


TOTAL = """
from epochal.kinds import mergeable_state

@mergeable_state
class total:
    parameters = {parameters}
    samples = [[(1,), (2,)], [(40,)]]
    def __init__(self): self.value = 0
    def update(self, value: int) -> None: self.value += value
    def merge(self, other) -> None: self.value += other.value
    def evaluate(self) -> int: return self.value
    def state(self) -> {kind}: return {write}
    def restore(self, state: {kind}) -> None: self.value = {read}
"""


def write_total(plugins, version="1.0", **at):
    blocks = {
        "parameters": {"unit": 1},
        "kind": "bytes",
        "write": "str(self.value).encode()",
        "read": "int(state)",
        **at,
    }
    return plugins.write("sums", TOTAL.format(**blocks), version=version)


@pytest.fixture
def sales(db):
    db.register("sales", pa.table({"day": [1, 1, 2, 2, 3], "n": [1, 2, 3, 4, None]}))


def test_stored_states_are_merged_by_a_later_version(rt, db, sales, plugins):
    rt.load(write_total(plugins))
    days = table(db, "SELECT day, sums.total_state(n) AS state FROM sales GROUP BY day")
    db.register("days", days)
    rt.reload("sums", write_total(plugins, "2.0"))
    result = table(db, "SELECT sums.total_merge(state) AS n FROM days WHERE day < 3")
    assert result["n"].to_pylist() == [10]
    assert table(db, "SELECT sums.total(n) AS n FROM sales")["n"].to_pylist() == [10]
    assert db.functions() == [
        "sums.total(value BIGINT) -> BIGINT",
        "sums.total_merge(state BYTEA) -> BIGINT",
        "sums.total_state(value BIGINT) -> BYTEA",
    ]


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ({"kind": "int", "write": "self.value"}, "its state was bytes, and would be int"),
        ({"parameters": {"unit": 2}}, "unit was 1, and would be 2"),
        (
            {"read": "int(state, 16)", "write": "b'%x' % self.value"},
            "sample 1: the value was 40, and out of the same state is 64",
        ),
        ({"write": "repr(self.value).encode()", "read": "int(state.decode('utf-16'))"}, "codec"),
    ],
)
def test_a_version_that_misreads_a_state_is_refused(rt, plugins, at, message):
    rt.load(write_total(plugins))
    epoch = rt.epoch
    with pytest.raises((IncompatibleError, ExportError), match=message):
        rt.reload("sums", write_total(plugins, "2.0", **at))
    assert rt.epoch is epoch


def test_a_version_that_misreads_its_own_states_is_refused(rt, plugins):
    with pytest.raises(
        ExportError, match="sample 0: the value was 3, and out of the same state is 4"
    ):
        rt.load(write_total(plugins, read="int(state) + 1"))


DISTINCT = """
from epochal.kinds import mergeable_state

@mergeable_state
class distinct:
    samples = {samples}
    {more}
    def __init__(self): self.seen = set()
    def update(self, user: str) -> None: self.seen.add({hashed})
    def merge(self, other) -> None: self.seen |= other.seen
    def evaluate(self) -> float: return {value}
    def state(self) -> list[str]: return {write}
    def restore(self, state: list[str]) -> None: self.seen = {read}
"""


def write_distinct(plugins, **at):
    blocks = {
        "samples": '[[("a",), ("b",)], [("b",), ("c",)]]',
        "more": "",
        "hashed": "user",
        "value": "float(len(self.seen))",
        "write": "sorted(self.seen)",
        "read": "set(state)",
        **at,
    }
    return plugins.write("web", DISTINCT.format(**blocks))


@pytest.mark.parametrize(
    ("at", "message"),
    [
        # It reads the old states, but counts a user in both states twice.
        ({"hashed": "'salt' + user"}, "sample 0: the value was 2.0, and with half .* would be 4.0"),
        ({"hashed": "user.upper()"}, "with half of it kept from before would be 4.0"),
        ({"hashed": "user[:0]"}, "the value was 2.0, and out of the same rows would be 1.0"),
        # Versions of the state: the new one knows both, the old one knows its own.
        (
            {
                "write": "['v2', *sorted(self.seen)]",
                "read": "set(state[1:] if state[0] == 'v2' else state)",
            },
            "out of the new state, after a rollback, would be 3.0",
        ),
        ({"read": "{state[0]}"}, "and out of the same state is 1.0"),
        ({"value": "len(self.seen) + (len(self.seen) > 2)"}, "all samples merged: .* 3.0, and"),
        ({"value": "1 / 0"}, "sample 0: ZeroDivisionError"),
    ],
)
def test_a_version_that_cannot_merge_old_states_with_its_own_is_refused(rt, plugins, at, message):
    rt.load(write_distinct(plugins))
    epoch = rt.epoch
    # Its own samples do not show the fault.
    changed = {"samples": '[[("X",)]]'} if "user[:0]" not in at.get("hashed", "") else {}
    with pytest.raises((IncompatibleError, ExportError), match=message):
        rt.reload("web", write_distinct(plugins, **{**changed, **at}))
    assert rt.epoch is epoch


def test_a_value_in_states_of_two_versions_counts_once(rt, db, plugins):
    rt.load(write_distinct(plugins))
    db.register("visits", pa.table({"user": ["a", "b"]}))
    sql = "SELECT web.distinct_state(user) AS state FROM visits"
    first = table(db, sql)
    assert rt.reload("web", write_distinct(plugins, hashed="str(user)")).reclaimed
    db.register("days", pa.concat_tables([first, table(db, sql)]))
    result = table(db, "SELECT web.distinct_merge(state) AS n FROM days")
    assert result["n"].to_pylist() == [2.0]


def test_the_plugin_decides_how_near_an_estimate_must_be(rt, plugins):
    near = "same = staticmethod(lambda a, b: abs(a - b) <= 0.1 * a)"
    rt.load(write_distinct(plugins))
    with pytest.raises(IncompatibleError, match=r"was 2\.0, and out of the same state is 2\.1"):
        rt.reload("web", write_distinct(plugins, value="len(self.seen) * 1.05"))
    rt.reload("web", write_distinct(plugins, value="len(self.seen) * 1.05", more=near))
    with pytest.raises(IncompatibleError, match=r"was 2\.1, and out of the same state is 3\.0"):
        rt.reload("web", write_distinct(plugins, value="len(self.seen) * 1.5", more=near))


def test_nan_is_the_same_as_nan(rt, plugins):
    rt.load(write_distinct(plugins, value="float('nan')"))
    assert rt.reload("web", write_distinct(plugins, value="-float('nan')")).reclaimed


@pytest.mark.parametrize(
    ("samples", "fine"),
    [
        ("(iter([(n,)]) for n in 'ab')", True),
        ("[[('a',), (None,)]]", True),  # left out, as SQL does
        ("[[]]", False),
        ("['ab']", False),
        ("[['ab']]", False),
        ("[[('a', 'b')]]", False),
        ("[[(1,)]]", False),
        ("7", False),
    ],
)
def test_samples_are_groups_of_rows_as_sql_would_pass_them(rt, plugins, samples, fine):
    path = write_distinct(plugins, samples=samples)
    if not fine:
        with pytest.raises(ExportError, match=r"samples|update takes user|not of the type string"):
            rt.load(path)
        return
    rt.load(path)
    assert rt.reload("web", write_distinct(plugins)).reclaimed


STORED = """
import pyarrow as pa
from epochal.kinds import mergeable_state

@mergeable_state{options}
class total:
    samples = [[(1.0,), (2.0,)], [(4.0,)]]
    def __init__(self): self.value = {begin}
    def update(self, value: {taken}) -> None: {update}
    def merge(self, other) -> None: self.value = self.value + other.value
    def evaluate(self) -> float: return {value}
    def state(self) -> {kind}: return {write}
    def restore(self, state: {kind}) -> None: self.value = state
"""
SUM = {
    "options": "",
    "begin": "0.0",
    "taken": "float",
    "update": "self.value += value",
    "value": "self.value",
    "kind": "float",
    "write": "self.value",
}


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ({"kind": "int"}, r"3\.0 is not of the type int64"),
        (
            {
                "kind": "list[float]",
                "begin": "()",
                "update": "self.value = (*self.value, value)",
                "value": "sum(self.value)",
            },
            "can only concatenate",
        ),
        ({"value": "'x'"}, "'x' is not of the type double"),
    ],
)
def test_states_and_values_are_checked_by_their_stored_type(rt, plugins, at, message):
    with pytest.raises(ExportError, match=f"sample 0: .*{message}"):
        rt.load(plugins.write("sums", STORED.format(**{**SUM, **at})))


def test_a_vectorized_state_gets_its_samples_as_arrays(rt, db, plugins):
    at = {
        "options": "(vectorized=True)",
        "taken": "pa.DoubleArray",
        "update": "self.value += sum(value.to_pylist())",
    }
    rt.load(plugins.write("sums", STORED.format(**{**SUM, **at})))
    rt.reload("sums", plugins.write("sums", STORED.format(**SUM)))
    rt.reload("sums", plugins.write("sums", STORED.format(**{**SUM, **at})))
    twice = {**SUM, **at, "update": at["update"].replace("+=", "+= 2 *")}
    with pytest.raises(IncompatibleError, match=r"out of the same rows would be 6\.0"):
        rt.reload("sums", plugins.write("sums", STORED.format(**twice)))


def test_states_are_compared_without_arrow():
    code = """
        import sys
        sys.modules["pyarrow"] = None
        from epochal import Export
        from epochal.kinds import mergeable_state
        class total:
            samples = [[(1,)]]
            def __init__(self): self.value = 0
            def update(self, value: int) -> None: self.value += value
            def merge(self, other) -> None: self.value += other.value
            def evaluate(self) -> int: return self.value
            def state(self) -> int: return self.value
            def restore(self, state: int) -> None: self.value = state
        export = Export(mergeable_state, "p.t", "p", mergeable_state.options(), total)
        mergeable_state.validate(export)
        mergeable_state.compare(export, export)
        print("checked")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "checked\n"), done.stderr


@pytest.mark.parametrize("marker", ["scalar", "aggregate", "mergeable_state"])
def test_a_function_with_the_name_of_a_states_function_is_reported_on_call(
    rt, db, sales, plugins, marker
):
    path = write_total(plugins)
    if marker == "scalar":
        other = "def total_state(n: int) -> int: return n"
    else:
        other = "class total_state(total): ..."
    line = f"from epochal.kinds import {marker}"
    path.write_text(f"{path.read_text()}\n{line}\n@{marker}\n{other}\n")
    rt.load(path)
    with pytest.raises(QueryError, match=r"sums\.total_state is a function, and a part of the"):
        db.query("SELECT sums.total_state(n) FROM sales")
    assert table(db, "SELECT sums.total(n) AS n FROM sales")["n"].to_pylist() == [10]


def test_sketches_count_distinct_values_over_days_and_versions(rt, db):
    rt.load(examples.path("sketches"))
    users = [f"user {n}" for n in range(6_000)]
    day = [n % 3 for n in range(6_000)]
    db.register("visits", pa.table({"day": day * 2, "user": users * 2}))
    (count,) = table(db, "SELECT sketches.distinct(user) AS n FROM visits")["n"].to_pylist()
    assert count == pytest.approx(6_000, rel=0.05)
    sql = "SELECT day, sketches.distinct_state(user) AS sketch FROM visits GROUP BY day"
    db.register("days", table(db, sql))
    assert rt.reload("sketches").reclaimed
    result = table(db, "SELECT sketches.distinct_merge(sketch) AS n FROM days")
    assert result["n"].to_pylist() == [pytest.approx(6_000, rel=0.05)]


def test_a_sketch_of_another_size_is_refused(rt, tmp_path):
    rt.load(examples.path("sketches"))
    source = examples.path("sketches").read_text()
    (tmp_path / "sketches.py").write_text(source.replace("_LG_K = 12", "_LG_K = 10"))
    with pytest.raises(IncompatibleError, match="lg_k was 12, and would be 10"):
        rt.reload("sketches", tmp_path / "sketches.py")


def test_a_version_without_the_state_is_refused(rt, plugins):
    rt.load(write_total(plugins))
    code = TOTAL.format(parameters={}, kind="bytes", write="b''", read="0")
    aggregate = code.replace("mergeable_state", "aggregate")
    with pytest.raises(IncompatibleError, match=r"cannot leave out mergeable_state sums\.total of"):
        rt.reload("sums", plugins.write("sums", aggregate))
