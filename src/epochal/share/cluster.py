"""The cluster of a share, as its processes say it: who holds which epoch, and for whom."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from epochal.errors import DocumentError, ShareError
from epochal.share.heartbeat import leases_of, said_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from epochal._core.generation.generation import Generation
    from epochal.share.heartbeat import LeaseRecord
    from epochal.share.share import Share


@dataclass(frozen=True, slots=True)
class Hold:
    """One epoch that a worker holds.

    Attributes:
        worker: the worker's process, `host:pid`.
        epoch: the id of the epoch.
        since: when it was built, in seconds since 1970.
        error: why it could not be built; empty if it was.
        leases: the leases that name the epoch: what it is held for.
    """

    worker: str
    epoch: str
    since: float
    error: str = ""
    leases: tuple[LeaseRecord, ...] = ()

    def __str__(self) -> str:
        held_for = ", ".join(f"{lease.label} of {lease.process}" for lease in self.leases)
        if self.error:
            return f"{self.worker} could not load epoch {self.epoch[:12]}: {self.error}"
        return f"{self.worker} holds epoch {self.epoch[:12]} for {held_for or 'nobody'}"


class Cluster:
    """Asks the share what its processes hold; made by `Runtime.cluster`.

    A worker says so within a second of a change, and again now and then; one that died is left out
    once its word has expired.

    Args:
        share: the share.

    Attributes:
        share: the same.
    """

    __slots__ = ("share",)

    def __init__(self, share: Share) -> None:
        self.share: Final = share

    def leases(self) -> tuple[LeaseRecord, ...]:
        """The leases of all living processes, oldest first.

        Raises:
            ShareError: the share cannot be read.
        """
        return tuple(sorted(leases_of(self.share), key=lambda lease: lease.since))

    def holds(self) -> tuple[Hold, ...]:
        """Every epoch that a worker holds, or could not load.

        Raises:
            ShareError: the share cannot be read.
        """
        leases = self.leases()
        return tuple(
            replace(hold, leases=tuple(lease for lease in leases if lease.epoch == hold.epoch))
            for hold in holds_of(self.share)
        )

    def holding(self, generation: Generation) -> tuple[Hold, ...]:
        """The workers that hold a generation's code, and for whom.

        Args:
            generation: of this process; a worker's is made of the same bytes, configuration and
                grants.

        Raises:
            ShareError: the share cannot be read.
        """
        found, has = [], dict[str, bool]()
        for hold in self.holds():
            if hold.epoch not in has:
                has[hold.epoch] = self._has(hold.epoch, generation)
            if has[hold.epoch] and not hold.error:
                found.append(hold)
        return tuple(found)

    def _has(self, epoch: str, generation: Generation) -> bool:
        try:
            record = self.share.document(epoch).plugins.get(generation.plugin)
        except (ShareError, DocumentError):
            return False  # collected: the worker drops it, too
        return record is not None and record.identity == generation.identity


def holds_of(share: Share) -> list[Hold]:
    """What the workers of a share hold, or could not load, without the leases.

    Raises:
        ShareError: the share cannot be read.
    """
    return list(said_in(share, "workers", _holds))


def _holds(said: dict[str, Any]) -> Iterator[Hold]:
    for held in said["holds"]:
        error = str(held.get("error", ""))
        yield Hold(str(said["process"]), str(held["epoch"]), float(held["since"]), error)
