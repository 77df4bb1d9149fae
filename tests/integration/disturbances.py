"""Disturbs changes and `with` blocks at random instants, by seed.

`python -m tests.integration.disturbances 1000 --seed 1` makes a thousand runs.

Each run is one action of `faults.World`. At a random instant of it a timer's signal handler raises
an exception, once or over and over, or `PyThreadState_SetAsyncExc` raises one in the caller's
thread or in the change's. Meanwhile the heap may be frozen, the collector disabled, and threads may
be switched every microsecond. No turn is lost, the epoch is the old one or the new one, no thread
is left, and the next change works.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import random
import signal
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from time import perf_counter, sleep

from tests.conftest import PluginFolder
from tests.integration.faults import ACTIONS, World, call_failing, change_threads
from tests.notes import notes_of

from epochal.errors import EpochalError

WAYS = ("timer", "timer again and again", "async in the caller", "async in the change")
STATES = ("plain", "frozen", "no collector", "quick switches")


class DisturbanceError(BaseException):
    """What the disturbances raise; no code catches it by its type."""


LEFT: list[None] = []
"""An entry for each exception that the timer has yet to raise in this run."""


def ring(*_: object) -> None:
    if LEFT:
        LEFT.pop()
        raise DisturbanceError


def raise_in(thread: int, error: type[BaseException] | None) -> None:
    what = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)


class Disturber:
    """Disturbs one run.

    Args:
        way: one of `WAYS`.
        within_s: how long the action takes.
        draw: draws the instant.
    """

    def __init__(self, way: str, within_s: float, draw: random.Random) -> None:
        self._way, self._delay_s = way, max(1e-6, draw.random() * within_s)
        again_s = max(5e-4, within_s / draw.randint(2, 20))
        self._again_s = again_s if "again" in way else 0.0
        self._caller = threading.get_ident()
        self._thread = threading.Thread(target=self._raise_later, daemon=True)

    def begin(self) -> None:
        if "timer" in self._way:
            LEFT.extend([None] * (2 if self._again_s else 1))
            signal.setitimer(signal.ITIMER_REAL, self._delay_s, self._again_s)
        else:
            self._thread.start()

    def _raise_later(self) -> None:
        sleep(self._delay_s)  # the random instant: it waits for no event
        if "caller" in self._way:
            raise_in(self._caller, DisturbanceError)
        elif (thread := next((t.ident for t in change_threads()), None)) is not None:
            raise_in(thread, DisturbanceError)

    def end(self) -> None:
        """Let nothing be raised any more; to be called again if it is interrupted."""
        LEFT.clear()
        signal.setitimer(signal.ITIMER_REAL, 0)
        if self._thread.ident is not None:
            self._thread.join()
        raise_in(self._caller, None)  # what has not arrived


def enter(state: str) -> None:
    if state == "frozen":
        gc.freeze()
    elif state == "no collector":
        gc.disable()
    elif state == "quick switches":
        sys.setswitchinterval(1e-6)


def leave() -> None:
    sys.setswitchinterval(0.005)
    gc.enable()
    gc.unfreeze()


def disturbed(world: World, action: str, disturber: Disturber) -> tuple[str, int | None]:
    """Run an action; returns how it ended, and the epoch that is to stay, if that is known."""
    try:
        disturber.begin()
        return "done", call_failing(world, action, EpochalError)
    except DisturbanceError as error:
        number = world.rt.epoch.number
        if notes_of(error):
            return "committed all the same", None
        return "interrupted", number


def run_one(world: World, number: int, seed: int, spent: dict[str, float]) -> str:
    draw = random.Random(f"{seed} {number}")
    action, way, state = draw.choice(ACTIONS), draw.choice(WAYS), draw.choice(STATES)
    world.prepare(action)
    enter(state)
    disturber = Disturber(way, spent[action] * 1.2, draw)
    try:
        ended, seen = disturbed(world, action, disturber)
        disturber.end()
    except DisturbanceError:  # it came after the action, or it was the second one
        ended, seen = "interrupted outside", None
        disturber.end()
    try:
        world.check(seen)
    except BaseException as error:
        error.add_note(f"run {number} of seed {seed}: {action}, {way}, {state}: {ended}")
        raise
    finally:
        leave()
    return ended


def main() -> int:
    parser = argparse.ArgumentParser(description="disturb changes at random instants")
    parser.add_argument("runs", type=int, nargs="?", default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, ring)
    sys.unraisablehook = threading.excepthook = lambda _: None
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        world, spent = World(PluginFolder(Path(folder))), {}
        for action in ACTIONS:
            world.prepare(action)
            begun = perf_counter()
            getattr(world, action)()
            spent[action] = perf_counter() - begun
        for number in range(options.runs):
            try:
                ended = run_one(world, number, options.seed, spent)
            except DisturbanceError:  # the second one, within the handler of the first one
                signal.setitimer(signal.ITIMER_REAL, 0)
                ended = "interrupted outside"
                leave()
                world.check(None)
            counts[ended] += 1
        world.close()
    print(json.dumps(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
