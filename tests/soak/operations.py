"""The operations of a soak: each uses plugins in one of the ways that hosts do, and checks itself.

An operation is a function of a `Worker`, and raises `Wrong` if it saw a violation. Cheap operations
are drawn more often, because a soak's value grows with the number of repetitions.
"""

import asyncio

from tests.soak.findings import Tally
from tests.soak.world import UsedLateError, tool

BATCH = 500
"""The number of operations between two checks of `stop`."""


class Wrong(Exception):  # noqa: N818  a finding about the runtime, not an error of the soak
    """An operation saw a violation; `args` are one of `MUST_BE_ZERO`, and the evidence."""


class Worker:
    """The state that one thread or task carries from operation to operation.

    Attributes:
        rt: the runtime.
        floor: its item 0 is the stamp of the newest pair for certain published: the changer
            writes it, workers read it before an operation begins.
        tally: the worker's counts.
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
        """Count an error that an operation raised."""
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
    """Call two functions that are only changed together, looked up in one epoch."""
    floor = worker.floor[0]
    exports = worker.rt.epoch[tool]
    left, right = exports["left.stamp"](), exports["right.stamp"]()
    if left != right:
        raise Wrong("mixed", f"left {left}, right {right}")
    if left < floor:
        raise Wrong("stale", f"{left}, though {floor} was published before")


def in_an_operation(worker):
    """Call the pair within a labelled operation, which ends explicitly."""
    with worker.rt.operation("soak") as epoch:
        left = epoch[tool]["left.stamp"]()
        right = epoch[tool]["right.stamp"]()
    if left != right:
        raise Wrong("mixed", f"left {left}, right {right}")


def required(worker):
    """Call a plugin that calls another: both must be of one epoch."""
    exports = worker.rt.epoch[tool]
    before, called, after = exports["top.stamps"]()
    base = exports["base.stamp"]()
    if before != after or called != base:
        raise Wrong("mixed", f"top {before} {after} calls base {called}, the epoch has {base}")


def at_once(worker):
    """Call in one line, so that the epoch is dropped before the function returns."""
    worker.rt.epoch[tool]["right.stamp"]()


def guest(worker):
    """Call a plugin that may or may not be loaded."""
    call = worker.rt.epoch[tool].get("guest.stamp")
    if call is not None:
        call()


def stored(worker):
    """Call a function that an earlier operation stored, then store the current one."""
    worker.stored()
    worker.stored = worker.rt.epoch[tool]["left.stamp"]


def suspended(worker):
    """Resume a generator that an earlier operation left suspended, then leave another."""
    next(worker.stream)
    worker.stream = worker.rt.epoch[tool]["left.stream"]()
    next(worker.stream)


def failing(worker):
    """Call a function that raises, and drop the error with its frames."""
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
"""The operations by weight: how often each stands here is how often it is drawn."""


def work(worker, stop, operations=OPERATIONS):
    """Run one thread's operations until `stop` is set."""
    tally = worker.tally
    while not stop.is_set():
        for operation in worker.rng.choices(operations, k=BATCH):
            try:
                operation(worker)
            except Exception as error:  # noqa: BLE001  counted, and the soak goes on
                worker.note(error)
        tally.operations += BATCH
    worker.stored = worker.stream = None


# --- in event loops ------------------------------------------------------------------------------


async def pair_around_a_pause(worker):
    """Call the pair with a pause between, in which other tasks and changes run."""
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
    """Await a plugin's coroutine function, which is suspended in the middle."""
    before, after = await worker.rt.epoch[tool]["left.poll"]()
    if before != after:
        raise Wrong("mixed", f"left {before}, then {after}")


async def streamed(worker):
    """Read a plugin's asynchronous generator, and close it half way."""
    stream = worker.rt.epoch[tool]["base.astream"]()
    first = await anext(stream)
    await asyncio.sleep(0)
    if await anext(stream) != first:
        raise Wrong("mixed", f"base {first}, then another")
    await stream.aclose()


async def in_a_thread(worker):
    """Call a plugin's function in the loop's executor."""
    await asyncio.to_thread(worker.rt.epoch[tool]["right.stamp"])


PAUSING = (pair_around_a_pause, pair_around_a_pause, pair_around_a_pause, awaited, streamed)


async def work_async(worker, stop, operations=OPERATIONS):
    """Run one task's operations until `stop` is set: twenty, then one that awaits, and so on."""
    tally = worker.tally
    count = 0
    while not stop.is_set():
        for operation in worker.rng.choices(operations, k=20):
            try:
                operation(worker)
            except Exception as error:  # noqa: BLE001  counted, and the soak goes on
                worker.note(error)
        count += 1
        pausing = in_a_thread if count % 1000 == 0 else worker.rng.choice(PAUSING)
        try:
            await pausing(worker)
        except Exception as error:  # noqa: BLE001  as above
            worker.note(error)
        tally.operations += 21
    worker.stored = worker.stream = None
