"""A host author's code as a type checker sees it. Checked by mypy and pyright; never run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, assert_type

from epochal import (
    Cutover,
    Epoch,
    Export,
    Generation,
    Handover,
    Kind,
    LifecycleState,
    Opened,
    Runtime,
)
from epochal.kinds.hook import Hook, Verdict
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
    assert_type(await rt.aload("web.py"), Cutover)
    assert_type(await rt.areload("web"), Cutover)
    assert_type(await rt.aremove("web"), Cutover)
    async with rt.achange() as change:
        change.reload("web")


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
