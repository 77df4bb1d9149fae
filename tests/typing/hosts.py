"""A host author's code as a type checker sees it. Checked by mypy and pyright; never run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, assert_type

from epochal import (
    Change,
    Cutover,
    Epoch,
    Export,
    Generation,
    Handover,
    Kind,
    LifecycleState,
    Opened,
    Operation,
    Participant,
    Runtime,
)
from epochal.asgi import epoch
from epochal.kinds.hook import Hook, Verdict
from epochal.runtime import Request, TransactionOptions
from epochal.store import AuditRecord, EpochRecord, Keep

tool: Kind[Callable[[str], list[str]]] = Kind("agent.tool")
route = Kind[Callable[[bytes], int]]("web.route")
untyped = Kind("agent.untyped")


@tool
def search(query: str) -> list[str]:
    return [query]


def reading(rt: Runtime) -> None:
    epoch = rt.epoch
    assert_type(epoch, Epoch)
    assert_type(epoch[tool], Mapping[str, Callable[[str], list[str]]])
    assert_type(epoch[tool]["web.search"]("epochs"), list[str])
    assert_type(epoch[route]["web.index"](b"/"), int)
    assert_type(epoch[untyped]["web.search"]("epochs"), Any)
    assert_type(epoch.generations["web"], Generation)
    assert_type(rt.generation("web").state, LifecycleState)
    with rt.operation("request 17") as op:
        assert_type(op[tool]["web.search"]("epochs"), list[str])


def changing(rt: Runtime) -> None:
    assert_type(rt.load("web.py"), Cutover)
    assert_type(rt.reload("web", drain_timeout=1.0), Cutover)
    assert_type(rt.remove("web", cascade=True), Cutover)
    with rt.change() as change:
        change.reload("web")
        change.load("geo.py", config={"unit": "km"}, grants={"scalar"})
        change.remove("legacy")
    assert_type(change.cutover, Cutover | None)


async def changing_in_a_loop(rt: Runtime) -> None:
    loaded = await rt.aload(Path("web.py"), config={"unit": "km"}, grants=["scalar"], reason="ada")
    assert_type(loaded, Cutover)
    assert_type(await rt.areload("web", "web2.py", drain_timeout=1.0, cancel_holders=True), Cutover)
    assert_type(await rt.aremove("web", cascade=True, drain_timeout=None), Cutover)
    assert_type(await rt.arollback("web", to=3, phase_timeout=2.0), Cutover)
    assert_type(await rt.arollback(epoch=12), Cutover)
    async with rt.achange() as change:
        change.reload("web")


async def wrong_options_are_type_errors(rt: Runtime) -> None:
    """An unused `ignore` is an error, so each of these lines is one without it."""
    rt.load("web.py", drain_timout=1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await rt.aload("web.py", drain_timout=1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await rt.areload("web", reason=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await rt.aremove("web", dry_run=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await rt.arollback("web", to=3, epoch=12)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


class Rule:
    """A host that takes part in changes, by public names alone."""

    def check(self, epoch: Epoch, newcomers: Sequence[Generation]) -> Sequence[Generation]:
        return [newcomer for newcomer in newcomers if newcomer.plugin in epoch.generations]

    def prepare(self, generation: Generation) -> None: ...

    def finish(self, *, published: bool) -> Sequence[Callable[[], object]]:
        return ()


def taking_part(rt: Runtime) -> None:
    rule: Participant = Rule()
    rt.join(rule)
    options: TransactionOptions = {"drain_timeout": 1.0, "reason": "ada"}
    assert_type(rt.change(**options).request(Request(None, source="web.py")), Change)


class PageRequest:
    """A request as Starlette and FastAPI have them."""

    scope: MutableMapping[str, Any]


def answering(request: PageRequest) -> str:
    assert_type(epoch(request), Operation)
    return " ".join(epoch(request)[tool]["web.search"]("epochs"))


def keeping() -> None:
    rt = Runtime(store="state", restore="available", keep=Keep(epochs=10))
    assert_type(rt.rollback("web", to=3, reason="ada: slow"), Cutover)
    assert_type(rt.rollback("web", to="1.0"), Cutover)
    assert_type(rt.rollback(epoch=12), Cutover)
    assert_type(rt.history(1), tuple[EpochRecord, ...])
    assert_type(rt.audit()[0], AuditRecord)
    with rt.change(reason="ada") as change:
        change.rollback("web", to=3)


def the_marker_returns_what_it_marks() -> None:
    assert_type(search("x"), list[str])


def telling(rt: Runtime) -> None:
    def note(event: Any) -> None: ...

    stop = rt.events.subscribe(note)
    stop()


class Moved:
    def __init__(self, old: Opened, new: Opened) -> None:
        self.old, self.new = old, new
        self.gate = None

    def run(self) -> None:
        self.new.instance.update(self.old.instance)

    def commit(self, offered: Any) -> None: ...

    def roll_back(self) -> None: ...


class Cache(Kind[type]):
    def open(self, export: Export) -> dict[str, int]:
        return {}

    def hand_over(self, old: Opened, new: Opened) -> Handover | None:
        return Moved(old, new)


def placing(order: str) -> object: ...


order_placed = Hook("shop.order_placed", spec=placing)


def asking(rt: Runtime) -> None:
    assert_type(order_placed.call(rt.epoch, "order"), list[Any])
    with rt.operation("order") as op:
        assert_type(order_placed.ask(op, "order"), Verdict)


async def asking_later(rt: Runtime) -> None:
    assert_type(await order_placed.acall(rt.epoch, "order"), list[Any])
    assert_type(await order_placed.aask(rt.epoch, "order"), Verdict)
