"""One run of the second act, from the first plugin to the report."""

from __future__ import annotations

import gc
import tempfile
import threading
from itertools import cycle
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

from epochal.demo.stateful.parts import PARTS
from epochal.demo.stateful.report import StatefulReport
from epochal.errors import EpochalError, HandOverError, IncompatibleError, InitError
from epochal.events import GenerationLeaked
from epochal.examples import path as example
from epochal.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from epochal.demo.stateful.parts import Part
    from epochal.demo.stateful.report import Verdict
    from epochal.events import Event

_BROKEN_EVERY: Final = 6
_SAMPLE_S: Final = 0.1


class StatefulDemonstration:
    """One run.

    Args:
        seconds: how long plugins are changed.
        reloads: how many changes are published in that time.
    """

    def __init__(self, seconds: float, reloads: int) -> None:
        self._seconds: Final = seconds
        self._reloads: Final = reloads
        # Written by the run, read by who watches.
        self.published = 0
        self.refused = 0
        self.parts: list[Part] = []
        self._pause_ms: Final[dict[str, float]] = {}
        self._faults: Final[list[str]] = []
        self._leaked: Final[list[str]] = []

    def so_far(self) -> list[Verdict]:
        """How the parts stand."""
        return [part.so_far() for part in self.parts]

    def run(self, on_sample: Callable[[], object]) -> StatefulReport:
        """Run it all; every plugin is removed by then, also where this raises.

        Args:
            on_sample: called after each reload, and ten times a second between two.
        """
        with tempfile.TemporaryDirectory(prefix="epochal-demo-") as folder, Runtime() as rt:
            rt.events.subscribe(self._on_event)
            self.parts = [part(rt, Path(folder)) for part in PARTS]
            verdicts: list[Verdict] = []
            started = monotonic()
            try:
                for part in self.parts:
                    part.load()
                    part.start()
                started = monotonic()
                self._change(rt, Path(folder), on_sample)
            finally:
                seconds = monotonic() - started
                for part in self.parts:
                    part.stop()
            verdicts += [part.judge() for part in self.parts]
        gc.collect()
        faults = [*self._faults, *(fault for part in self.parts for fault in part.faults)]
        return StatefulReport(
            seconds=seconds,
            reloads=self.published,
            refused=self.refused,
            pause_ms={plugin: round(ms, 2) for plugin, ms in self._pause_ms.items()},
            leaked=len(self._leaked),
            verdicts=verdicts,
            faults=[*faults, *self._leaked],
        )

    def _change(self, rt: Runtime, folder: Path, on_sample: Callable[[], object]) -> None:
        """Publish the changes, spread over the time; now and then one that cannot take over."""
        releases = self._releases(folder / "releases")
        waiting = threading.Event()
        started = monotonic()
        due = started
        for number in range(1, self._reloads + 1):
            plugin, path, broken = next(releases)
            if number % _BROKEN_EVERY == 0:
                self._refuse(rt, plugin, broken)
            cutover = rt.reload(plugin, path)
            self.published += 1
            for swap in cutover.swaps:
                pause = max(self._pause_ms.get(plugin, 0.0), swap.pause_ms or 0.0)
                if swap.pause_ms is not None:
                    self._pause_ms[plugin] = pause
            due = started + number * self._seconds / self._reloads
            on_sample()  # also where reloads take all the time
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
        """For each plugin in turn, a new version of it, and one that is broken."""
        folder.mkdir()
        turns = [(part, plugin) for part in self.parts for plugin in part.plugins]
        for number, (part, plugin) in enumerate(cycle(turns), 1):
            source = example(plugin).read_text(encoding="utf-8")
            source = source.replace('version = "1.0.0"', f'version = "1.{number}.0"')
            good = folder / "good" / f"{plugin}.py"
            broken = folder / "broken" / f"{plugin}.py"
            whole, spoiled = part.broken[plugin]
            assert whole in source, f"{plugin} was changed: {whole!r} is not in it"
            for path, text in ((good, source), (broken, source.replace(whole, spoiled))):
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
            yield plugin, good, broken

    def _on_event(self, event: Event) -> None:
        if isinstance(event, GenerationLeaked):
            self._leaked.append(f"{event.plugin}#{event.generation}: {'; '.join(event.leaks)}")
