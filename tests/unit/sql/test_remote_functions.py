"""SQL functions over Arrow columns in any process: as queries of ours call them."""

import pickle
from datetime import UTC, datetime
from weakref import WeakValueDictionary

import pyarrow as pa
import pytest
from tests.unit.sql.support import MONEY

from epochal import Runtime
from epochal.errors import FunctionError, NoShareError, QueryError
from epochal.sql.remote_functions import RemoteAggregate, RemoteScalar, remote_functions
from epochal.worker import epochs, remote_exports

SOURCE = (
    """
from datetime import datetime
from decimal import Decimal
from typing import Annotated
import pyarrow as pa
import pyarrow.compute as pc
from epochal.kinds import aggregate, data_type, scalar

"""
    + MONEY
    + """
@scalar
def plus(x: int) -> int: return x + 1
@scalar
def shown(x: int | None, word: str) -> str: return f"{x} {word}"
@scalar
def tomorrow(at: datetime) -> int: return at.day + 1 if at.tzinfo is None else -1
@scalar
def half(price: Money) -> Money: return price / 2
@scalar(vectorized=True)
def twice(x: pa.Int64Array) -> pa.Int64Array: return pc.multiply(x, 2)
@scalar(volatility="stable")
def seven() -> int: return 7
@scalar
def wrong(x: int) -> int: return "no"
@scalar
def stops(x: int) -> int: raise StopIteration
@scalar
def fails(x: int) -> int: raise ValueError("not this row")
@aggregate
class most:
    best: Money | None = None
    def update(self, value: Money) -> None:
        if self.best is None or value > self.best: self.best = value
    def merge(self, other) -> None: pass
    def evaluate(self) -> Money | None: return self.best
@aggregate(vectorized=True)
class total:
    sum: int = 0
    def update(self, x: pa.Int64Array) -> None: self.sum += pc.sum(x).as_py() or 0
    def merge(self, other) -> None: self.sum += other.sum
    def evaluate(self) -> int: return self.sum
"""
)
SERVICE = """
from epochal.kinds import scalar, service
@service
class s:
    def n(self): return 1
@scalar
def f(x: int) -> int: return x
"""


@pytest.fixture(params=["here", "in another process"])
def functions(request, tmp_path, plugins, monkeypatch):
    with Runtime(share=tmp_path / "share") as rt:
        rt.load(plugins.write("geo", SOURCE))
        rt.load(plugins.write("web", SERVICE))
        found = {function.export.name: function for function in remote_functions(rt.epoch)}
        if request.param != "here":  # as there: nothing was sent from this one
            monkeypatch.setattr(remote_exports, "_sent", WeakValueDictionary())
        yield {name: pickle.loads(pickle.dumps(one)) for name, one in found.items()}
        if request.param != "here":
            epochs(tmp_path / "share").close(10)


def test_they_answer_as_queries_do(functions):
    assert not [name for name in functions if name.startswith("web.")], "of one process"
    for name, columns, expected in (
        ("plus", [pa.array([1, None, 3])], [2, None, 4]),
        ("plus", [pa.chunked_array([[1], [2]])], [2, 3]),
        ("plus", [pa.array([1, 2], pa.int8())], [2, 3]),
        ("shown", [pa.array([1, None, 3]), pa.array(["a", "b", None])], ["1 a", "None b", None]),
        ("tomorrow", [pa.array([datetime(2020, 1, 1, tzinfo=UTC)])], [2]),
        ("half", [pa.array([500, None])], [250, None]),
        ("twice", [pa.array([1, None])], [2, None]),
        ("seven", [], [7]),
        ("plus", [pa.array([], pa.int64())], []),
    ):
        assert isinstance(functions[f"geo.{name}"], RemoteScalar)
        assert functions[f"geo.{name}"](*columns).to_pylist() == expected
    for name, column, expected in (
        ("most", [500, 700, None], 700),
        ("most", [], None),
        ("total", [1, None, 2], 3),
    ):
        assert isinstance(functions[f"geo.{name}"], RemoteAggregate)
        assert functions[f"geo.{name}"](pa.array(column, pa.int64())).as_py() == expected
    assert functions["geo.half"].function().returns == pa.int64()
    assert functions["geo.most"].function().returns == pa.int64()


def test_they_fail_as_queries_do(functions):
    column = pa.array([1, 2])
    for name, columns, error, message in (
        ("plus", [pa.array([1.5])], QueryError, r"cannot call geo\.plus\(x BIGINT\) -> BIGINT wi"),
        ("plus", [pa.array(["a"])], QueryError, "with string"),
        ("plus", [column, column], QueryError, "with 2 arguments"),
        ("wrong", [column], FunctionError, r"geo\.wrong \(plugin geo .*returned 'no'"),
        ("stops", [column], FunctionError, r"geo\.stops \(plugin geo .*StopIteration in row 0"),
        ("fails", [column], FunctionError, r"geo\.fails \(plugin geo .*ValueError: not this row"),
    ):
        with pytest.raises(error, match=message):
            functions[f"geo.{name}"](*columns)


def test_an_epoch_without_a_share_is_not_sent(rt, plugins):
    rt.load(plugins.write("geo", SOURCE))
    with pytest.raises(NoShareError):
        list(remote_functions(rt.epoch))
