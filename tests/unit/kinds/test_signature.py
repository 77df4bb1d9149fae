"""The annotations that are SQL types, and the errors for those that are not."""

import functools
import inspect
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, NamedTuple, Optional

import pyarrow as pa
import pytest

from epochal import Export
from epochal.kinds import aggregate, scalar, table_function, window
from epochal.kinds.signature import read_signature
from epochal.sql import sql_signature


def export(kind, target, **options):
    return Export(kind, "p.f", "p", kind.options(**options), target)


def check(kind, target, **options):
    exported = export(kind, target, **options)
    kind.validate(exported)
    return sql_signature(exported)


@pytest.mark.parametrize(
    ("hint", "sql"),
    [
        (float, "DOUBLE"),
        (int, "BIGINT"),
        (str, "VARCHAR"),
        (bool, "BOOLEAN"),
        (bytes, "BYTEA"),
        (datetime, "TIMESTAMP"),
        (date, "DATE"),
        (Decimal, "DECIMAL(38, 10)"),
        (list[float], "DOUBLE[]"),
        (list[list[int]], "BIGINT[][]"),
        (list[int | None], "BIGINT[]"),
        (int | None, "BIGINT"),
        (Optional[int], "BIGINT"),  # noqa: UP045
        (Annotated[int, pa.int32()], "INTEGER"),
        (Annotated[int, "only a note"], "BIGINT"),
        (Annotated[Decimal, pa.decimal128(9, 2)], "DECIMAL(9, 2)"),
        (Annotated[datetime, pa.timestamp("ms", "UTC")], "TIMESTAMP(3) WITH TIME ZONE"),
        (pa.float32(), "REAL"),
        (pa.list_(pa.int16()), "SMALLINT[]"),
        ("float", "DOUBLE"),
        ("Annotated[int, pa.int8()]", "TINYINT"),
    ],
)
def test_an_annotation_gives_the_sql_type(hint, sql):
    def f(x, y):
        return x

    f.__annotations__ = {"x": hint, "y": int, "return": hint}
    assert check(scalar, f) == f"p.f(x {sql}, y BIGINT) -> {sql}"


@pytest.mark.parametrize(
    ("hint", "complaint"),
    [
        (dict, "dict is not a SQL type"),
        (list, r"list has no element type; write list\[float\], for example"),
        (int | str, "is more than one SQL type"),
        (Any, "is not a SQL type"),
        (list[dict], "dict is not a SQL type"),
        ("Missing", "an annotation cannot be evaluated .*'Missing'.*TYPE_CHECKING"),
    ],
)
def test_an_annotation_that_is_no_sql_type_is_reported_with_its_parameter(hint, complaint):
    def f(x):
        return x

    f.__annotations__ = {"x": hint, "return": int}
    where = "" if hint == "Missing" else "parameter 'x': .*"
    with pytest.raises(TypeError, match=f"{where}{complaint}"):
        check(scalar, f)


def test_every_fault_is_reported_at_once():
    def f(x: dict, y, *z: int) -> set:
        return x

    with pytest.raises(TypeError) as raised:
        check(scalar, f)
    for fault in ("'x': dict is not", "'y': no annotation", "has *z", "the result: set is not"):
        assert fault in str(raised.value)


async def coroutine(x: int) -> int:
    return x


def generator(x: int) -> int:
    yield x


def nothing() -> int:
    return 1


def keyword_only(x: int, *, y: int) -> int:
    return x + y


def defaults(x: int, *, y: int = 0, **more: int) -> int:
    return x + y


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        (coroutine, "is a coroutine function, which a SQL engine cannot await"),
        (generator, "is not a plain function"),
        (int, "is not a plain function"),
        (nothing, "has no parameters, .*volatility='stable'"),
        (keyword_only, "parameter 'y' is keyword-only"),
        (7, "expected something that can be called"),
    ],
)
def test_an_invalid_scalar_function_is_refused_with_the_reason(target, complaint):
    with pytest.raises(TypeError, match=complaint):
        check(scalar, target)


def test_parameters_for_python_callers_are_not_in_sql():
    assert check(scalar, defaults) == "p.f(x BIGINT) -> BIGINT"
    assert check(scalar, nothing, volatility="stable") == "p.f() -> BIGINT"


@pytest.mark.parametrize("kind", [scalar, aggregate, window, table_function])
def test_unknown_options_are_refused(kind):
    with pytest.raises(TypeError, match="speed"):
        kind(speed=2)
    if kind is scalar:
        with pytest.raises(ValueError, match="'sometimes' is not known; expected one of immutable"):
            scalar(volatility="sometimes")


def test_the_vectorized_form_reads_array_classes():
    def f(x: pa.DoubleArray, y: Annotated[pa.Array, pa.int8()], z: str) -> pa.BooleanArray: ...

    assert check(scalar, f, vectorized=True) == "p.f(x DOUBLE, y TINYINT, z VARCHAR) -> BOOLEAN"

    def vague(x: pa.Array) -> pa.DoubleArray: ...

    with pytest.raises(TypeError, match="'x': Array has no value type; write"):
        check(scalar, vague, vectorized=True)


def test_windows_take_and_return_columns():
    def change(price: list[float]) -> list[float | None]: ...

    assert check(window, change) == "p.f(price DOUBLE) -> DOUBLE"

    def span(price: list[float]) -> float: ...

    assert check(window, span, frame=True) == "p.f(price DOUBLE) -> DOUBLE"
    with pytest.raises(TypeError, match="the result: float is not a column"):
        check(window, span)


class Mean:
    count: int = 0
    total: float = 0.0

    def update(self, value: float) -> None: ...
    def merge(self, other: "Mean") -> None: ...
    def evaluate(self) -> float | None: ...


class Needy(Mean):
    def __init__(self, size: int) -> None: ...


class Shared(Mean):
    seen: list[str] = []  # noqa: RUF012


class Mergeless:
    count: int = 0

    def update(self, value: float) -> None: ...
    def evaluate(self) -> float: ...


class Stateless:
    def update(self, value: float) -> None: ...
    def merge(self, other: Any) -> None: ...
    def evaluate(self) -> float: ...


class Forgetful(Stateless):
    def state(self) -> tuple[int, list[str]]: ...
    def restore(self, count: int) -> None: ...


class OddRetract(Mean):
    def retract(self, value: str) -> None: ...


class Slotted(Stateless):
    __slots__ = ("count",)
    count: int


def test_an_aggregate_class_gives_its_sql_types():
    assert check(aggregate, Mean) == "p.f(value DOUBLE) -> DOUBLE"


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        (nothing, "is not a class; an aggregate is a class with update, merge and evaluate"),
        (Needy, r"Needy\(\) must work without arguments"),
        (Shared, "state attribute 'seen' is shared by all groups; set it in __init__"),
        (Mergeless, r"has no method merge\(self, other\)"),
        (Stateless, "has no state: annotate its attributes"),
        (Forgetful, "restore must take what state returns"),
        (OddRetract, "retract must take the parameters of update"),
    ],
)
def test_an_invalid_aggregate_class_is_refused_with_the_reason(target, complaint):
    with pytest.raises(TypeError, match=complaint):
        check(aggregate, target)


class Prime(NamedTuple):
    position: int
    value: int | None


class Odd(NamedTuple):
    value: dict


def test_a_table_functions_result_names_its_columns():
    def primes(limit: int, start: int = 2) -> Iterator[Prime]: ...

    columns = "TABLE(position BIGINT, value BIGINT)"
    assert check(table_function, primes) == f"p.f(limit BIGINT, [start BIGINT]) -> {columns}"

    def arrow() -> pa.Table: ...

    assert check(table_function, arrow) == "p.f() -> TABLE"


@pytest.mark.parametrize(
    ("hint", "complaint"),
    [
        (list[int], "does not name its columns; expected list"),
        (None, "does not name its columns; expected list"),
        (list[Odd], "column 'value': dict is not a SQL type"),
        (pa.Array, "Array is not a table; expected list"),
    ],
)
def test_a_result_without_columns_is_refused(hint, complaint):
    def f(): ...

    f.__annotations__ = {"return": hint}
    with pytest.raises(TypeError, match=complaint):
        check(table_function, f)


def test_kinds_need_no_engine():
    """Plugin authors mark and check their functions where neither pyarrow nor an engine is."""
    code = """
        import sys
        sys.modules["pyarrow"] = sys.modules["datafusion"] = None  # importing them raises
        from epochal import Export
        from epochal.kinds import aggregate, scalar, table_function, window
        @scalar
        def f(x: float) -> list[float]: ...
        scalar.validate(Export(scalar, "p.f", "p", scalar.options(), f))
        print("checked")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "checked\n"), done.stderr


def _decorated(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args)

    return inner


def _plain(x: int, y: float = 1.0) -> float:
    return x * y


def _options(x: int, *, strict: bool = False) -> int:
    return x


def _shown(x: int) -> int:
    return x


_shown.__signature__ = inspect.Signature(
    [inspect.Parameter("z", inspect.Parameter.POSITIONAL_ONLY, default=3)]
)
_shown.__annotations__ = {"z": int, "return": int}


@pytest.mark.parametrize("function", [_plain, _decorated(_plain), _options, _shown])
def test_the_parameters_are_those_that_inspect_shows(function):
    shown = inspect.signature(function).parameters.values()
    assert [(one.name, one.required) for one in read_signature(function).parameters] == [
        (one.name, one.default is one.empty) for one in shown if one.kind is not one.KEYWORD_ONLY
    ]
