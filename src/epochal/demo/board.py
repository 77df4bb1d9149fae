"""What can be seen of a run at this moment, for the screen and the progress lines.

The runtime's events write one half (`on_event`, in the subscription's thread), a sampler the other
(`sample`, in the event loop). Readers copy: every field that they read is a number, an immutable
value that is replaced whole, or a dict or deque that is copied in one step.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Final

from epochal._core.generation.states import LifecycleState
from epochal.demo.lanes import Phase
from epochal.events import ChangeCommitted, ChangeFailed, ChangeFinished, StateChanged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from epochal.demo.lanes import Lane, Stage
    from epochal.events import Event
    from epochal.report import Cutover

SAMPLES_PER_S: Final = 10
_KEPT: Final = 400
_RATE_OVER: Final = 10  # samples: queries per second are those of the last second


@dataclass(frozen=True, slots=True)
class Notice:
    """One change, as a line of the log.

    Attributes:
        at: seconds since the run began.
        epoch: number of the epoch that it made; None if it was refused.
        text: what it did, or why it was refused.
        drained_ms: how long its old generations took to fall out of use; None while they drain.
        drains: whether there are any; not where plugins only came in.
    """

    at: float
    epoch: int | None
    text: str
    drained_ms: float | None = None
    drains: bool = True


class Board:
    """The state of a run, for people.

    Args:
        stage: what the lanes share.
        lanes: who runs queries.
        goal: how many changes will be published.

    Attributes:
        lanes: as given.
        goal: as given.
        serving: plugin -> what it serves, `1.2.0 #3`; None while it is away.
        draining: (plugin, generation) -> since when, in seconds of `time.monotonic`.
        removed: plugin -> how many generations are gone.
        published: how many changes were published.
        strips: for each lane, the epoch that it ran on at each sample; None between queries.
        rates: queries per second at each sample.
    """

    __slots__ = (
        "_active",
        "_epochs",
        "_log",
        "_started",
        "_totals",
        "draining",
        "goal",
        "lanes",
        "published",
        "rates",
        "removed",
        "serving",
        "stage",
        "strips",
    )

    def __init__(self, stage: Stage, lanes: Sequence[Lane], goal: int) -> None:
        self.stage: Final = stage
        self.lanes: Final = lanes
        self.goal: Final = goal
        self.serving: Final[dict[str, str | None]] = {}
        self.draining: Final[dict[tuple[str, int], float]] = {}
        self.removed: Final[dict[str, int]] = {}
        self.published = 0
        self.strips: Final = [deque[int | None](maxlen=_KEPT) for _ in lanes]
        self.rates: Final = deque[float](maxlen=_KEPT)
        self._totals: Final = deque[int](maxlen=_RATE_OVER + 1)
        self._active: Final[dict[str, int]] = {}
        self._epochs: Final[dict[int, frozenset[str]]] = {0: frozenset()}
        self._log: Final[dict[int, Notice]] = {}
        self._started: Final = monotonic()

    # --- read --------------------------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return monotonic() - self._started

    @property
    def epoch(self) -> int:
        """The number of the current epoch."""
        return self.stage.rt.epoch.number

    @property
    def phase(self) -> Phase:
        """What goes on."""
        return self.stage.phase

    @property
    def rate(self) -> float:
        """Queries per second, over the last second."""
        return self.rates[-1] if self.rates else 0.0

    def log(self, lines: int) -> list[Notice]:
        """The last few changes, oldest first."""
        return list(self._log.copy().values())[-lines:]

    def total(self, count: str) -> int:
        """The sum of one count over all lanes."""
        return sum(getattr(lane, count) for lane in self.lanes)

    @property
    def missing(self) -> int:
        """Queries that did not find a function that was there, as far as it is known by now."""
        epochs = self._epochs
        return sum(
            absence.latest in epochs and not absence.is_rightful(epochs)
            for lane in self.lanes
            for absence in lane.absences.copy()
        )

    # --- written by the sampler ----------------------------------------------------------------

    def sample(self) -> None:
        """Note who runs on which epoch, and how many queries have ended."""
        for lane, strip in zip(self.lanes, self.strips, strict=True):
            strip.append(lane.epoch)
        self._totals.append(self.total("operations"))
        spans = len(self._totals) - 1
        if spans:
            self.rates.append((self._totals[-1] - self._totals[0]) * SAMPLES_PER_S / spans)

    # --- written by the runtime's events -------------------------------------------------------

    def on_event(self, event: Event) -> None:
        """Take in what the runtime tells."""
        match event:
            case StateChanged():
                self._move(event)
            case ChangeCommitted():
                self._commit(event)
            case ChangeFailed():
                self._note(event.change, None, " ".join(event.error.split()))
            case ChangeFinished():
                self._finish(event.change, event.cutover)
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
            self.removed[plugin] = self.removed.get(plugin, 0) + 1

    def _commit(self, event: ChangeCommitted) -> None:
        # The moves of a change are told before its commit, so this is exactly what the epoch has.
        self._epochs[event.epoch_after] = frozenset(self._active)
        words = [self._renew(plugin) for plugin in event.plugins]
        self.published += self.phase is Phase.CHANGES
        self._note(event.change, event.epoch_after, ", ".join(words))

    def _finish(self, change: int, cutover: Cutover) -> None:
        self._log[change] = replace(
            self._log[change],
            drained_ms=cutover.phases_ms.get("drain", 0.0),
            drains=any(swap.old is not None for swap in cutover.swaps),
        )

    def _renew(self, plugin: str) -> str:
        """Note what a plugin serves now; returns what became of it."""
        generation = self.stage.rt.epoch.generations.get(plugin)
        old = self.serving.get(plugin)
        if generation is None:
            self.serving[plugin] = None
            return f"{plugin} removed"
        self.serving[plugin] = f"{generation.version} #{generation.number}"
        before = old.partition(" ")[0] if old else None
        if before is None:
            return f"{plugin} {generation.version} loaded"
        if before == generation.version:
            return f"{plugin} {generation.version} re-linked"
        return f"{plugin} {before} → {generation.version}"

    def _note(self, change: int, epoch: int | None, text: str) -> None:
        self._log[change] = Notice(self.elapsed, epoch, text)
