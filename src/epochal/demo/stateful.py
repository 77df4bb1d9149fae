"""The stateful demonstration: plugins that keep state are reloaded under load; nothing is lost.

A service, a stream, an index and a job run as plugins; each is used all the time and reloaded again
and again, also with versions that cannot take over. Each part counts its uses outside of the
plugin, and compares the count with the plugin's state.
"""

from __future__ import annotations

import gc
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from epochal import Runtime
from epochal.demo.report import verdict, zero
from epochal.demo.screen import lines_now_and_then
from epochal.demo.stateful_parts import PARTS, Bench
from epochal.errors import EpochalError, HandOverError, IncompatibleError, InitError
from epochal.events import GenerationLeaked
from epochal.examples import path as example

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from rich.console import Console, RenderableType

    from epochal.demo.stateful_parts import Life, Part
    from epochal.events import Event

_BROKEN_EVERY: Final = 6
_SAMPLE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class PartResult:
    """The uses of one part, compared with the state of its plugins."""

    part: str
    plugins: str
    did: int  # uses
    unit: str
    lost: int = 0  # uses whose effect is missing
    doubled: int = 0  # uses whose effect is there more than once
    remark: str = ""

    @property
    def passed(self) -> bool:
        """Whether it was used, and every use took effect once."""
        return self.did > 0 and not self.lost and not self.doubled


@dataclass(frozen=True, slots=True)
class StatefulReport:
    """The figures of one run."""

    seconds: float  # in which plugins were changed
    reloads: int  # published changes
    refused: int  # versions that could not take over, and were rolled back
    pause_ms: dict[str, float]  # the longest pause of each plugin
    leaked: int  # generations whose memory did not come back
    verdicts: Sequence[PartResult]
    faults: Sequence[str]

    @property
    def passed(self) -> bool:
        """Whether every part passed, without a fault or a leak."""
        parts = all(part.passed for part in self.verdicts)
        return parts and not self.faults and not self.leaked and self.refused > 0

    def as_dict(self) -> dict[str, Any]:
        """The figures for machines."""
        return {**asdict(self), "passed": self.passed}


class StatefulDemonstration:
    """One run: so many reloads, spread over so many seconds.

    The run writes its attributes, the screen reads them.
    """

    def __init__(self, seconds: float, reloads: int) -> None:
        self._seconds: Final = seconds
        self._reloads: Final = reloads
        self.published = 0
        self.refused = 0
        self._dids: Final[list[tuple[Part, Callable[[], int]]]] = []
        self._pause_ms: Final[dict[str, float]] = {}
        self._faults: Final[list[str]] = []
        self._leaks: Final[list[str]] = []

    def so_far(self) -> list[PartResult]:
        """The parts as they are now, not judged yet."""
        return [_result(part, did()) for part, did in self._dids]

    def run(self, on_sample: Callable[[], object]) -> StatefulReport:
        """Run it all; every plugin is removed by then, also when this raises.

        Args:
            on_sample: called after each reload, and ten times a second between two.
        """
        with (
            tempfile.TemporaryDirectory(prefix="epochal-demo-") as folder,
            Runtime() as rt,
            ExitStack() as ends,
        ):
            rt.events.subscribe(self._on_event)
            lives = []
            for part in PARTS:
                bench = Bench(rt, Path(folder), self._faults, ends)
                ends.callback(bench.stop)
                life = part.life(bench)
                self._dids.append((part, next(life)))
                lives.append(life)
            started = monotonic()
            self._change(rt, Path(folder), on_sample)
            seconds = monotonic() - started
            results = [
                _judge(part, did, life) for (part, did), life in zip(self._dids, lives, strict=True)
            ]
        gc.collect()
        return StatefulReport(
            seconds=seconds,
            reloads=self.published,
            refused=self.refused,
            pause_ms={plugin: round(ms, 2) for plugin, ms in self._pause_ms.items()},
            leaked=len(self._leaks),
            verdicts=results,
            faults=[*self._faults, *self._leaks],
        )

    def _change(self, rt: Runtime, folder: Path, on_sample: Callable[[], object]) -> None:
        """Publish the changes, spread over the time; now and then a version cannot take over."""
        releases = self._releases(folder / "releases")
        waiting = threading.Event()
        started = monotonic()
        for number in range(1, self._reloads + 1):
            plugin, path, broken = next(releases)
            if number % _BROKEN_EVERY == 0:
                self._refuse(rt, plugin, broken)
            for swap in rt.reload(plugin, path).swaps:
                if swap.pause_ms is not None:
                    longest = max(self._pause_ms.get(plugin, 0.0), swap.pause_ms)
                    self._pause_ms[plugin] = longest
            self.published += 1
            due = started + number * self._seconds / self._reloads
            on_sample()  # also if reloads take all the time
            while (left := due - monotonic()) > 0.0:
                waiting.wait(min(left, _SAMPLE_S))
                on_sample()

    def _refuse(self, rt: Runtime, plugin: str, path: Path) -> None:
        epoch = rt.epoch.number
        try:
            rt.reload(plugin, path)
        except (IncompatibleError, HandOverError, InitError):
            self.refused += 1
        except EpochalError as error:
            self._faults.append(f"{plugin}: refused for another reason: {error}")
        else:
            self._faults.append(f"{plugin}: a version that cannot take over was published")
        if rt.epoch.number > epoch:
            self._faults.append(f"{plugin}: a refused change published epoch {rt.epoch.number}")

    def _releases(self, folder: Path) -> Iterator[tuple[str, Path, Path]]:
        """For each plugin in turn, a new version of it, and a broken one."""
        turns = [(part, plugin) for part in PARTS for plugin in part.broken]
        for number, (part, plugin) in enumerate(cycle(turns), 1):
            source = example(plugin).read_text(encoding="utf-8")
            source = source.replace('version = "1.0.0"', f'version = "1.{number}.0"')
            whole, spoiled = part.broken[plugin]
            assert whole in source, f"{plugin} was changed: {whole!r} is not in it"
            good, broken = (folder / kind / f"{plugin}.py" for kind in ("good", "broken"))
            for path, text in ((good, source), (broken, source.replace(whole, spoiled))):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            yield plugin, good, broken

    def _on_event(self, event: Event) -> None:
        if isinstance(event, GenerationLeaked):
            leaks = "; ".join(map(str, event.leaks))
            self._leaks.append(f"{event.plugin}#{event.generation}: {leaks}")


def _judge(part: Part, did: Callable[[], int], life: Life) -> PartResult:
    """Let a part stop and compare."""
    try:
        next(life)
    except StopIteration as end:
        return _result(part, did(), *end.value)
    raise AssertionError(f"part {part.name} yields more than once")


def _result(part: Part, did: int, *found: Any) -> PartResult:
    return PartResult(part.name, ", ".join(part.broken), did, part.unit, *found)


@contextmanager
def follow_stateful(
    demonstration: StatefulDemonstration, console: Console
) -> Generator[Callable[[], None]]:
    """Show the parts for as long as the block runs: live in a terminal, else a line now and then.

    Yields:
        A function to call after each sample.
    """

    def changes() -> str:
        return f"{demonstration.published} reloads, {demonstration.refused} refused"

    def line() -> str:
        parts = ", ".join(f"{part.did:,} {part.unit}" for part in demonstration.so_far())
        return f"{changes()}; {parts}"

    def screen() -> RenderableType:
        head = Text("plugins that keep state are reloaded while they work\n", "bold")
        parts = _table(demonstration.so_far(), judged=False)
        return Group(head, parts, Text(), Text(changes()))

    if not console.is_terminal:
        yield lines_now_and_then(console, line)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda: live.update(screen(), refresh=True)


def show_stateful(report: StatefulReport) -> RenderableType:
    """The report as a page."""
    pauses = ", ".join(f"{plugin} {ms:.1f} ms" for plugin, ms in sorted(report.pause_ms.items()))
    summary = (
        f"{report.reloads} reloads in {report.seconds:.0f} s; {report.refused} more could not take "
        "over and were refused, as they must be"
    )
    return Group(
        Text(),
        _table(report.verdicts, judged=True),
        Text(),
        Text(summary),
        Text(f"longest pauses while state moved: {pauses}", "dim"),
        zero(report.leaked, "generations leaked"),
        Text(),
        *verdict(report.faults, passed=report.passed),
    )


def _table(results: Sequence[PartResult], *, judged: bool) -> Table:
    """The parts, a line each; their losses are known once they are judged."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(min_width=8, style="bold")
    table.add_column(justify="right", min_width=9)
    table.add_column(min_width=16)
    for _ in range(2):
        table.add_column(justify="right")
    table.add_column(style="dim")
    for part in results:
        lost, doubled = (
            (zero(part.lost, "lost"), zero(part.doubled, "doubled")) if judged else ("", "")
        )
        table.add_row(part.part, f"{part.did:,}", part.unit, lost, doubled, part.remark)
    return table
