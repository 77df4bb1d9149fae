"""The stateful demonstration: plugins that keep state are reloaded under load; nothing is lost.

A service, a stream, an index and a job run as plugins; each is used all the time and reloaded again
and again, also with versions that cannot take over. Each part counts its uses outside of the
plugin, and compares the count with the plugin's state.
"""

from __future__ import annotations

import gc
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from epochal import Runtime
from epochal.demo.memory import MemoryTrack
from epochal.demo.releases import edited
from epochal.demo.report import page, verdict, zero
from epochal.demo.stateful_parts import PARTS, Bench
from epochal.errors import EpochalError, HandOverError, IncompatibleError, InitError
from epochal.examples import path as example

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from epochal.artifact import Artifact
    from epochal.demo.report import Row
    from epochal.demo.stateful_parts import Part

_BROKEN_EVERY: Final = 6
_SAMPLE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class PartResult:
    """The uses of one part, compared with the state of its plugins."""

    part: str
    plugins: str
    did: int  # uses
    unit: str
    lost: int  # uses whose effect is missing
    doubled: int  # uses whose effect is there more than once
    remark: str

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

    The run writes its attributes; the screen reads them.
    """

    def __init__(self, seconds: float, reloads: int) -> None:
        self._seconds: Final = seconds
        self._reloads: Final = reloads
        self._published = 0
        self._refused = 0
        self._counters: Final[list[tuple[Part, Callable[[], int]]]] = []
        self._pause_ms: Final[dict[str, float]] = {}
        self._faults: Final[list[str]] = []
        self._memory: Final = MemoryTrack()

    def line(self) -> str:
        """The reloads and uses so far."""
        uses = ", ".join(f"{count():,} {part.unit}" for part, count in self._counters)
        return f"{self._published} reloads, {self._refused} refused; {uses}"

    __rich__ = line  # also in a terminal

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
            rt.events.subscribe(self._memory.on_event)
            bench = Bench(rt, Path(folder), self._faults, ends)
            ends.callback(bench.stop)
            lives = {part.name: part.life(bench) for part in PARTS}
            self._counters.extend((part, next(lives[part.name])) for part in PARTS)
            started = monotonic()
            self._change(rt, on_sample)
            seconds = monotonic() - started
            bench.stop()
            verdicts = []
            for part, count in self._counters:
                try:
                    next(lives[part.name])
                except StopIteration as end:
                    about = (part.name, ", ".join(part.broken), count(), part.unit)
                    verdicts.append(PartResult(*about, *end.value))
                else:
                    raise AssertionError(f"part {part.name} yields more than once")
        gc.collect()
        leaks = self._memory.leaks.values()
        return StatefulReport(
            seconds=seconds,
            reloads=self._published,
            refused=self._refused,
            pause_ms={plugin: round(ms, 2) for plugin, ms in self._pause_ms.items()},
            leaked=len(leaks),
            verdicts=verdicts,
            faults=[*self._faults, *leaks],
        )

    def _change(self, rt: Runtime, on_sample: Callable[[], object]) -> None:
        """Publish the changes, spread over the time; now and then a version cannot take over."""
        started = monotonic()
        for number, (plugin, good, broken) in enumerate(islice(_releases(), self._reloads), 1):
            if number % _BROKEN_EVERY == 0:
                self._refuse(rt, plugin, broken)
            for swap in rt.reload(plugin, good).swaps:
                if swap.pause_ms is not None:
                    longest = max(self._pause_ms.get(plugin, 0.0), swap.pause_ms)
                    self._pause_ms[plugin] = longest
            self._published += 1
            due = started + number * self._seconds / self._reloads
            on_sample()  # also if reloads take all the time
            while (left := due - monotonic()) > 0.0:
                sleep(min(left, _SAMPLE_S))
                on_sample()

    def _refuse(self, rt: Runtime, plugin: str, broken: Artifact) -> None:
        epoch = rt.epoch.number
        try:
            rt.reload(plugin, broken)
        except (IncompatibleError, HandOverError, InitError):
            self._refused += 1
        except EpochalError as error:
            self._faults.append(f"{plugin}: refused for another reason: {error}")
        if rt.epoch.number > epoch:
            self._faults.append(f"{plugin}: a version that cannot take over was published")


def _releases() -> Iterator[tuple[str, Artifact, Artifact]]:
    """For each plugin in turn, a new version of it, and a broken one."""
    turns = [(plugin, edit) for part in PARTS for plugin, edit in part.broken.items()]
    for number, (plugin, (whole, spoiled)) in enumerate(cycle(turns), 1):
        path = example(plugin)
        assert whole in path.read_text(encoding="utf-8"), f"{plugin}: {whole!r} is not in it"
        renumbered = {'version = "1.0.0"': f'version = "1.{number}.0"'}
        yield plugin, edited(path, renumbered), edited(path, {**renumbered, whole: spoiled})


def show_stateful(report: StatefulReport) -> RenderableType:
    """The report as a page."""
    rows: list[Row] = []
    for part in report.verdicts:
        lost, doubled = zero(part.lost, "lost"), zero(part.doubled, "doubled")
        remark = Text.assemble(lost, "  ", doubled, f"  {part.remark}")
        rows.append((f"{part.did:,}", part.unit, remark))
    refused = f"{report.refused} more could not take over and were refused, as they must be"
    pauses = ", ".join(f"{plugin} {ms:.1f}" for plugin, ms in sorted(report.pause_ms.items()))
    longest = max(report.pause_ms.values(), default=0.0)
    rows += [
        ("", "", ""),
        (f"{report.reloads}", "changes published", f"in {report.seconds:.0f} s; {refused}"),
        (f"{longest:.1f}", "ms", f"the longest pause while state moved; {pauses}"),
        (zero(report.leaked), "leaked", ""),
    ]
    wrong = sum(part.lost + part.doubled for part in report.verdicts)
    return page(
        verdict(wrong, sum(part.did for part in report.verdicts), "uses"),
        rows,
        report.faults,
        ended="passed" if report.passed else "FAILED",
    )
