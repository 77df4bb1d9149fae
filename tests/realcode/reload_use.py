"""One library used inside a plugin: called from threads, and reloaded twenty times meanwhile.

`python -m tests.realcode.reload_use` does it for all of `used_inside.USES` that are installed, each
in a process of its own, and writes the second table of docs/real-code.md; with names, for some.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import threading
import types
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from epochal import Kind, Runtime

if TYPE_CHECKING:
    from tests.realcode.used_inside import Use

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "real-code.md"
HEADING = "## Libraries that plugins use"
_TABLE = (
    HEADING
    + """

Here the library is the host's, imported once, and a plugin uses it as the library's documentation
shows: loaded, called by {callers} threads, reloaded {reloads} times meanwhile, and removed.
`make reload-libraries` does it, each in a process of its own. No call failed, nothing was
registered twice, and no thread was left. **removed**: the memory of the last version came back,
too. Where a library keeps a plugin, the last column has the line of the report, with what to do
about it; the other lines of that library try it.

| library | version | calls | failed | drained | reclaimed | removed | kept by |
|---|---|---:|---:|---|---|---|---|
"""
)
RELOADS = 20
CALLERS = 2
_PLUGIN = "plug"
_HEAD = """\
# /// plugin
# id = "plug"
# version = "{version}"
# ///
from host import tool
"""


@dataclass(slots=True)
class Outcome:
    """The measurements of one library.

    Attributes:
        library: the library.
        version: its installed version.
        calls: how many calls returned while reloads were under way.
        faults: errors and wrong results of calls.
        drained: how many old generations drained.
        reclaimed: how many old generations were reclaimed.
        leaks: the leaks in the reports of the reloads and of the removal at the end.
        failures: the errors of shutdowns.
        counts: what the plugin had registered: after the load, and after the last reload.
        threads: how many threads there were then.
    """

    library: str
    version: str
    calls: int = 0
    faults: list[str] = field(default_factory=list)
    drained: int = 0
    reclaimed: int = 0
    leaks: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    counts: tuple[str, str] = ("", "")
    threads: tuple[int, int] = (0, 0)
    removed: bool = False


def reload_under_calls(use: Use, folder: Path) -> Outcome:
    """Load a plugin that uses a library, call and reload it, and remove it."""
    outcome = Outcome(use.library, metadata.version(use.distribution))
    host: Any = types.ModuleType("host")
    sys.modules["host"] = host
    host.tool = tool = Kind("host.tool", "a host's own kind")
    exec(use.host, vars(host))
    path = folder / f"{_PLUGIN}.py"

    def write(version: int) -> Path:
        path.write_text(_HEAD.format(version=version) + dedent(use.code))
        return path

    ended, lock = threading.Event(), threading.Lock()
    seen = threading.Semaphore(0)

    def call() -> None:
        while not ended.wait(0.01):
            with rt.operation("use") as operation:
                try:
                    result = operation[tool][f"{_PLUGIN}.use"]()
                    fault = None if plain(result) == use.returns else f"returned {result!r}"
                except BaseException as error:  # noqa: BLE001  reported
                    fault = f"{type(error).__name__}: {error}"
                    del error
            with lock:
                outcome.calls += 1
                if fault is not None and fault not in outcome.faults:
                    outcome.faults.append(fault)
            seen.release()

    with Runtime(drain_timeout=30.0, phase_timeout=60.0) as rt:
        rt.load(write(0))
        rt.epoch[tool][f"{_PLUGIN}.use"]()
        before = str(eval(use.counts)), threading.active_count()
        callers = [threading.Thread(target=call, name=f"caller {i}") for i in range(CALLERS)]
        for caller in callers:
            caller.start()
        try:
            for version in range(1, RELOADS + 1):
                assert seen.acquire(timeout=60)
                _note(outcome, rt.reload(_PLUGIN, write(version)))
        finally:
            ended.set()
            for caller in callers:
                caller.join(60)
        outcome.counts = before[0], str(eval(use.counts))
        outcome.threads = before[1], threading.active_count()
        gc.collect()
        removal = rt.remove(_PLUGIN)
        outcome.removed = removal.drained and removal.reclaimed
        outcome.leaks += [str(leak) for leak in removal.leaks if str(leak) not in outcome.leaks]
    return outcome


def plain(result: object) -> object:
    """A result as JSON has it."""
    return json.loads(json.dumps(result))


def _note(outcome: Outcome, cut: Any) -> None:
    outcome.drained += cut.drained
    outcome.reclaimed += cut.drained and cut.reclaimed
    found = [*map(str, cut.leaks), *(f"not drained: {h}" for h in cut.holders)]
    outcome.leaks += [line for line in found if line not in outcome.leaks]
    outcome.failures += [f for swap in cut.swaps for f in swap.failures]


def faults_of(use: Use, outcome: Outcome) -> list[str]:
    """What is wrong with an outcome: each leak must have the remedy that is known."""
    faults = [*outcome.faults, *outcome.failures]
    if outcome.drained != RELOADS:
        faults.append(f"drained {outcome.drained} of {RELOADS}")
    if outcome.counts[0] != outcome.counts[1]:
        faults.append(f"registered {outcome.counts[0]} at first, {outcome.counts[1]} at last")
    if outcome.threads[1] > outcome.threads[0]:
        faults.append(f"{outcome.threads[0]} threads at first, {outcome.threads[1]} at last")
    if not use.kept_by:
        faults += outcome.leaks
        if outcome.reclaimed != RELOADS or not outcome.removed:
            faults.append(f"reclaimed {outcome.reclaimed} of {RELOADS}")
    elif not any(use.kept_by in leak and use.remedy in leak for leak in outcome.leaks):
        faults.append(f"no leak by {use.kept_by} with its remedy: {outcome.leaks}")
    return faults


def in_a_process(number: int) -> Outcome:
    """Do it for one, by number, in a process of its own.

    Raises:
        AssertionError: the process failed.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.realcode.reload_use", "--one", str(number)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    values = json.loads(done.stdout.splitlines()[-1])
    return Outcome(**values)


def row(use: Use, outcome: Outcome) -> str:
    """A line of the table."""
    kept = ""
    if use.kept_by:
        kept = next(leak for leak in outcome.leaks if use.kept_by in leak and use.remedy in leak)
        kept = kept.replace("|", "\\|")
    cells = (
        use.library,
        outcome.version,
        outcome.calls,
        len(outcome.faults),
        f"{outcome.drained} of {RELOADS}",
        f"{outcome.reclaimed} of {RELOADS}",
        "yes" if outcome.removed else "no",
        kept,
    )
    return f"| {' | '.join(map(str, cells))} |"


def main() -> int:
    """Do it for all or some; 0 if nothing is wrong."""
    from tests.realcode.used_inside import USES

    parser = argparse.ArgumentParser(prog="tests.realcode.reload_use", description=__doc__)
    parser.add_argument("names", nargs="*", help="libraries; all, and the page, by default")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        with TemporaryDirectory() as folder:
            outcome = reload_under_calls(USES[arguments.one], Path(folder))
        print(json.dumps(asdict(outcome)))
        return 0
    rows: list[str] = []
    good = True
    for number, use in enumerate(USES):
        if arguments.names and not use.library.startswith(tuple(arguments.names)):
            continue
        outcome = in_a_process(number)
        faults = faults_of(use, outcome)
        print(f"{'WRONG' if faults else 'ok':6}{use.library}  {'; '.join(faults)}", flush=True)
        good &= not faults
        if not faults:
            rows.append(row(use, outcome))
    if good and not arguments.names:
        write_second_table(_TABLE.format(reloads=RELOADS, callers=CALLERS) + "\n".join(rows) + "\n")
    return 0 if good else 1


def write_second_table(text: str) -> None:
    """Write the page's second part, and leave the first as it is."""
    first = PAGE.read_text().partition(HEADING)[0].rstrip()
    PAGE.write_text(f"{first}\n\n{text}")


if __name__ == "__main__":
    sys.exit(main())
