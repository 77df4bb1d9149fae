"""The report of a change: frozen records that keep nothing of any plugin alive.

`Holder`, `Straggler` and `Leak` name what keeps old code in use or in memory; `str()` of one is the
line that logs and errors print.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from epochal._core.introspect.findings import Holder, Leak, Straggler
from epochal._core.use.drain_wakeup import Drained

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Cutover", "Drained", "Holder", "Leak", "StepName", "Straggler", "Swap", "Version"]


class StepName(StrEnum):
    """The name of a step: its line in `Cutover.steps` begins with it; the key in `phases_ms`."""

    # Until the changes that were asked for earlier have ended.
    WAIT = "wait"
    # Read the artifacts and manifests that are asked for.
    READ = "read"
    # Order the change; the list of the other steps comes from here.
    PLAN = "plan"
    # Have the calls of plugins that are stopped first wait; a change without any has no such step.
    PAUSE = "pause"
    # Drain their active generations and shut them down.
    STOP = "stop"
    # Execute the plugin's code, collect and check its exports.
    LINK = "link"
    # Have kinds compare each export of the old version with the new one's.
    COMPARE = "compare"
    # Call init(), and open what kinds open.
    INIT = "init"
    # Find out what of the old generation's state moves to the new one.
    MATCH = "match"
    # Have kinds with a rule over all their exports look at what would be active.
    VALIDATE = "validate"
    # Make the next epoch, which nothing refers to yet.
    BUILD = "build"
    # Ask a host that takes part in changes whether the next epoch will do.
    CHECK = "check"
    # Have that host prepare a newcomer.
    PREPARE = "prepare"
    # Hold up the calls that would meet state on its way, and wait for those inside.
    CLOSE = "close gates"
    # Move a plugin's state.
    HAND_OVER = "hand over"
    # Store the next epoch durably.
    JOURNAL = "journal"
    # Make it the current epoch: the instant of the change.
    PUBLISH = "publish"
    # Put what plugins registered with `ctx.register` into the host's tables, and the old out.
    REGISTER = "register"
    # Wait for the last use of an old generation.
    DRAIN = "drain"
    # After a drain that outlasted its limit: ask those who use the generation to stop.
    CANCEL = "cancel"
    # Call shutdown(), and close what the generation opened and acquired.
    SHUTDOWN = "shutdown"
    # Take its memory apart.
    RECLAIM = "reclaim"


@dataclass(frozen=True, slots=True)
class Version:
    """Which code: one generation of a plugin, by number, version and digest."""

    plugin: str
    generation: int
    version: str
    digest: str

    def __str__(self) -> str:
        return f"{self.plugin}#{self.generation} {self.version} ({self.digest[:8]})"


@dataclass(frozen=True, slots=True)
class Swap:
    """The change of one plugin.

    Attributes:
        plugin: its id.
        old: the generation before; None if the plugin is new.
        new: the generation since; None if the plugin was removed.
        drained: the old generation is unused and was shut down. True if there was none.
        reclaimed: the old generation's module, functions and classes are gone (empty class shells
            may wait for the next ordinary collection), and no thread or task that its code began
            still runs. True if there was none; False while it drains.
        wakeup_us: microseconds from the last release to the drain waking; None if no release woke
            it.
        pause_ms: milliseconds for which calls of the plugin's services may have waited while its
            state was handed over, or calls of the plugin while it was stopped first; None if none
            waited.
        holders: the uses of the old generation, if it has not drained: labelled operations and
            running calls; if there are none, the holders that a look through the heap finds.
        leaks: the references that keep the old generation in memory, if it was not reclaimed.
        failures: the errors raised while the old generation was shut down.
        cleaned_up: entries of the old generation in the process's tables (log handlers, warnings
            filters, exit hooks, …), and threads and tasks that it left running, which were taken
            out or ended with it.
        dropped: exports of the old generation that the new one lacks, with the state that goes with
            them, and its own state if the new one has no place for it.
    """

    plugin: str
    old: Version | None
    new: Version | None
    drained: bool = True
    reclaimed: bool = True
    wakeup_us: float | None = None
    pause_ms: float | None = None
    holders: tuple[Holder, ...] = ()
    leaks: tuple[Leak, ...] = ()
    failures: tuple[str, ...] = ()
    cleaned_up: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The change in words: `geo 1.0 -> 1.1`, and whether the old version is still there."""
        old, new = self.old, self.new
        if old is None or new is None:
            text = f"{self.plugin} {new.version} loaded" if new else f"{self.plugin} removed"
        elif old.digest == new.digest:
            text = f"{self.plugin} {new.version} linked again"
        else:
            text = f"{self.plugin} {old.version} -> {new.version}"
        if old is not None and not (self.drained and self.reclaimed):
            is_kept = "is still in memory" if self.drained else "is still in use"
            causes: tuple[object, ...] = self.leaks if self.drained else self.holders
            by = f" ({causes[0]})" if causes else ""
            text += f", {self.plugin}#{old.generation} {is_kept}{by}"
        return text


@dataclass(frozen=True, slots=True)
class Cutover:
    """The report of one change; `print` shows it in a line.

    Attributes:
        change: the number of the change in its runtime.
        published: False for a dry run, which changed nothing.
        epoch_before: the number of the epoch that the change found.
        epoch_after: the number of the epoch that it published (the same for a dry run).
        swaps: the change of each plugin that it touched, dependencies first.
        steps: the steps that it ran, a line each, which begins with the `StepName`. For a dry run
            also those that it stopped before.
        phases_ms: milliseconds by `StepName`, for all steps of that name together.
        total_ms: milliseconds from the call to the report.
    """

    change: int
    published: bool
    epoch_before: int
    epoch_after: int
    swaps: tuple[Swap, ...] = ()
    steps: tuple[str, ...] = ()
    phases_ms: Mapping[str, float] = field(default_factory=dict)
    total_ms: float = 0.0

    def __str__(self) -> str:
        """The change in one line: `epoch 2 in 3.1 ms: geo 1.0 -> 1.1`."""
        place = f"epoch {self.epoch_after}" if self.published else "dry run, nothing changed,"
        swaps = "; ".join(map(str, self.swaps)) or "no plugin changed"
        return " ".join(f"{place} in {self.cutover_ms:.1f} ms: {swaps}".split())

    @property
    def drained(self) -> bool:
        """Whether every old generation was shut down."""
        return all(swap.drained for swap in self.swaps)

    @property
    def reclaimed(self) -> bool:
        """Whether every old generation's memory came back."""
        return all(swap.reclaimed for swap in self.swaps)

    @property
    def plugins(self) -> tuple[str, ...]:
        """The plugins that the change touched."""
        return tuple(swap.plugin for swap in self.swaps)

    @property
    def holders(self) -> tuple[Holder, ...]:
        """The uses of old generations that remain."""
        return tuple(holder for swap in self.swaps for holder in swap.holders)

    @property
    def leaks(self) -> tuple[Leak, ...]:
        """The references that keep old generations in memory."""
        return tuple(leak for swap in self.swaps for leak in swap.leaks)

    @property
    def failures(self) -> tuple[str, ...]:
        """The errors raised while old generations were shut down."""
        return tuple(failure for swap in self.swaps for failure in swap.failures)

    @property
    def cleaned_up(self) -> tuple[str, ...]:
        """Entries that old generations had left in the process's tables, and were removed."""
        return tuple(entry for swap in self.swaps for entry in swap.cleaned_up)

    @property
    def dropped(self) -> tuple[str, ...]:
        """Exports and state of old generations for which the new ones have no place."""
        return tuple(state for swap in self.swaps for state in swap.dropped)

    @property
    def lost(self) -> tuple[str, ...]:
        """Entries of new generations in the host's tables that are not there."""
        return tuple(entry for swap in self.swaps for entry in swap.lost)

    @property
    def cutover_ms(self) -> float:
        """Milliseconds of everything but waiting for other work to end (`wait` and `drain`)."""
        return sum(ms for phase, ms in self.phases_ms.items() if phase not in {"wait", "drain"})

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, ready for JSON; holders and leaks are lines."""
        swaps = [
            asdict(swap)
            | {"holders": tuple(map(str, swap.holders)), "leaks": tuple(map(str, swap.leaks))}
            for swap in self.swaps
        ]
        return asdict(self) | {
            "swaps": tuple(swaps),
            "phases_ms": dict(self.phases_ms),
            "drained": self.drained,
            "reclaimed": self.reclaimed,
        }
