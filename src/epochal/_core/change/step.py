"""A step of a change: its name, its line in a plan, and what runs it.

The plan of a change is a list of these (`plan`), the change runs the same objects (`sequence`,
`executor`), and its report, its events and `epochal plan` print them. So they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from epochal._core.generation.generation import Generation


class StepName(StrEnum):
    """What a step does: the first word of its line, and its key in `Cutover.phases_ms`."""

    # Until the changes that were asked for earlier have ended.
    WAIT = "wait"
    # Read the artifacts and manifests that are asked for.
    READ = "read"
    # Order the change; the list of the other steps comes from here.
    PLAN = "plan"
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
    # Wait for the last use of an old generation.
    DRAIN = "drain"
    # After a drain that outlasted its limit: ask those who use the generation to stop.
    CANCEL = "cancel"
    # Call shutdown(), and close what the generation opened and acquired.
    SHUTDOWN = "shutdown"
    # Take its memory apart.
    RECLAIM = "reclaim"


COMMITS = frozenset({StepName.JOURNAL, StepName.PUBLISH})
"""The steps that a dry run stops before."""

RETIRES = frozenset({StepName.DRAIN, StepName.SHUTDOWN, StepName.RECLAIM})
"""The steps of a generation's way out; they run as its last use allows: see `retirement`."""


@dataclass(slots=True)
class Deadline:
    """How long plugin code may take.

    Attributes:
        limit_s: seconds; None for ever.
        is_cancellable: whether a change that is cancelled gives the code up. Undoing is not
            cancellable.
    """

    limit_s: float | None
    is_cancellable: bool = True
    _started: float | None = None

    def start(self) -> None:
        """Run from now on, for several steps together; otherwise each step has all of it."""
        self._started = perf_counter()

    @property
    def spent_s(self) -> float:
        """The seconds since its start; 0 if it was not started."""
        return 0.0 if self._started is None else perf_counter() - self._started

    @property
    def left_s(self) -> float | None:
        """The seconds that are left for a step that begins now; None for ever."""
        return None if self.limit_s is None else max(0.0, self.limit_s - self.spent_s)


def _unbound(step: Step) -> None:
    raise NotImplementedError(f"{step} was planned, and not made to run")


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step of a change.

    Attributes:
        name: what it does.
        plugin: the plugin that it concerns; empty for none.
        detail: the rest of its line.
        do: runs it. It may return further steps, which follow at once.
        undo: takes back what `do` did, however far that came; None if there is nothing to undo.
            Returns what went wrong, a line each.
        deadline: how long the plugin code in it may take; None for a step of our own code.
        is_needed: asked when the step's turn has come; a step that is not needed is left out.
    """

    name: StepName
    plugin: str = ""
    detail: str = ""
    do: Callable[[Step], Any] = _unbound
    undo: Callable[[], Sequence[str]] | None = None
    deadline: Deadline | None = None
    is_needed: Callable[[], bool] = _always

    def __str__(self) -> str:
        return " ".join(part for part in (self.name, self.plugin, self.detail) if part)


def retirement_steps(generation: Generation) -> tuple[Step, Step, Step]:
    """The way out of a generation; not made to run yet."""
    drain = Step(StepName.DRAIN, generation.plugin, f"generation {generation.number}")
    return drain, replace(drain, name=StepName.SHUTDOWN), replace(drain, name=StepName.RECLAIM)
