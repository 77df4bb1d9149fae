"""The runtime: owns the current epoch and changes it.

::

    rt = Runtime()
    rt.load("plugins/geo.py")
    with rt.operation("request 17") as epoch:
        km = epoch[scalar]["geo.distance"](lat1, lon1, lat2, lon2)
    cut = rt.reload("geo")

Readers read one attribute, `Runtime.epoch`, and are done: what they got is immutable and pinned.
Writers go through `Change`, one after another, each on a thread of its own (see
`epochal._core.change.executor`).

Who reads, who writes
---------------------

``epoch`` is stored by the change that has the turn, once, and read by everybody without a lock. One
store and one load of a reference: a reader has the old epoch or the new one, whole. Read it once
for each unit of work. ``_numbers`` belongs to whoever has the turn.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, overload

from epochal._core.change.executor import Limits
from epochal._core.change.plan import PlannedChange, Verb
from epochal._core.change.queue import Changes
from epochal._core.change.request import RollbackRequest, resolve
from epochal._core.change.staging import Site
from epochal._core.change.transaction import Change
from epochal._core.generation.epoch import Epoch
from epochal._core.generation.operation import Operation
from epochal._core.generation.states import LifecycleState
from epochal._core.plugin.capabilities import DEFAULT_GRANTS, checked_grants
from epochal._core.sync.fifo_lock import FifoLock
from epochal._core.sync.threads import call_on_thread
from epochal._core.sync.weak_registry import WeakRegistry
from epochal.errors import EpochMovedError, NoStoreError
from epochal.events import EventStream, StoreFaulted
from epochal.loaders.python_namespace import PythonNamespace

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from os import PathLike
    from pathlib import Path
    from types import TracebackType

    from epochal._core.change.participant import Participant
    from epochal._core.change.transaction import Requests, Running, Source
    from epochal._core.generation.generation import Generation, Namespace
    from epochal._core.plugin.artifact import Artifact
    from epochal.report import Cutover
    from epochal.store import AuditRecord, EpochRecord, Keep, Store
    from epochal.store.restore import Restore

_ERROR_LIMIT_S: Final = 1.0
_SHOWN: Final = 12
"""So many digits of an epoch's id are shown, and name it."""


class Runtime:
    """Runs plugins and swaps them under live traffic.

    As a context manager it closes at the end of the block. Left by an error, it waits for drains
    for a second at most: the error's traceback may itself hold a plugin's frames.

    Args:
        grants: capability patterns that plugins are granted unless a load says otherwise: names of
            kinds (`"scalar"`, `"*"` for all) and of services (`"net:api.example.org"`, `"net:*"`).
            By default every kind and no service.
        drain_timeout: seconds that a change waits for old generations to fall out of use before it
            returns its report with `drained=False`; they go on draining in the background. None
            waits for ever.
        phase_timeout: seconds that a plugin's code may take to link, init or shut down. None waits
            for ever.
        pause_timeout: seconds that a plugin's services may be held up while what they keep is
            handed over to a new generation; the change is rolled back after that. None waits for
            ever.
        store: a folder in which every commit is kept before it is published. If it has one, the
            last committed epoch is restored here, from there, before this returns. None keeps
            nothing beyond the process.
        restore: where that epoch cannot be restored whole: `"strict"` refuses to start,
            `"available"` goes on without the plugins concerned and those that require them.
        keep: how much history the store keeps; None for `Keep()`.

    Raises:
        StoreError: the store cannot be opened, or the epoch in it not restored; it says why.

    Attributes:
        epoch: the current epoch. Reading it pins it; read it once for each unit of work.
        events: where the runtime tells what it does.
    """

    if TYPE_CHECKING:

        @property
        def epoch(self) -> Epoch:
            """The current epoch."""
            ...

    def __init__(
        self,
        *,
        grants: Collection[str] | None = None,
        drain_timeout: float | None = 30.0,
        phase_timeout: float | None = 30.0,
        pause_timeout: float | None = 5.0,
        store: str | PathLike[str] | None = None,
        restore: Restore = "strict",
        keep: Keep | None = None,
    ) -> None:
        self._publish(Epoch())
        self.events: Final = EventStream()
        self._grants: Final = DEFAULT_GRANTS if grants is None else checked_grants(grants)
        self._drain_timeout: Final = drain_timeout
        self._phase_timeout: Final = phase_timeout
        self._pause_timeout: Final = pause_timeout
        self._numbers: Final[defaultdict[str, itertools.count[int]]] = defaultdict(itertools.count)
        self._operations: Final[WeakRegistry[Operation]] = WeakRegistry()
        self._generations: Final[WeakRegistry[Generation]] = WeakRegistry()
        self._changes: Final = Changes()
        self._store: Final = None if store is None else self._open(store, keep)
        self._site: Final = Site(
            turn=FifoLock(),
            events=self.events,
            operations=self._operations,
            generations=self._generations,
            read=lambda: self.epoch,
            publish=self._publish,
            next_number=lambda plugin: next(self._numbers[plugin]),
            open_namespace=self._open_namespace,
            parties=WeakRegistry(),
            journal=self._store,
        )
        if self._store is not None:
            self._restore(self._store, restore)

    # --- reading -----------------------------------------------------------------------------

    def operation(self, label: str = "operation") -> Operation:
        """Pin the current epoch for one unit of work, with a name and a definite end.

        Args:
            label: what the work is; names it to whoever waits for it.

        Returns:
            A context manager that offers what an epoch offers.

        Raises:
            RuntimeClosedError: the runtime was closed.
        """
        self._changes.check_open()
        operation = Operation(self.epoch, label)
        self._operations.add(operation)
        return operation

    def generation(self, plugin: str) -> Generation:
        """The active generation of a plugin; holding it holds nothing up.

        Raises:
            UnknownPluginError: it is not active.
        """
        return self.epoch.generation(plugin)

    @property
    def draining(self) -> tuple[Generation, ...]:
        """The generations on their way out, oldest first; `holders()` of one says who uses it."""
        live = self._generations.live()
        return tuple(one for one in live if one.state is LifecycleState.DRAINING)

    # --- changing ----------------------------------------------------------------------------

    def join(self, party: Participant) -> None:
        """Give a host a say in every change but the last, for as long as the host lives.

        Args:
            party: is asked whether the next epoch will do, and meets whoever comes in before it
                is published; see `epochal._core.change.participant`. Held weakly.
        """
        self._site.parties.add(party)

    def change(
        self,
        *,
        drain_timeout: float | None = None,
        phase_timeout: float | None = None,
        pause_timeout: float | None = None,
        cancel_holders: bool = False,
        dry_run: bool = False,
        reason: str = "",
        if_epoch: str | Collection[str] | None = None,
    ) -> Change:
        """Several changes at once, all or nothing; see `Change`.

        Args:
            drain_timeout: seconds; None for the runtime's.
            phase_timeout: seconds; None for the runtime's.
            pause_timeout: seconds; None for the runtime's.
            cancel_holders: when a drain outlasts its timeout, ask who still uses the old
                generations to stop (operations are told by their `on_cancel`, asyncio tasks inside
                the old code are cancelled), and wait as long again. Nothing is shut down in use.
            dry_run: do everything short of publishing, then undo it: the report tells what would
                happen, and whatever would fail raises.
            reason: who asks for it, and why; kept in the store's history and audit log.
            if_epoch: the id of the epoch that the caller has seen, or its first 12 digits or more;
                or several, of which one must be it. If another epoch is current when the change has
                its turn, it fails with `EpochMovedError`. None for whatever it is.
        """
        limits = self._limits(
            drain_timeout, phase_timeout, pause_timeout, cancel_holders=cancel_holders
        )

        seen = (if_epoch,) if isinstance(if_epoch, str) else if_epoch

        def wishes(requests: Requests, epoch: Epoch) -> Sequence[PlannedChange]:
            if not _is_seen(epoch.id, seen):
                expected = ", ".join(seen or ())
                raise EpochMovedError(expected=expected, number=epoch.number, current=epoch.id)
            return resolve(requests, epoch, self._grants, self._store)

        def begin(requests: Requests) -> Running:
            asked = partial(wishes, requests)
            return self._changes.begin(self._site, asked, limits, dry_run=dry_run, reason=reason)

        return Change(begin)

    achange = change
    """For event loops, the same: `async with rt.achange() as change`."""

    def load(
        self,
        source: Source,
        *,
        config: Mapping[str, Any] | None = None,
        grants: Collection[str] | None = None,
        drain_timeout: float | None = None,
        phase_timeout: float | None = None,
        reason: str = "",
    ) -> Cutover:
        """Load a plugin that is not active yet.

        Args:
            source: a Python file, a package's folder, or an artifact.
            config: JSON values for the plugin's `ctx.config`.
            grants: capability patterns for this plugin; None for the runtime's.
            drain_timeout: seconds; None for the runtime's.
            phase_timeout: seconds; None for the runtime's.
            reason: as for `change`.

        Returns:
            The report. When `load` returns, operations that begin see the plugin.

        Raises:
            AlreadyLoadedError: it is active; use `reload`.
            PluginError: the plugin is at fault: its bytes, manifest, code or `init`.
            RefusedError: it does not fit: capabilities, requirements.
            PhaseTimeoutError: its code did not return in time.
            StoreWriteError: the store cannot keep it.
            HostError: called from plugin code of a running change, or on a closed runtime.
        """
        change = self.change(
            drain_timeout=drain_timeout, phase_timeout=phase_timeout, reason=reason
        )
        change.load(source, config=config, grants=grants)
        return change.run()

    async def aload(self, source: Source, **options: Any) -> Cutover:
        """`load` for event loops: same options, same result, without blocking the loop."""
        return await self._one(options, lambda change, rest: change.load(source, **rest))

    def reload(
        self,
        plugin: str,
        source: Source | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        grants: Collection[str] | None = None,
        drain_timeout: float | None = None,
        phase_timeout: float | None = None,
        cancel_holders: bool = False,
        reason: str = "",
    ) -> Cutover:
        """Replace an active plugin by a new generation; blocks until the old one has drained.

        Plugins that require it are re-linked in the same change. A drain that outlasts its timeout
        does not undo the change: the report says `drained=False` and who holds on, and the drain
        goes on in the background.

        Args:
            plugin: its id.
            source: where the new version is; None to read again where the active one came from.
            config: as for `load`; None to keep the active one's.
            grants: as for `load`; None to keep the active one's.
            drain_timeout: seconds; None for the runtime's.
            phase_timeout: seconds; None for the runtime's.
            cancel_holders: as for `change`.
            reason: as for `change`.

        Returns:
            The report.

        Raises:
            UnknownPluginError: it is not active; use `load`.
            EpochalError: as for `load`, and `IncompatibleError`; the old version goes on as if
                nothing had been asked.
        """
        change = self.change(
            drain_timeout=drain_timeout,
            phase_timeout=phase_timeout,
            cancel_holders=cancel_holders,
            reason=reason,
        )
        change.reload(plugin, source, config=config, grants=grants)
        return change.run()

    async def areload(self, plugin: str, source: Source | None = None, **options: Any) -> Cutover:
        """`reload` for event loops: same options, same result, without blocking the loop."""
        return await self._one(options, lambda change, rest: change.reload(plugin, source, **rest))

    def remove(
        self,
        plugin: str,
        *,
        cascade: bool = False,
        drain_timeout: float | None = None,
        cancel_holders: bool = False,
        reason: str = "",
    ) -> Cutover:
        """Take an active plugin out; blocks until it has drained, like `reload`.

        Args:
            plugin: its id.
            cascade: take along the plugins that require it, however indirectly.
            drain_timeout: seconds; None for the runtime's.
            cancel_holders: as for `change`.
            reason: as for `change`.

        Raises:
            UnknownPluginError: it is not active.
            RequiredByError: others require it, and `cascade` is not set.
        """
        change = self.change(
            drain_timeout=drain_timeout, cancel_holders=cancel_holders, reason=reason
        )
        change.remove(plugin, cascade=cascade)
        return change.run()

    async def aremove(self, plugin: str, **options: Any) -> Cutover:
        """`remove` for event loops: same options, same result, without blocking the loop."""
        return await self._one(options, lambda change, rest: change.remove(plugin, **rest))

    @overload
    def rollback(self, plugin: str, *, to: int | str, **options: Any) -> Cutover: ...
    @overload
    def rollback(self, *, epoch: int, **options: Any) -> Cutover: ...
    def rollback(
        self,
        plugin: str | None = None,
        *,
        to: int | str | None = None,
        epoch: int | None = None,
        **options: Any,
    ) -> Cutover:
        """Bring back what served before, from the store: a change like any other, with a new epoch.

        `rollback("geo", to=3)` and `rollback("geo", to="1.2.0")` bring one plugin back as it was:
        its code, configuration and grants, also if it was removed meanwhile. `rollback(epoch=12)`
        brings the whole set back: what is not in that epoch goes.

        Args:
            plugin: its id.
            to: the number of a generation, or a version: its newest generation.
            epoch: the number of an epoch.
            options: of `change`: `drain_timeout`, `phase_timeout`, `cancel_holders`, `reason`.

        Raises:
            NoStoreError: the runtime keeps no history.
            NotKeptError: what is asked for is not in it; the message says what is.
            EpochalError: as for `reload`; what serves goes on as if nothing had been asked.
        """
        change = self.change(**options)
        change.request(RollbackRequest(plugin, to, epoch))
        return change.run()

    async def arollback(
        self,
        plugin: str | None = None,
        *,
        to: int | str | None = None,
        epoch: int | None = None,
        **options: Any,
    ) -> Cutover:
        """`rollback` for event loops: same options, same result, without blocking the loop."""
        wanted = RollbackRequest(plugin, to, epoch)
        return await self._one(options, lambda change, _: change.request(wanted))

    # --- the record ----------------------------------------------------------------------------

    @property
    def store_folder(self) -> Path | None:
        """The folder of the store, in which hosts may keep files of their own; None for none."""
        return self._store.folder if self._store is not None else None

    def history(self, limit: int | None = None) -> tuple[EpochRecord, ...]:
        """The committed epochs that the store keeps, newest first; `limit` of them at most.

        Raises:
            NoStoreError: the runtime keeps no history.
        """
        return self._kept("history").history(limit)

    def audit(self, limit: int | None = None) -> tuple[AuditRecord, ...]:
        """Every change, committed or refused, newest first; `limit` of them at most.

        Raises:
            NoStoreError: the runtime keeps no history.
        """
        return self._kept("the audit log").audit(limit)

    # --- ending ------------------------------------------------------------------------------

    def close(
        self, *, drain_timeout: float | None = None, cancel_holders: bool = False
    ) -> Cutover | None:
        """Remove every plugin, dependents first, and take no more changes or operations.

        A store keeps the epoch that was current: the next start restores it.

        Changes that were asked for before are finished first. Operations that run go on to their
        end, within the limit; after it, they go on in the background for as long as the process
        lives.

        Args:
            drain_timeout: seconds; None for the runtime's.
            cancel_holders: as for `change`.

        Returns:
            The report; None if the runtime was closed before.
        """
        limits = self._limits(drain_timeout, cancel_holders=cancel_holders)
        started = monotonic()
        running = self._begin_close(limits)
        cutover = running.wait() if running is not None else None
        left = None if limits.drain is None else max(0.0, limits.drain - (monotonic() - started))
        self._changes.wait(left)  # generations that earlier changes left draining
        if self._store is not None:
            self._store.close()
        self.events.close()
        return cutover

    async def aclose(
        self, *, drain_timeout: float | None = None, cancel_holders: bool = False
    ) -> Cutover | None:
        """`close` for event loops."""
        closing = call_on_thread(
            lambda: self.close(drain_timeout=drain_timeout, cancel_holders=cancel_holders),
            name="epochal close",
        )
        return await asyncio.wrap_future(closing)

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(drain_timeout=self._closing_limit(error))

    async def __aenter__(self) -> Runtime:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose(drain_timeout=self._closing_limit(error))

    def _closing_limit(self, error: BaseException | None) -> float | None:
        """How long leaving the block waits for drains.

        An error on its way out may hold the plugins' frames, and waiting here would keep it from
        ever getting to whoever lets it go.
        """
        limit = self._drain_timeout
        return limit if error is None else min(_ERROR_LIMIT_S, limit or _ERROR_LIMIT_S)

    # --- inside ------------------------------------------------------------------------------

    async def _one(
        self, options: dict[str, Any], record: Callable[[Change, dict[str, Any]], None]
    ) -> Cutover:
        names = ("drain_timeout", "phase_timeout", "cancel_holders", "reason")
        change = self.change(**{name: options.pop(name) for name in names if name in options})
        record(change, options)
        return await change.run_async()

    def _limits(
        self,
        drain_timeout: float | None,
        phase_timeout: float | None = None,
        pause_timeout: float | None = None,
        *,
        cancel_holders: bool = False,
    ) -> Limits:
        return Limits(
            drain=self._drain_timeout if drain_timeout is None else drain_timeout,
            phase=self._phase_timeout if phase_timeout is None else phase_timeout,
            pause=self._pause_timeout if pause_timeout is None else pause_timeout,
            cancel_holders=cancel_holders,
        )

    def _begin_close(self, limits: Limits) -> Running | None:
        def wishes(epoch: Epoch) -> Sequence[PlannedChange]:
            return [PlannedChange(Verb.REMOVE, plugin) for plugin in epoch.generations]

        # Not committed: what the store has is what the next start serves. Nobody is asked.
        site = replace(self._site, parties=WeakRegistry())
        return self._changes.begin_last(replace(site, journal=None), wishes, limits)

    def _open(self, folder: str | PathLike[str], keep: Keep | None) -> Store:
        # Here, since some builds of Python come without sqlite3.
        from epochal.store import Store

        def warn(text: str) -> None:
            self.events.emit(StoreFaulted(error=text))

        return Store(folder, keep=keep, warn=warn)

    def _restore(self, store: Store, mode: Restore) -> None:
        from epochal.store.restore import restore_last

        def begin(site: Site, wishes: Sequence[PlannedChange]) -> Running:
            limits = self._limits(None)
            return self._changes.begin(site, lambda _: wishes, limits, reason="restart")

        try:
            restore_last(store, mode, self._site, self._numbers, begin)
        except BaseException:
            store.close()
            raise

    def _kept(self, what: str) -> Store:
        if self._store is None:
            raise NoStoreError(what)
        return self._store

    def _open_namespace(
        self, artifact: Artifact, plugin: str, generation: int, vendored: str
    ) -> Namespace:
        # Before the first epoch there are no operations that compiling could hold up.
        serves = self.epoch.number > 0
        return PythonNamespace(artifact, plugin, generation, vendored, in_subprocess=serves)

    def _publish(self, epoch: Epoch) -> None:
        # Not through `__dict__`: a plain attribute is read by its offset (3 ns instead of 12).
        self.epoch = epoch  # type: ignore[misc]  # read-only to everybody else

    def __repr__(self) -> str:
        return f"<runtime, {self.epoch!r}>"


def _is_seen(epoch_id: str, seen: Collection[str] | None) -> bool:
    """Whether an epoch is one of those that a caller has seen; None for any."""
    if seen is None:
        return True
    return any(len(one) >= _SHOWN and epoch_id.startswith(one) for one in seen)
