"""The visible state of a run, for the screen and the progress lines.

The runtime's events write one half (`on_event`, in the subscription's thread), a sampler the other
(`sample`, in the event loop). Readers copy: every field that they read is a number, an immutable
value that is replaced whole, or a dict or deque that is copied in one step.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Final

from epochal import LifecycleState
from epochal.demo.lanes import Phase
from epochal.events import ChangeCommitted, ChangeFailed, ChangeFinished, StateChanged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from epochal.demo.lanes import Lane, Stage
    from epochal.events import Event

SAMPLES_PER_S: Final = 10
_HISTORY: Final = 400  # samples: more than the widest terminal has columns


@dataclass(frozen=True, slots=True)
class Notice:
    """One change in the log; without an epoch it was refused, without `drained` it still drains."""

    at: float
    epoch: int | None
    text: str
    drained: str | None = None


class Board:
    """The state of a run, for people.

    Attributes:
        serving: plugin -> its active version and generation, `1.2.0 #3`; None while it is removed.
        draining: (plugin, generation) -> the start of its drain, in seconds of `time.monotonic`.
        removed: plugin -> the number of removed generations.
        published: the number of published changes, of `goal`.
        strips: for each lane, the epoch that it ran on at each sample; None between queries.
    """

    def __init__(self, stage: Stage, lanes: Sequence[Lane], goal: int) -> None:
        self.stage: Final = stage
        self.lanes: Final = lanes
        self.goal: Final = goal
        self.serving: Final[dict[str, str | None]] = {}
        self.draining: Final[dict[tuple[str, int], float]] = {}
        self.removed: Final[Counter[str]] = Counter()
        self.published = 0
        self.strips: Final = [deque[int | None](maxlen=_HISTORY) for _ in lanes]
        self._totals: Final = deque[int]([0], maxlen=SAMPLES_PER_S + 1)
        self._active: Final[dict[str, int]] = {}
        self._epochs: Final[dict[int, frozenset[str]]] = {0: frozenset()}
        self._log: Final[dict[int, Notice]] = {}
        self._started: Final = monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return monotonic() - self._started

    @property
    def epoch(self) -> int:
        """The number of the current epoch."""
        return self.stage.rt.epoch.number

    def log(self, lines: int) -> list[Notice]:
        """The last few changes, oldest first."""
        return list(self._log.copy().values())[-lines:]

    def total(self, count: str) -> int:
        """The sum of one count over all lanes."""
        return sum(lane.counts[count] for lane in self.lanes)

    def zeros(self) -> dict[str, int]:
        """The counts that must be zero, as they are now."""
        epochs = self._epochs
        missing = sum(
            absence.latest in epochs and not absence.is_rightful(epochs)
            for lane in self.lanes
            for absence in lane.absences.copy()
        )
        return {
            "failed": self.total("failed"),
            "mixed": self.total("mixed"),
            "after shutdown": self.total("used_after_shutdown"),
            "missing": missing,
        }

    def sample(self) -> None:
        """Record the epoch of each lane, and how many queries have ended."""
        for lane, strip in zip(self.lanes, self.strips, strict=True):
            strip.append(lane.epoch)
        self._totals.append(self.total("operations"))

    def rate(self) -> float:
        """Queries per second, over the last second."""
        totals = self._totals
        return (totals[-1] - totals[0]) * SAMPLES_PER_S / max(1, len(totals) - 1)

    def on_event(self, event: Event) -> None:
        """Take an event of the runtime in."""
        match event:
            case StateChanged():
                self._move(event)
            case ChangeCommitted():
                # The moves of a change come before its commit, so this is exactly the epoch.
                self._epochs[event.epoch_after] = frozenset(self._active)
                self.published += self.stage.phase is Phase.CHANGES
                text = ", ".join([self._renew(plugin) for plugin in event.plugins])
                self._log[event.change] = Notice(self.elapsed, event.epoch_after, text)
            case ChangeFailed():
                text = " ".join(event.error.split())
                self._log[event.change] = Notice(self.elapsed, None, text)
            case ChangeFinished():
                ms = event.cutover.phases_ms.get("drain", 0.0)
                old = any(swap.old is not None for swap in event.cutover.swaps)
                drained = f"drained in {ms:.0f} ms" if old else ""
                self._log[event.change] = replace(self._log[event.change], drained=drained)
            case _:
                pass

    def _move(self, event: StateChanged) -> None:
        plugin, number = key = (event.plugin, event.generation)
        if event.new is LifecycleState.ACTIVE:
            self._active[plugin] = number
        elif event.old is LifecycleState.ACTIVE:
            self.draining[key] = monotonic()
            if self._active.get(plugin) == number:  # not replaced: removed
                del self._active[plugin]
        elif event.new is LifecycleState.REMOVED and self.draining.pop(key, None) is not None:
            self.removed[plugin] += 1

    def _renew(self, plugin: str) -> str:
        """Record a plugin's active version; returns the change of it in words."""
        generation = self.stage.rt.epoch.generations.get(plugin)
        before, _, _ = (self.serving.get(plugin) or "").partition(" ")
        if generation is None:
            self.serving[plugin] = None
            return f"{plugin} removed"
        now = generation.version
        self.serving[plugin] = f"{now} #{generation.number}"
        if not before:
            return f"{plugin} {now} loaded"
        return f"{plugin} {now} re-linked" if before == now else f"{plugin} {before} → {now}"
