"""Kill a process at random instants of a reload loop; the next one must restore its epoch (E8).

`python -m tests.crash 500 --seed 1`. This process has imported everything and runs no thread; each
trial is a fork of it. The fork restores the store, reports the epoch that it serves, and reloads
two plugins at once, over and over, until it is killed. Before each change it reports the expected
epoch, and after it the epoch that it serves. The next fork must restore the last reported epoch, or
the one that was expected next: no other, no mixture, and code that matches its digest.

`python -m tests.crash --lines` kills at every line instead: the n-th fork dies before the n-th line
that the store, or the commit and the publishing, executes in one change.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import epochal.store.store
from epochal import Runtime
from epochal.errors import InitError
from epochal.kinds import scalar
from epochal.store import Keep

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Report = tuple[str, dict[str, Any]]

PLUGINS = ("geo", "units")
SOURCE = """\
# /// plugin
# id = "{plugin}"
# version = "1.{value}"
# requires = [{requires}]
# ///
from epochal.kinds import scalar

def init(ctx):
    if {fails}:
        raise RuntimeError("on purpose")

@scalar
def value(x: int) -> int:
    return {value}
"""


def source(plugin: str, value: int, *, fails: bool = False) -> str:
    requires = '"units"' if plugin == "geo" else ""
    return SOURCE.format(plugin=plugin, value=value, requires=requires, fails=fails)


def serves(rt: Runtime) -> dict[str, Any]:
    """The current epoch, and the values that its plugins return."""
    epoch = rt.epoch
    return {
        "epoch": epoch.number,
        "id": epoch.id,
        "digests": {plugin: g.digest for plugin, g in sorted(epoch.generations.items())},
        "values": {p: epoch[scalar][f"{p}.value"](0) for p in sorted(epoch.generations)},
        "numbers": {plugin: g.number for plugin, g in sorted(epoch.generations.items())},
    }


def expected(epoch: int, value: int) -> dict[str, Any]:
    """The facts of an epoch, worked out without the library."""
    digests = {p: hashlib.sha256(source(p, value).encode()).hexdigest() for p in PLUGINS}
    parts = [
        f"{p} {hashlib.sha256(json.dumps([digests[p], {}, ['*']]).encode()).hexdigest()}\n"
        for p in PLUGINS
    ]
    identity = hashlib.sha256("".join(parts).encode()).hexdigest()
    values = dict.fromkeys(PLUGINS, value)
    return {"epoch": epoch, "id": identity, "digests": digests, "values": values}


class Fork:
    """The life of one fork, which ends when it is killed."""

    def __init__(self, folder: Path, out: int) -> None:
        self.folder, self.out = folder, out
        self.rt = Runtime(store=folder / "store", keep=Keep(epochs=4), drain_timeout=5.0)
        self.report("restored", serves(self.rt))

    def report(self, word: str, facts: dict[str, Any]) -> None:
        os.write(self.out, f"{word} {json.dumps(facts)}\n".encode())

    def loop(self, seed: int) -> None:
        choose = random.Random(seed)
        while True:
            self.change(choose.randrange(1_000_000), fails=choose.random() < 0.2)

    def change(self, value: int, *, fails: bool = False) -> None:
        if not fails:
            self.report("begin", expected(self.rt.epoch.number + 1, value))
        for plugin in PLUGINS:
            (self.folder / f"{plugin}.py").write_text(source(plugin, value, fails=fails))
        with suppress(InitError), self.rt.change() as change:
            for plugin in PLUGINS:
                if plugin in self.rt.epoch.generations:
                    change.reload(plugin)
                else:
                    change.load(self.folder / f"{plugin}.py")
        self.report("done", serves(self.rt))

    def change_and_die(self, value: int, line: int) -> None:
        """Die before the n-th line of the store and the commit, if the change has so many."""
        left = line

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal left
            code = frame.f_code
            if "epochal/store/" not in code.co_filename and code.co_name not in _STEPS:
                return None
            if event == "line":
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
            return trace

        threading.settrace(trace)
        self.change(value)
        self.report("finished", {})


_STEPS = {"_commit", "_journal", "_publish"}


def trial(
    folder: Path, live: Callable[[Fork], object], instant: tuple[int, float] | None
) -> list[Report]:
    """Run one fork and kill it; returns its reports.

    Args:
        folder: of the plugins and the store.
        live: runs in the fork.
        instant: the number of reports before it is killed, and seconds after those; None to let it
            end.
    """
    source_end, sink = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(source_end)
            live(Fork(folder, sink))
        except BaseException as error:  # noqa: BLE001  reported to the parent
            os.write(sink, f"failed {json.dumps({'error': repr(error)})}\n".encode())
        os._exit(1)
    os.close(sink)
    with os.fdopen(source_end) as reports:  # ends when the child ends
        lines: list[str] = []
        if instant is not None:
            count, delay_s = instant
            lines += [reports.readline() for _ in range(count)]
            time.sleep(delay_s)  # the random instant: it waits for no event
            os.kill(child, signal.SIGKILL)
        lines += reports.readlines()
    os.waitpid(child, 0)
    pairs = [line.split(" ", 1) for line in lines if line.endswith("\n")]
    return [(word, json.loads(facts)) for word, facts in pairs]


def without_numbers(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name != "numbers"}


class Checker:
    """Compares the forks' reports with the allowed epochs."""

    def __init__(self) -> None:
        nothing: dict[str, Any] = {"epoch": 0, "digests": {}, "values": {}}
        self.last = nothing | {"id": hashlib.sha256().hexdigest()}
        self.coming: dict[str, Any] | None = None
        self.numbers = dict.fromkeys(PLUGINS, -1)
        # `before` and `after` count forks that died in a change, by the epoch that was restored:
        # the one before the change, or the one that it made.
        self.seen = dict.fromkeys(("restored", "begin", "done", "before", "after", "finished"), 0)

    def check(self, word: str, facts: dict[str, Any]) -> None:
        if word == "failed":
            raise AssertionError(facts["error"])
        self.seen[word] += 1
        if word == "begin":
            self.coming = facts
        if word in {"begin", "finished"}:
            return
        epoch = without_numbers(facts)
        allowed = [self.last] if self.coming is None else [self.last, self.coming]
        assert epoch in allowed, f"{word} {epoch}, allowed: {allowed}"
        if word == "restored" and self.coming is not None:
            self.seen["after" if epoch == self.coming else "before"] += 1
        self._check_numbers(word, facts["numbers"])
        self.last, self.coming = epoch, None

    def _check_numbers(self, word: str, numbers: dict[str, int]) -> None:
        for plugin, number in numbers.items():
            repeated = word == "restored" and number <= self.numbers[plugin]
            assert number >= self.numbers[plugin], f"{plugin}#{number} is not new"
            assert not repeated, f"{plugin}#{number} ran before the restart"
            self.numbers[plugin] = number


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.crash", description=__doc__.splitlines()[0])
    parser.add_argument("trials", type=int, nargs="?", default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lines", action="store_true", help="at every line instead")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="at each N-th line only")
    options = parser.parse_args()
    epochal.store.store._COLLECT_AFTER = 2  # so that a trial collects artifacts
    checker = Checker()
    with tempfile.TemporaryDirectory() as folder:
        if options.lines:
            at_lines(Path(folder), checker, options.every)
        else:
            at_random(Path(folder), checker, options.trials, random.Random(options.seed))
    print(json.dumps(checker.seen))
    return 0


def at_random(folder: Path, checker: Checker, trials: int, choose: random.Random) -> None:
    for number in range(trials):
        # Counted from a report, so that a slow machine's fork gets as far as a fast one's.
        instant = choose.randrange(6), choose.uniform(0.0, 0.02)
        reports = trial(folder, partial(Fork.loop, seed=number), instant)
        for word, facts in reports:
            checker.check(word, facts)


def at_lines(folder: Path, checker: Checker, every: int) -> None:
    for line in range(0, 2_000, every):
        reports = trial(folder, partial(Fork.change_and_die, value=line, line=line), None)
        for word, facts in reports:
            checker.check(word, facts)
        if reports[-1][0] == "finished":
            return
    raise AssertionError("the change has no end")


if __name__ == "__main__":
    sys.exit(main())
