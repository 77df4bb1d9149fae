"""The operations of a soak: each uses plugins in one of the ways that hosts do, and checks itself.

Each is a function of a `Worker`, and raises `Wrong` if it saw what must never be seen. The cheap
ones come often: a soak is worth what it repeats.
"""

import asyncio

from tests.soak.findings import Tally
from tests.soak.world import UsedLateError, tool

BATCH = 500
"""Operations between two looks at whether to stop."""


class Wrong(Exception):  # noqa: N818  it is a finding, not an error of ours
    """An operation saw what must not be; `args` are what of `MUST_BE_ZERO`, and the evidence."""


class Worker:
    """What one thread or task carries from operation to operation.

    Attributes:
        rt: the runtime.
        floor: its item 0 is the stamp of the newest pair that was published for certain: written by
            the changer, read by workers before they begin.
        tally: what it saw.
        stored: a function taken out of an epoch some operations ago.
        stream: a generator left suspended.
    """

    def __init__(self, rt, floor, rng):
        self.rt = rt
        self.floor = floor
        self.rng = rng
        self.tally = Tally()
        self.stored = rt.epoch[tool]["left.stamp"]
        self.stream = rt.epoch[tool]["left.stream"]()

    def note(self, error):
        """Count what an operation raised."""
        if isinstance(error, Wrong):
            self.tally.note(*error.args)
        elif isinstance(error, UsedLateError):
            self.tally.note("used_after_shutdown", error)
        elif isinstance(error, KeyError):
            self.tally.note("missing", error)
        else:
            self.tally.note("failed", repr(error))


# --- in threads and in event loops ---------------------------------------------------------------


def pair(worker):
    """Two functions that are only changed together, looked up in one epoch."""
    floor = worker.floor[0]
    exports = worker.rt.epoch[tool]
    left, right = exports["left.stamp"](), exports["right.stamp"]()
    if left != right:
        raise Wrong("mixed", f"left {left}, right {right}")
    if left < floor:
        raise Wrong("stale", f"{left}, though {floor} was published before")


def in_an_operation(worker):
    """The same, with a label and a definite end."""
    with worker.rt.operation("soak") as epoch:
        left = epoch[tool]["left.stamp"]()
        right = epoch[tool]["right.stamp"]()
    if left != right:
        raise Wrong("mixed", f"left {left}, right {right}")


def required(worker):
    """A plugin that calls another: both are of one epoch."""
    exports = worker.rt.epoch[tool]
    before, theirs, after = exports["top.stamps"]()
    base = exports["base.stamp"]()
    if before != after or theirs != base:
        raise Wrong("mixed", f"top {before} {after} calls base {theirs}, the epoch has {base}")


def at_once(worker):
    """One line: the epoch is gone before the function returns."""
    worker.rt.epoch[tool]["right.stamp"]()


def guest(worker):
    """A plugin that may be there or not."""
    call = worker.rt.epoch[tool].get("guest.stamp")
    if call is not None:
        call()


def stored(worker):
    """A function kept from an earlier operation is called; then a new one is kept."""
    worker.stored()
    worker.stored = worker.rt.epoch[tool]["left.stamp"]


def suspended(worker):
    """A generator left suspended by an earlier operation goes on; then another is left."""
    next(worker.stream)
    worker.stream = worker.rt.epoch[tool]["left.stream"]()
    next(worker.stream)


def failing(worker):
    """A plugin's function raises; the error is dropped with its frames."""
    try:
        worker.rt.epoch[tool]["base.fail"]()
    except LookupError:
        return
    raise Wrong("failed", "base.fail did not raise")


OPERATIONS = (
    *[pair] * 60,
    *[at_once] * 20,
    *[required] * 10,
    *[guest] * 4,
    *[in_an_operation] * 3,
    stored,
    suspended,
    failing,
)
"""How often each comes."""


def work(worker, stop, operations=OPERATIONS):
    """One thread's operations, until `stop` is set."""
    tally = worker.tally
    while not stop.is_set():
        for operation in worker.rng.choices(operations, k=BATCH):
            try:
                operation(worker)
            except Exception as error:  # noqa: BLE001  it is counted, and the soak goes on
                worker.note(error)
        tally.operations += BATCH
    worker.stored = worker.stream = None


# --- in event loops ------------------------------------------------------------------------------


async def pair_around_a_pause(worker):
    """Other tasks, and changes, run between the two calls."""
    floor = worker.floor[0]
    epoch = worker.rt.epoch
    left = epoch[tool]["left.stamp"]()
    await asyncio.sleep(0)
    right = epoch[tool]["right.stamp"]()
    if left != right:
        raise Wrong("mixed", f"left {left}, right {right}")
    if left < floor:
        raise Wrong("stale", f"{left}, though {floor} was published before")


async def awaited(worker):
    """A coroutine function of a plugin, suspended in the middle."""
    before, after = await worker.rt.epoch[tool]["left.poll"]()
    if before != after:
        raise Wrong("mixed", f"left {before}, then {after}")


async def streamed(worker):
    """An asynchronous generator of a plugin, ended half way."""
    stream = worker.rt.epoch[tool]["base.astream"]()
    first = await anext(stream)
    await asyncio.sleep(0)
    if await anext(stream) != first:
        raise Wrong("mixed", f"base {first}, then another")
    await stream.aclose()


async def in_a_thread(worker):
    """A function of a plugin, run by the loop's executor."""
    await asyncio.to_thread(worker.rt.epoch[tool]["right.stamp"])


PAUSING = (pair_around_a_pause, pair_around_a_pause, pair_around_a_pause, awaited, streamed)


async def work_async(worker, stop, operations=OPERATIONS):
    """One task's operations, until `stop` is set: some that pause, and many between them."""
    tally = worker.tally
    count = 0
    while not stop.is_set():
        for operation in worker.rng.choices(operations, k=20):
            try:
                operation(worker)
            except Exception as error:  # noqa: BLE001  it is counted, and the soak goes on
                worker.note(error)
        count += 1
        pausing = in_a_thread if count % 1000 == 0 else worker.rng.choice(PAUSING)
        try:
            await pausing(worker)
        except Exception as error:  # noqa: BLE001  as above
            worker.note(error)
        tally.operations += 21
    worker.stored = worker.stream = None
