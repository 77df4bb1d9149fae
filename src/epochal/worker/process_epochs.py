"""The epochs of one process that runs parts of other processes' operations.

An operation carries the id of its epoch. The process that runs a part of it looks the id up here:
the epoch is there, or is built from the share, once, however many threads ask. Epochs that nothing
names and nobody used lately go again: dropping one too early is never wrong, since it is built
again, so no count of references crosses a machine's border. What runs holds its generations in use,
as everywhere, and they are shut down after their last use.

Exports that belong to one process (services, streams, jobs, indexes) do not come along: the plugins
that have them, and those that require these, are left out, unless the caller says `local`.

Which thread does what
----------------------

``_lock`` guards the tables, and nothing is built or released under it. A build is a completion in
``_builds``: the first thread that asks builds, others wait for it. Whatever ends the build settles
it: an error, which others get as well, or an interruption of that thread alone, after which one of
them builds. A thread of its own, the
keeper, runs while there is an epoch that may go; it asks the share which ones are leased, soon at
first and then ever more rarely, so that ten thousand workers do not ask all the time.
"""

from __future__ import annotations

import math
import os
import random
import sys
import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from epochal._core.change.plan import PlannedChange, Verb
from epochal._core.change.queue import ChangeQueue
from epochal._core.change.sequence import ChangeSpec, Limits
from epochal._core.change.stage import Stage, Stages
from epochal._core.generation.epoch import Epoch, EpochReader, EpochStore
from epochal._core.generation.states import LifecycleState
from epochal._core.sync.completion import Completion
from epochal._core.sync.threads import start_thread
from epochal._core.sync.weak_registry import WeakRegistry
from epochal.errors import (
    DependencyError,
    DocumentError,
    EpochalError,
    EpochUnavailableError,
    HostError,
    NoThreadError,
    PhaseTimeoutError,
    PluginError,
    ShareError,
)
from epochal.loaders.languages import loaders_for
from epochal.share.cluster import holds_of
from epochal.share.heartbeat import LEASE_S, Presence, leases_of, process_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from epochal._core.generation.epoch import EpochSource
    from epochal._core.generation.generation import Generation
    from epochal._core.plugin.document import EpochDocument, PluginRecord
    from epochal.events import EventStream
    from epochal.share.share import Share

_SOON_S: Final = 0.25
_RARELY_S: Final = 30.0
_ERRORS_KEPT: Final = 8
_TRY_AGAIN: Final = 75
"""The exit code of a process that ends for another to try: EX_TEMPFAIL of sysexits.h."""


@dataclass(frozen=True, slots=True)
class _Key:
    """One epoch in one of its two forms: with the exports that belong to one process, or not."""

    epoch: str
    local: bool


@dataclass(slots=True)
class _Built:
    """One epoch that is built, and when a caller last asked for it."""

    stage: Stage
    since: float
    used: float


class _NothingCurrent(EpochReader):
    """Has the current epoch of a process that publishes none: it has no plugins."""


class ProcessEpochs:
    """The epochs of one process, from one share. Thread-safe.

    `epochs(share)` makes it, once for each process.

    Args:
        share: the share.
        keep: how many epochs stay that no lease names: those that were used last.
        idle_s: seconds after its last use in which an epoch stays in any case.
        phase_timeout: seconds that a plugin's code may take to link or init; None for ever.
        source: where other processes get these epochs from, when they are sent on.

    Attributes:
        share: the share.
        process: this process, `host:pid`.
        events: emits what happens to the generations here.
    """

    def __init__(
        self,
        share: Share,
        *,
        keep: int = 2,
        idle_s: float = 0.25,
        phase_timeout: float | None = 30.0,
        source: EpochSource | None = None,
    ) -> None:
        self.share: Final = share
        self.process: Final = process_name()
        self._keep: Final = keep
        self._idle_s: Final = idle_s
        self._store: Final = EpochStore(_NothingCurrent(), loaders_for(None).by_language, source)
        self.events: Final[EventStream] = self._store.events
        self._queue: Final = ChangeQueue(self._store)
        self._stages: Final = Stages(self._queue)
        self._limits: Final = Limits(None, phase_timeout, None)
        self._lock: Final = threading.Lock()
        self._builds: Final[dict[_Key, Completion[None]]] = {}
        self._built: Final[OrderedDict[_Key, _Built]] = OrderedDict()  # the last used comes last
        self._errors: Final[dict[str, tuple[float, str]]] = {}
        self._keeper: threading.Thread | None = None
        self._changed: Final = threading.Event()
        self._closed = False
        self._presence: Final = Presence(share, "workers", self._said, lambda _: None, 4 * LEASE_S)

    # --- asking ------------------------------------------------------------------------------

    def get(self, epoch: str, *, local: bool = False) -> Epoch:
        """An epoch, built here if it is not; holding it holds its generations in use.

        Args:
            epoch: its id, 64 hexadecimal digits.
            local: also the plugins with exports that belong to one process; this process gets
                instances of its own.

        Raises:
            EpochUnavailableError: it cannot be had here: the share does not have it or cannot be
                read, a plugin does not load, or needs a distribution that is not installed.
            RuntimeClosedError: this was closed.
        """
        key, mine = _Key(epoch, local), Completion[None]()
        try:
            while True:
                with self._lock:
                    built = self._built.get(key)
                    if built is not None and (found := _epoch_of(built.stage)) is not None:
                        built.used = monotonic()
                        self._built.move_to_end(key)
                        return found
                    build = self._builds.setdefault(key, mine)
                if build is mine:
                    return self._build(key, mine)
                build.result()  # raises what the builder's caller gets
        except BaseException as error:
            self._give_up(key, mine, error)
            raise

    def get_or_exit(self, epoch: str, *, local: bool = False, tries: int = 3) -> Epoch:
        """As `get`, but a process in which a plugin does not load ends: its engine starts another.

        For a task that its engine runs again when the process dies: a fresh process, perhaps on
        another machine, may load what this one cannot. Before it ends, with exit code 75, the share
        has the reason (`Cluster.holds`). The error is raised, and nothing ends, once so many
        processes have failed, or where no other would know of it: the share cannot be had.

        Args:
            epoch: its id.
            local: as for `get`.
            tries: how many processes may fail to load this epoch before the error is raised.

        Raises:
            EpochUnavailableError: as `get`.
        """
        try:
            return self.get(epoch, local=local)
        except EpochUnavailableError as error:
            if error.plugin is None or self._failed_to_load(epoch) >= tries:
                raise
            print(f"epochal: ends, for another process to try: {error}", file=sys.stderr)
            sys.stderr.flush()
        # Not SystemExit: engines catch it, and then keep the process.
        os._exit(_TRY_AGAIN)

    def _failed_to_load(self, epoch: str) -> float:
        """How many processes could not load an epoch, this one among them, by what they say."""
        try:
            self._presence.write()
            holds = holds_of(self.share)
        except ShareError:
            return math.inf
        return sum(hold.epoch == epoch and bool(hold.error) for hold in holds)

    def _build(self, key: _Key, mine: Completion[None]) -> Epoch:
        """Build an epoch that other threads may wait for."""
        stage, epoch = self._stage(key)
        try:
            with self._lock:
                if not self._closed:  # else `close` has released the stage, or is about to
                    self._built[key] = _Built(stage, self.share.clock(), monotonic())
                self._errors.pop(key.epoch, None)
                del self._builds[key]
        except BaseException:  # Ctrl-C; `get` passes over what was released
            stage.release(0.0)
            raise
        # Not the epoch itself: a completion that a thread forgot would hold it.
        mine.set_result(None)
        self._tell()
        return epoch

    def _give_up(self, key: _Key, mine: Completion[None], error: BaseException) -> None:
        """Have no thread wait for a build of this one that has failed or was interrupted."""
        with self._lock:
            was_building = self._builds.get(key) is mine
            if was_building:
                del self._builds[key]
                self._note(key.epoch, error)
        if was_building and isinstance(error, Exception):
            mine.set_exception(error.with_traceback(None))
        else:  # Ctrl-C or the like is not for the others
            mine.set_result(None)
        if was_building:
            self._tell()

    def _stage(self, key: _Key) -> tuple[Stage, Epoch]:
        unavailable = partial(EpochUnavailableError, epoch=key.epoch, worker=process_name())
        try:
            return self._read_and_stage(key)
        except DependencyError as error:
            raise unavailable(
                str(error), plugin=error.plugin, distributions=error.distributions
            ) from error
        except PluginError as error:
            raise unavailable(str(error), plugin=error.plugin) from error
        except (ShareError, DocumentError, PhaseTimeoutError) as error:
            raise unavailable(str(error), plugin=getattr(error, "plugin", None)) from error

    def _read_and_stage(self, key: _Key) -> tuple[Stage, Epoch]:
        document = self.share.document(key.epoch)
        records = document.plugins if key.local else _crossing(document)
        planned = [
            PlannedChange(Verb.LOAD, plugin, self.share.candidate(record))
            for plugin, record in records.items()
        ]
        spec = ChangeSpec(
            lambda _: planned, self._limits, WeakRegistry(), holds=True, base=Epoch.bare
        )
        stage = Stage(self._stages, spec, _no_promotion).hold()
        epoch = stage.epoch
        epoch.stand_for(key.epoch)
        self.share.note(epoch)
        return stage, epoch

    def _note(self, epoch: str, error: BaseException) -> None:
        if isinstance(error, EpochalError):
            self._errors[epoch] = self.share.clock(), str(error)
            while len(self._errors) > _ERRORS_KEPT:
                del self._errors[next(iter(self._errors))]

    @property
    def held(self) -> tuple[str, ...]:
        """The ids of the epochs that are built, the last used one last."""
        with self._lock:
            return tuple(dict.fromkeys(key.epoch for key in self._built))

    @property
    def draining(self) -> tuple[Generation, ...]:
        """The generations of dropped epochs that something here still uses."""
        live = self._store.generations.live()
        return tuple(g for g in live if g.state is LifecycleState.DRAINING)

    # --- keeping -----------------------------------------------------------------------------

    def _tell(self) -> None:
        """Have the keeper look, and say in the share what is held."""
        self._changed.set()
        with self._lock:
            if self._keeper is not None or self._closed:
                return
            with suppress(NoThreadError):  # the next epoch tries again
                self._keeper = start_thread(self._keep_on, name="epochal worker keeper")

    def _keep_on(self) -> None:
        wait_s = _SOON_S
        while not self._closed:
            if self._changed.is_set():
                self._changed.clear()
                wait_s = _SOON_S
                self._say()
            spare = self._spare()
            if not spare:
                self._changed.wait()
                continue
            # Not all workers of a cluster at once: the same publish made all of them build.
            if self._changed.wait(wait_s * random.uniform(0.7, 1.3)):
                continue
            wait_s = _SOON_S if self._drop(spare) else min(2 * wait_s, _RARELY_S)

    def _spare(self) -> list[_Key]:
        """The epochs that may go, unless a lease names them."""
        with self._lock:
            keys = list(self._built)
        return keys[: max(0, len(keys) - self._keep)]

    def _drop(self, spare: Sequence[_Key]) -> bool:
        """Drop those of some epochs that are unused for a while and that no lease names."""
        try:
            leased = {lease.epoch for lease in leases_of(self.share)}
        except ShareError:
            return False  # without knowing, keep what is there
        going, now = [], monotonic()
        with self._lock:
            for key in spare:
                built = self._built.get(key)
                if built is None or key.epoch in leased or now - built.used < self._idle_s:
                    continue
                going.append(self._built.pop(key).stage)
        for stage in going:
            stage.release(0.0)
        if going:
            self._changed.set()
        return bool(going)

    def _say(self) -> None:
        # The heartbeat tries again; a worker works without being heard of.
        with suppress(ShareError, NoThreadError):
            self._presence.write()

    def _said(self, until: float) -> Mapping[str, Any]:
        with self._lock:
            holds = [{"epoch": key.epoch, "since": b.since} for key, b in self._built.items()]
            errors = [
                {"epoch": epoch, "since": at, "error": error}
                for epoch, (at, error) in self._errors.items()
            ]
        return {"until": until, "process": process_name(), "holds": holds + errors}

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def close(self, timeout: float | None = None) -> None:
        """Drop everything; each generation is shut down after its last use. Idempotent.

        Args:
            timeout: seconds to wait for that; None for as long as it takes.
        """
        with self._lock:
            self._closed = True
            self._built.clear()
        self._changed.set()
        self._queue.run_last(ChangeSpec(lambda _: [], self._limits, WeakRegistry(), reason="close"))
        self._stages.close(timeout)
        self._presence.close()

    def __enter__(self) -> ProcessEpochs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<epochs of {process_name()} from {self.share.url}: {len(self.held)} held>"


def _epoch_of(stage: Stage) -> Epoch | None:
    try:
        return stage.epoch
    except HostError:
        return None


def _no_promotion(*_: object) -> Any:
    raise HostError("a worker publishes nothing")


def _crossing(document: EpochDocument) -> dict[str, PluginRecord]:
    """The plugins that have no export of one process, nor require one that has."""
    gone = {plugin for plugin, record in document.plugins.items() if record.local}
    while more := {
        plugin
        for plugin, record in document.plugins.items()
        if plugin not in gone and not gone.isdisjoint(record.requires)
    }:
        gone |= more
    return {plugin: record for plugin, record in document.plugins.items() if plugin not in gone}
