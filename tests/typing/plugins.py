"""A plugin author's code as a type checker sees it. Checked by mypy and pyright; never run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import assert_type

from epochal import Kind
from epochal.kinds import (
    Hook,
    aggregate,
    data_type,
    index,
    job,
    scalar,
    service,
    sink,
    source,
    storage,
    table_function,
    window,
)

order_placed = Hook("shop.order_placed")
tool = Kind("agent.tool")


@scalar
def double(x: float) -> float:
    return 2 * x


@scalar(name="half", volatility="immutable", vectorized=True)
def halve(x: float) -> float:
    return x / 2


@window(frame=True)
def change(price: list[float]) -> float:
    return price[-1] - price[0]


@table_function
def upto(n: int) -> Iterator[tuple[int]]:
    yield from ((i,) for i in range(n))


@job(every="5s", name="tidy")
def tidy(older_than_s: float = 3.0) -> int:
    return round(older_than_s)


@job(cron="0 * * * *")
async def report() -> None: ...


@tool
def search(query: str, limit: int = 3) -> list[str]:
    return [query] * limit


@order_placed(after=["stock"], last=True)
def add_points(order: str) -> int:
    return len(order)


@aggregate(vectorized=False)
class Mean:
    total: float = 0.0


@storage(scheme="lite")
class Lite:
    path: str = ""


@service
class Limiter:
    def hit(self, user: str) -> int:
        return len(user)


@data_type
@index
@sink
@source(name="s")
class Anything:
    number: int = 0


def what_is_marked_keeps_its_type() -> None:
    assert_type(double(x=1.0), float)
    assert_type(halve(1.0), float)
    assert_type(change([1.0]), float)
    assert_type(upto(3), Iterator[tuple[int]])
    assert_type(tidy(older_than_s=2.0), int)
    assert_type(search("x", limit=2), list[str])
    assert_type(add_points("x"), int)
    assert_type(Mean().total, float)
    assert_type(Lite().path, str)
    assert_type(Limiter().hit("ada"), int)
    assert_type(Anything().number, int)
    kept: Callable[[float], float] = double
    kept(1.0)


def wrong_keywords_are_type_errors() -> None:
    """An unused `ignore` is an error, so each of these lines is one without it."""
    double("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    search(limit=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    scalar(volatilty="stable")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportUnknownMemberType]
    scalar(volatility="often")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    job(every="5s", cron="0 * * * *")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    job(tidy)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    storage(name="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    aggregate(double)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    service(gate=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    order_placed(before=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
