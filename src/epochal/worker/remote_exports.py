"""Exports that are sent: small objects that find their epoch in whatever process they are called.

One has the address of the share, the epoch's id, and the kind and name of the export: about two
hundred bytes in a pickle. It holds no code and no lease. Each call looks the export up in this
process (`epochal.worker.epochs`), which builds the epoch if it is not there, and the call's own
frame holds the generation while it runs. In the process that made it, while the epoch lives, it is
the epoch's own export.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from epochal._core.generation.kind import Kind, kind_at
from epochal._core.sync.forks import free_in_child
from epochal.errors import EpochUnavailableError, HostError, LocalExportError
from epochal.share.heartbeat import process_name
from epochal.share.share import Share
from epochal.worker.process_epochs import ProcessEpochs

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    from epochal._core.generation.epoch import Epoch

# The epochs of this process that were sent from here, by the share's address and id: what comes
# back is the epoch itself. Any thread adds, in one step; an epoch leaves it when it dies.
_sent: Final[WeakValueDictionary[tuple[str, str], Epoch]] = WeakValueDictionary()


class RemoteExport:
    """An export of an epoch, to be called in any process that reaches the share.

    Made by `epoch.remote[kind]["plugin.name"]`. A call raises `EpochUnavailableError` where the
    epoch cannot be had, and otherwise does what the export does.

    Attributes:
        epoch: the id of the epoch.
        name: the export's full name.
    """

    __slots__ = ("_kind", "_local", "_share", "epoch", "name")

    def __init__(self, share: str, epoch: str, kind: str, name: str, *, local: bool) -> None:
        self._share: Final = share
        self.epoch: Final = epoch
        self._kind: Final = kind
        self.name: Final = name
        self._local: Final = local

    def resolve(self) -> Any:
        """The export itself, in this process: it holds its generation in use.

        Raises:
            EpochUnavailableError: the epoch cannot be had here.
            UnknownExportError: the epoch has no such export.
        """
        kind = kind_at(self._kind)
        return self.epoch_here().find(kind, self.name)

    def epoch_here(self) -> Epoch:
        """Its epoch, in this process; holding it holds its generations in use.

        Raises:
            EpochUnavailableError: the epoch cannot be had here.
        """
        return _epoch_at(self._share, self.epoch, local=self._local)

    def __call__(self, /, *args: Any, **kw: Any) -> Any:
        """Call the export in this process."""
        return self.resolve()(*args, **kw)

    def __reduce__(self) -> tuple[Callable[..., RemoteExport], tuple[Any, ...]]:
        facts = (self._share, bytes.fromhex(self.epoch), self._kind, self.name)
        return _export, (*facts, True) if self._local else facts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteExport) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[object, ...]:
        return self._share, self.epoch, self._kind, self.name, self._local

    @property
    def __name__(self) -> str:
        return self.name.rpartition(".")[2]

    def __repr__(self) -> str:
        return f"<remote {self._kind.partition(':')[2]} {self.name} of epoch {self.epoch[:12]}>"


def _export(share: str, epoch: bytes, kind: str, name: str, local: bool = False) -> RemoteExport:
    return RemoteExport(share, epoch.hex(), kind, name, local=local)


def _epoch(share: str, epoch: bytes) -> Epoch:
    return _epoch_at(share, epoch.hex(), local=False)


def _epoch_at(share: str, epoch: str, *, local: bool) -> Epoch:
    """An epoch that was sent: itself in its own process, or as this one builds it."""
    near = _sent.get((share, epoch))
    if near is not None:
        return near
    try:
        here = epochs(share)
    except HostError as error:  # the share cannot be reached from here
        raise EpochUnavailableError(str(error), epoch=epoch, worker=process_name()) from error
    return here.get(epoch, local=local)


class RemoteKind(Mapping[str, RemoteExport]):
    """The exports of one kind, as they are sent."""

    __slots__ = ("_epoch", "_kind", "_local", "_share")

    def __init__(self, share: Share, epoch: Epoch, kind: Kind[Any], *, local: bool) -> None:
        self._share: Final = share
        self._epoch: Final = epoch
        self._kind: Final = kind
        self._local: Final = local

    def __getitem__(self, name: str) -> RemoteExport:
        """An export, to be sent.

        Raises:
            UnknownExportError: the epoch has no such export.
            LocalExportError: it belongs to one process, or its plugin has an export that does.
        """
        self._epoch.export(self._kind, name)
        if not self._local and (local := self._belonging(name.partition(".")[0])):
            raise LocalExportError(f"{self._kind.name} {name}", local)
        return RemoteExport(
            self._share.url, self._epoch.id, self._kind.address, name, local=self._local
        )

    def _belonging(self, plugin: str) -> list[str]:
        """What a plugin and those that it requires have that belongs to one process."""
        todo, seen, found = [plugin], {plugin}, list[str]()
        while todo:
            generation = self._epoch.generations[todo.pop()]
            found += generation.local_exports()
            todo += [required for required in generation.requires if required not in seen]
            seen.update(generation.requires)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._epoch[self._kind])

    def __len__(self) -> int:
        return len(self._epoch[self._kind])


class SharedTables:
    """The exports of an epoch as they are sent: `epoch.remote`."""

    __slots__ = ("_epoch", "_local", "_share")

    def __init__(self, share: Share, epoch: Epoch, *, local: bool = False) -> None:
        self._share: Final = share
        self._epoch: Final = epoch
        self._local: Final = local

    def __call__(self, *, local: bool = False) -> SharedTables:
        """The same, where `local` lets plugins cross that have exports of one process."""
        return SharedTables(self._share, self._epoch, local=local)

    def __getitem__(self, kind: Kind[Any]) -> Mapping[str, Any]:
        _ = self._epoch[kind]  # refuses what is not a kind, and says what a key is
        return RemoteKind(self._share, self._epoch, kind, local=self._local)


class SharedSource:
    """Has the epochs of one process sent by their ids.

    Args:
        share: where other processes get them from.
    """

    __slots__ = ("_share",)

    def __init__(self, share: Share) -> None:
        self._share: Final = share

    def tables(self, epoch: Epoch) -> SharedTables:
        """The exports of an epoch, to be sent."""
        self._send(epoch)
        return SharedTables(self._share, epoch)

    def reduce(self, epoch: Epoch) -> tuple[Callable[..., Epoch], tuple[Any, ...]]:
        """How an epoch is pickled: by its id."""
        self._send(epoch)
        return _epoch, (self._share.url, bytes.fromhex(epoch.id))

    def _send(self, epoch: Epoch) -> None:
        self._share.ensure(epoch)
        _sent[self._share.url, epoch.id] = epoch


# --- one for each process ----------------------------------------------------------------------

# By process and address: a fork makes its own. Guarded by ``_lock``.
_epochs: Final[dict[tuple[int, str], ProcessEpochs]] = {}
_lock: Final = free_in_child(threading.Lock())


def epochs(share: str | PathLike[str] | Share, **options: Any) -> ProcessEpochs:
    """The epochs of this process from a share; the same object each time.

    Args:
        share: its address, or the share.
        **options: those of `ProcessEpochs`, for the call that makes it.

    Raises:
        HostError: the share cannot be reached; or options for what is made already.
    """
    made = share if isinstance(share, Share) else None
    url = str(share) if made is None else made.url
    with _lock:
        found = _epochs.get((os.getpid(), url))
        if found is None:
            made = Share(url) if made is None else made
            found = _epochs.get((os.getpid(), made.url))
        if found is None or found.is_closed:
            made = Share(url) if made is None else made
            found = ProcessEpochs(made, source=SharedSource(made), **options)
            _epochs[os.getpid(), made.url] = found
        elif options:
            raise HostError(f"{found!r} was made already; its options cannot change")
    return found
