"""The runtime: has the current epoch, and changes it.

::

    rt = Runtime()
    rt.load("plugins/geo.py")
    with rt.operation("request 17") as epoch:
        km = epoch[scalar]["geo.distance"](lat1, lon1, lat2, lon2)
    cut = rt.reload("geo")

Readers read one attribute, `Runtime.epoch`, and are done: the epoch is immutable and pinned.
Writers go through `Change`, one after another, each on a thread of its own (see
`epochal._core.change.executor`).

Threads
-------

``epoch`` is stored by the change that has the turn, once (`epochal._core.generation.epoch`), and
read by every thread without a lock. One store and one load of a reference: a reader has the old
epoch or the new one, whole. Read it once for each unit of work, or read `snapshot()`, which is the
epoch of the operation that the caller belongs to.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, TypeVar, Unpack, cast, overload

from epochal._core.change.participant import Participant, Preparation
from epochal._core.change.plan import Verb
from epochal._core.change.queue import ChangeQueue
from epochal._core.change.request import (
    Change,
    Request,
    Requests,
    RollbackRequest,
    Source,
    remove_all,
)
from epochal._core.change.sequence import ChangeSpec, Limits
from epochal._core.change.stage import Stage, Stages
from epochal._core.generation.epoch import Epoch, EpochReader, EpochStore
from epochal._core.generation.live_export import live_export
from epochal._core.generation.operation import Operation
from epochal._core.generation.states import LifecycleState
from epochal._core.plugin.artifact import Artifact, read_artifact
from epochal._core.plugin.capabilities import DEFAULT_GRANTS, checked_grants
from epochal._core.plugin.discovery import read_folder
from epochal._core.plugin.manifest import read_manifest
from epochal._core.sync.threads import call_on_thread
from epochal._core.sync.weak_registry import WeakRegistry
from epochal.errors import HostError, NoShareError, NoStoreError, UnknownPluginError
from epochal.events import EventStream, StoreFaulted
from epochal.loaders import _worker_processes as _worker_processes  # so that pools find plugins
from epochal.loaders.languages import loaders_for

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from os import PathLike
    from pathlib import Path
    from types import TracebackType

    from epochal._core.change.journal import Journal
    from epochal._core.change.plan import PlannedChange
    from epochal._core.generation.epoch import EpochSource
    from epochal._core.generation.generation import Generation
    from epochal._core.generation.kind import Kind
    from epochal.report import Cutover
    from epochal.share import Cluster, ClusterLease, Share
    from epochal.share.publication import Publication
    from epochal.store import AuditRecord, EpochRecord, Keep, Store
    from epochal.store.restore import Restore

__all__ = [
    "Change",
    "Participant",
    "Request",
    "RollbackRequest",
    "Runtime",
    "Source",
    "Stage",
    "TransactionOptions",
    "Verb",
]

F = TypeVar("F")

_ERROR_LIMIT_S: Final = 1.0


class TransactionOptions(TypedDict, total=False):
    """The options of every change.

    A type checker refuses any other, and an editor completes these.

    Attributes:
        drain_timeout: seconds until the report comes although old generations are in use; None for
            the runtime's. (A change that is asked for within an operation and has no limit waits
            for no drain: it would wait for that operation.)
        phase_timeout: seconds that a plugin's code may take for a step; None for the runtime's.
        cancel_holders: when a drain outlasts its timeout, ask the users of the old generations to
            stop (an operation's `on_cancel` callbacks are called, asyncio tasks inside the old code
            are cancelled), and wait as long again. Nothing is shut down in use.
        on_drain_timeout: `"interrupt"` stops calls of WebAssembly plugins when a drain outlasts its
            timeout, with `GuestTimeoutError` in each, and waits as long again; the old generation
            takes no more calls. `"report"` stops nothing. Without it, the runtime's holds.
        prepare: is called, on the change's thread, with the epoch that the change would publish,
            once its plugins are up and before any state moves: `partial(epochal.ray.prepare, rt)`
            has every node of a cluster build it. Its error refuses the change. It must not keep the
            epoch, and has no time limit of the change's.
        reason: recorded in the store's history and audit log: the requester, and why.
    """

    drain_timeout: float | None
    phase_timeout: float | None
    cancel_holders: bool
    on_drain_timeout: Literal["report", "interrupt"]
    prepare: Callable[[Epoch], object] | None
    reason: str


class Runtime(EpochReader):
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
        on_drain_timeout: as for a change; holds for those that say nothing, and for `close`.
        phase_timeout: seconds that a plugin's code may take to link, init or shut down. None waits
            for ever.
        pause_timeout: seconds that a plugin's services may be held up while their state is handed
            over to a new generation; the change is rolled back after that. None waits for ever.
        store: a folder in which every commit is stored before it is published. If it has one, the
            last committed epoch is restored from there before this returns. None keeps nothing
            beyond the process.
        restore: if that epoch cannot be restored whole, `"strict"` refuses to start, `"available"`
            goes on without the plugins concerned and those that require them.
        keep: how much history the store keeps; None for `Keep()`.
        share: a folder that other processes reach, as a path or any address that fsspec knows
            (`"s3://bucket/epochs"`), or a `Share`. Every epoch is in it before it is published, so
            that they can run parts of this runtime's operations: `epoch.remote`, `lease`,
            `epochal.worker`. None for a runtime of its own.

    Raises:
        HostError: the share cannot be reached.
        StoreError: the store cannot be opened, or the epoch in it not restored; it says why.

    Attributes:
        epoch: the current epoch. Reading it pins it; read it once for each unit of work.
        events: emits what the runtime does.
    """

    def __init__(
        self,
        *,
        grants: Collection[str] | None = None,
        drain_timeout: float | None = 30.0,
        on_drain_timeout: Literal["report", "interrupt"] = "report",
        phase_timeout: float | None = 30.0,
        pause_timeout: float | None = 5.0,
        store: str | PathLike[str] | None = None,
        restore: Restore = "strict",
        keep: Keep | None = None,
        share: str | PathLike[str] | Share | None = None,
    ) -> None:
        self._publication: Final = None if share is None else self._open_share(share)
        self._loaders: Final = loaders_for(store)
        self._epochs: Final = EpochStore(self, self._loaders.by_language, self._source())
        self.events: Final[EventStream] = self._epochs.events
        self._grants: Final = DEFAULT_GRANTS if grants is None else checked_grants(grants)
        self._timeouts: Final = Limits(
            drain_timeout, phase_timeout, pause_timeout, interrupts=_interrupts(on_drain_timeout)
        )
        self._participants: Final[WeakRegistry[Participant]] = WeakRegistry()
        if self._publication is not None:
            self._participants.add(self._publication)
        self._queue: Final = ChangeQueue(self._epochs)
        self._stages: Final = Stages(self._queue)
        self._store: Final = None if store is None else self._open(store, keep)
        if self._store is not None:
            self._restore(self._store, restore)

    # --- reading -----------------------------------------------------------------------------

    def operation(self, label: str = "operation", *, epoch: Epoch | None = None) -> Operation:
        """Pin an epoch for one unit of work, with a name and a definite end.

        Within its `with` block the hosts that the code uses (SQL queries, pluggy's hooks, …) work
        in that epoch: see `Operation`. An operation that begins within another sees the same epoch,
        so that a unit of work has one, however it is divided.

        Args:
            label: names the work in reports of a drain that waits for it.
            epoch: the epoch to pin, `rt.epoch` to see the current one within another operation;
                None for that of the operation around it, or the current one if there is none, or if
                that has ended or was narrowed.

        Returns:
            A context manager that offers what an epoch offers.

        Raises:
            RuntimeClosedError: the runtime was closed.
        """
        self._queue.check_open()
        operation = Operation(self._to_pin(epoch), label, self._epochs.ambient)
        self._epochs.operations.add(operation)
        return operation

    def lease(self, label: str = "lease", *, epoch: Epoch | None = None) -> ClusterLease:
        """An operation whose epoch the share and its workers keep, too, until it ends.

        The lease is in the share from the beginning of its `with` block (or `async with`) to its
        end. It is renewed meanwhile, and expires when this process dies.

        Args:
            label: names the work, here and in `cluster`.
            epoch: as for `operation`.

        Raises:
            NoShareError: the runtime has no share.
            ShareError: as the block begins: the share cannot be written.
            RuntimeClosedError: the runtime was closed.
        """
        from epochal.share import ClusterLease

        self._queue.check_open()
        book = self._shared().book
        lease = ClusterLease(self._to_pin(epoch), label, self._epochs.ambient, book)
        self._epochs.operations.add(lease)
        return lease

    @property
    def cluster(self) -> Cluster:
        """The processes that use this runtime's share, and what they hold.

        Raises:
            NoShareError: the runtime has no share.
        """
        from epochal.share import Cluster

        return Cluster(self._shared().share)

    def _to_pin(self, epoch: Epoch | None) -> Epoch:
        if epoch is None:
            outer = self._epochs.ambient.operation()
            epoch = outer.pinned if outer is not None else None
        return self.epoch if epoch is None else epoch

    def current_operation(self) -> Operation | None:
        """The operation whose `with` block this code runs in, also if it has ended meanwhile."""
        return self._epochs.ambient.operation()

    def snapshot(self) -> Epoch:
        """The epoch that this code works in: of its operation, or the current one outside of any.

        A host reads it once for each call, where a unit of work reads `epoch`: then all hosts that
        an operation uses agree, across any reload.

        Raises:
            OperationEndedError: the operation has ended, or has dropped its epoch with `narrow`.
        """
        operation = self._epochs.ambient.operation()
        return self.epoch if operation is None else operation.epoch

    def live(self, kind: Kind[F], name: str) -> F:
        """An export as a callable to keep: each call goes to the version of its caller's epoch.

        For programs that ask for a function once, as they start, and call it for ever: routes, SQL
        functions of a connection, callbacks. It holds no version in use between its calls.

        Args:
            kind: the export's kind.
            name: its full name, `plugin.name`.

        Returns:
            The callable. It keeps this runtime, and no plugin. A call raises `UnknownExportError`
            while no active plugin has the export.

        Raises:
            UnknownExportError: there is no such export.
        """
        return cast("F", live_export(self.snapshot, kind, name))

    def generation(self, plugin: str) -> Generation:
        """The active generation of a plugin; holding it holds nothing up.

        Raises:
            UnknownPluginError: it is not active.
        """
        return self.epoch.generation(plugin)

    @property
    def draining(self) -> tuple[Generation, ...]:
        """The generations on their way out, oldest first; `holders()` of one names its users."""
        live = self._epochs.generations.live()
        return tuple(g for g in live if g.state is LifecycleState.DRAINING)

    # --- changing ----------------------------------------------------------------------------

    def join(self, participant: Participant) -> None:
        """Have a host take part in every change but the last, for as long as it lives.

        Args:
            participant: is asked whether the next epoch will do, and prepares newcomers before it
                is published; see `Participant`. Held weakly.
        """
        self._participants.add(participant)

    def change(
        self,
        *,
        pause_timeout: float | None = None,
        dry_run: bool = False,
        if_epoch: str | Collection[str] | None = None,
        **options: Unpack[TransactionOptions],
    ) -> Change:
        """Several changes at once, all or nothing; see `Change`.

        Args:
            pause_timeout: seconds; None for the runtime's.
            dry_run: run the steps short of the commit, then undo them: the report shows what would
                happen, and whatever would fail raises.
            if_epoch: the id of the epoch that the caller has seen, or its first 12 digits or more;
                or several, of which one must be it. If another epoch is current when the change has
                its turn, it fails with `EpochMovedError`. None for any epoch.
            **options: see `TransactionOptions`.
        """
        seen = (if_epoch,) if isinstance(if_epoch, str) else if_epoch
        requests = Requests(self._grants, self._store, seen)
        spec = self._spec(requests.read, pause_timeout, dry_run=dry_run, **options)
        return Change(self._queue, spec, requests)

    achange = change
    """For event loops, the same: `async with rt.achange() as change`."""

    def stage(
        self,
        *sources: Source,
        configs: Mapping[str, Mapping[str, Any]] | None = None,
        grants: Collection[str] | None = None,
        compare: bool = False,
        **options: Unpack[TransactionOptions],
    ) -> Stage:
        """An epoch aside: plugins that are loaded and callable, and not published.

        ::

            with rt.stage("release/geo.py", "release/units.py") as stage:
                assert stage.epoch[scalar]["geo.distance"](0, 0, 0, 1) > 0
                stage.promote()

        Any number of stages and the current epoch are there side by side. What a stage's plugins
        do to the process as they load, they do; their entries in the host's tables, their jobs and
        their streams wait for `promote`.

        Args:
            *sources: the plugins of the stage, all of them: files, packages' folders, artifacts.
            configs: the configuration of each plugin, by id.
            grants: capability patterns for these plugins; None for the runtime's.
            compare: stage them over the current epoch, as a dry run does: its other plugins are in
                the stage as they are, and a version that cannot replace the active one is refused.
                By default a stage is compared with nothing.
            **options: see `TransactionOptions`.

        Returns:
            The stage: a context manager, or call `hold()` and `release()`. What is held when the
            runtime closes is dropped.

        Raises:
            ArtifactError: a source that cannot be read.
            ManifestError: a manifest with faults.
            UnknownPluginError: a configuration for a plugin that is not among the sources.
        """
        granted = self._grants if grants is None else checked_grants(grants)
        base = self.epoch.id if compare else None
        requests = Requests(granted, None, None if base is None else (base,))
        unused, staged = dict(configs or {}), set[str]()
        for source in sources:
            artifact = source if isinstance(source, Artifact) else read_artifact(source)
            plugin = read_manifest(artifact).id
            staged.add(plugin)
            requests.recorded.append(Request(None, plugin, artifact, unused.pop(plugin, None)))
        if unused:
            raise UnknownPluginError(next(iter(unused)), sorted(staged))
        spec = replace(
            self._spec(requests.read, **options),
            journal=None,
            holds=True,
            base=Epoch.bare if base is None else None,
        )
        return Stage(self._stages, spec, self._promote, base)

    def load(
        self,
        source: Source,
        *,
        config: Mapping[str, Any] | None = None,
        grants: Collection[str] | None = None,
        **options: Unpack[TransactionOptions],
    ) -> Cutover:
        """Load a plugin that is not active yet.

        Args:
            source: a Python file, a package's folder, or an artifact.
            config: JSON values for the plugin's `ctx.config`.
            grants: capability patterns for this plugin; None for the runtime's.
            **options: see `TransactionOptions`.

        Returns:
            The report. Operations that begin after it see the plugin.

        Raises:
            AlreadyLoadedError: it is active; use `reload`.
            PluginError: the plugin is at fault: its bytes, manifest, code or `init`.
            RefusedError: it does not fit: capabilities, requirements.
            PhaseTimeoutError: its code did not return in time.
            StoreWriteError: the epoch cannot be stored.
            HostError: called from plugin code of a running change, or on a closed runtime.
        """
        return self.change(**options).load(source, config=config, grants=grants).run()

    async def aload(
        self,
        source: Source,
        *,
        config: Mapping[str, Any] | None = None,
        grants: Collection[str] | None = None,
        **options: Unpack[TransactionOptions],
    ) -> Cutover:
        """`load` for event loops: same options, same result, without blocking the loop."""
        change = self.change(**options).load(source, config=config, grants=grants)
        return await change.run_async()

    def load_folder(
        self,
        folder: str | PathLike[str],
        *,
        configs: Mapping[str, Mapping[str, Any]] | None = None,
        **options: Unpack[TransactionOptions],
    ) -> Cutover:
        """Load the plugins of a folder, all in one change, in the order of their requirements.

        Each `.py` file and each package with a manifest is one. A plugin that is active already is
        replaced if its code differs or `configs` has it, and otherwise left as it is.

        Args:
            folder: its path.
            configs: the configuration of each plugin, by id.
            **options: see `TransactionOptions`.

        Raises:
            HostError: there is no such folder.
            EpochalError: as for `load`; none of the plugins is loaded.
        """
        return self._folder_change(folder, configs or {}, **options).run()

    async def aload_folder(
        self,
        folder: str | PathLike[str],
        *,
        configs: Mapping[str, Mapping[str, Any]] | None = None,
        **options: Unpack[TransactionOptions],
    ) -> Cutover:
        """`load_folder` for event loops: same options, same result, without blocking the loop."""
        import asyncio  # the caller's loop has imported it

        change = await asyncio.to_thread(
            partial(self._folder_change, folder, configs or {}, **options)
        )
        return await change.run_async()

    def reload(
        self,
        plugin: str,
        source: Source | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        grants: Collection[str] | None = None,
        **options: Unpack[TransactionOptions],
    ) -> Cutover:
        """Replace an active plugin by a new generation; blocks until the old one has drained.

        Plugins that require it are re-linked in the same change. A drain that outlasts its timeout
        does not undo the change: the report has `drained=False` and names the holders, and the
        drain goes on in the background.

        Args:
            plugin: its id.
            source: where the new version is; None to read the path of the active one again.
            config: as for `load`; None to keep the active one's.
            grants: as for `load`; None to keep the active one's.
            **options: see `TransactionOptions`.

        Raises:
            UnknownPluginError: it is not active; use `load`.
            EpochalError: as for `load`, and `IncompatibleError`; the old version goes on as if
                nothing had happened.
        """
        change = self.change(**options)
        return change.reload(plugin, source, config=config, grants=grants).run()

    async def areload(
        self,
        plugin: str,
        source: Source | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        grants: Collection[str] | None = None,
        **options: Unpack[TransactionOptions],
    ) -> Cutover:
        """`reload` for event loops: same options, same result, without blocking the loop."""
        change = self.change(**options)
        return await change.reload(plugin, source, config=config, grants=grants).run_async()

    def remove(
        self, plugin: str, *, cascade: bool = False, **options: Unpack[TransactionOptions]
    ) -> Cutover:
        """Take an active plugin out; blocks until it has drained, like `reload`.

        Args:
            plugin: its id.
            cascade: take along the plugins that require it, however indirectly.
            **options: see `TransactionOptions`.

        Raises:
            UnknownPluginError: it is not active.
            RequiredByError: others require it, and `cascade` is not set.
        """
        return self.change(**options).remove(plugin, cascade=cascade).run()

    async def aremove(
        self, plugin: str, *, cascade: bool = False, **options: Unpack[TransactionOptions]
    ) -> Cutover:
        """`remove` for event loops: same options, same result, without blocking the loop."""
        return await self.change(**options).remove(plugin, cascade=cascade).run_async()

    @overload
    def rollback(
        self, plugin: str, *, to: int | str, **options: Unpack[TransactionOptions]
    ) -> Cutover: ...
    @overload
    def rollback(self, *, epoch: int, **options: Unpack[TransactionOptions]) -> Cutover: ...
    def rollback(
        self,
        plugin: str | None = None,
        *,
        to: int | str | None = None,
        epoch: int | None = None,
        **options: Unpack[TransactionOptions],
    ) -> Cutover:
        """Bring back what served before, from the store: a change like any other, with a new epoch.

        `rollback("geo", to=3)` and `rollback("geo", to="1.2.0")` bring one plugin back as it was:
        its code, configuration and grants, also if it was removed meanwhile. `rollback(epoch=12)`
        brings the whole set back: plugins that are not in that epoch are removed.

        Args:
            plugin: its id.
            to: the number of a generation, or a version: its newest generation.
            epoch: the number of an epoch.
            **options: see `TransactionOptions`.

        Raises:
            NoStoreError: the runtime keeps no history.
            NotKeptError: it is not in the history; the message says what is.
            EpochalError: as for `reload`; what serves goes on as if nothing had happened.
        """
        return self.change(**options).request(RollbackRequest(plugin, to, epoch)).run()

    @overload
    async def arollback(
        self, plugin: str, *, to: int | str, **options: Unpack[TransactionOptions]
    ) -> Cutover: ...
    @overload
    async def arollback(self, *, epoch: int, **options: Unpack[TransactionOptions]) -> Cutover: ...
    async def arollback(
        self,
        plugin: str | None = None,
        *,
        to: int | str | None = None,
        epoch: int | None = None,
        **options: Unpack[TransactionOptions],
    ) -> Cutover:
        """`rollback` for event loops: same options, same result, without blocking the loop."""
        change = self.change(**options).request(RollbackRequest(plugin, to, epoch))
        return await change.run_async()

    # --- the record ----------------------------------------------------------------------------

    @property
    def store_folder(self) -> Path | None:
        """The store's folder, where hosts may keep files of their own; None without a store."""
        return self._store.folder if self._store is not None else None

    def history(self, limit: int | None = None) -> tuple[EpochRecord, ...]:
        """The committed epochs that the store keeps, newest first; `limit` of them at most.

        Raises:
            NoStoreError: the runtime keeps no history.
        """
        return self._history("history").history(limit)

    def artifact(self, plugin: str, generation: int) -> Artifact:
        """The code of a generation that is active or that the store keeps.

        Raises:
            NotKeptError: the history does not have it.
            NoStoreError: it is not active, and the runtime keeps no history.
        """
        active = self.epoch.generations.get(plugin)
        if active is not None and active.number == generation:
            return active.candidate.artifact
        return self._history("history").candidate(plugin, generation).artifact

    def audit(self, limit: int | None = None) -> tuple[AuditRecord, ...]:
        """Every change, committed or refused, newest first; `limit` of them at most.

        Raises:
            NoStoreError: the runtime keeps no history.
        """
        return self._history("the audit log").audit(limit)

    # --- ending ------------------------------------------------------------------------------

    def close(
        self, *, drain_timeout: float | None = None, cancel_holders: bool = False
    ) -> Cutover | None:
        """Remove every plugin, dependents first, and take no more changes or operations.

        A store keeps the epoch that was current: the next start restores it.

        Changes that were begun before are finished first. Operations that run go on to their end,
        within the limit; after it, they go on in the background for as long as the process lives.

        Args:
            drain_timeout: seconds; None for the runtime's.
            cancel_holders: as for `change`.

        Returns:
            The report; None if the runtime was closed before.
        """
        limits = self._limits(drain_timeout=drain_timeout, cancel_holders=cancel_holders)
        started = monotonic()
        cutover = self._queue.run_last(
            # Not committed: the next start serves what the store has. No participant is asked.
            ChangeSpec(remove_all, limits, WeakRegistry(), reason="close")
        )
        self._stages.close(limits.drain)
        spent_s = monotonic() - started
        left_s = None if limits.drain is None else max(0.0, limits.drain - spent_s)
        self._queue.wait(left_s)  # generations that earlier changes left draining
        if self._store is not None:
            self._loaders.close()  # first: its folder is then another runtime's
            self._store.close()
        if self._publication is not None:
            self._publication.close()
        self.events.close()
        return cutover

    async def aclose(
        self, *, drain_timeout: float | None = None, cancel_holders: bool = False
    ) -> Cutover | None:
        """`close` for event loops."""
        import asyncio  # the caller's loop has imported it

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
        ever reaching the code that lets it go.
        """
        limit = self._timeouts.drain
        return limit if error is None else min(_ERROR_LIMIT_S, limit or _ERROR_LIMIT_S)

    # --- inside ------------------------------------------------------------------------------

    def _spec(
        self,
        read: Callable[[Epoch], Sequence[PlannedChange]],
        pause_timeout: float | None = None,
        *,
        dry_run: bool = False,
        **options: Unpack[TransactionOptions],
    ) -> ChangeSpec:
        prepare = options.get("prepare")
        return ChangeSpec(
            read,
            self._limits(pause_timeout, **options),
            self._participants,
            self._store,
            dry_run=dry_run,
            reason=options.get("reason", ""),
            caller=self.events.caller(),
            preparation=None if prepare is None else Preparation(prepare),
        )

    def _promote(
        self, read: Callable[[Epoch], Sequence[PlannedChange]], options: Mapping[str, Any]
    ) -> Cutover:
        return self._queue.prepare(self._spec(read, **options)).wait()

    def _limits(self, pause: float | None = None, **options: Unpack[TransactionOptions]) -> Limits:
        own = self._timeouts
        drain, phase = options.get("drain_timeout"), options.get("phase_timeout")
        if drain is None:
            drain = own.drain
        operation = self.current_operation()
        if drain is None and operation is not None and operation.pinned is not None:
            drain = 0.0  # a drain that waits for the caller's own operation, for ever
        return Limits(
            drain,
            own.phase if phase is None else phase,
            own.pause if pause is None else pause,
            options.get("cancel_holders", False),
            _interrupts(options["on_drain_timeout"])
            if "on_drain_timeout" in options
            else own.interrupts,
        )

    def _folder_change(
        self,
        folder: str | PathLike[str],
        configs: Mapping[str, Mapping[str, Any]],
        **options: Unpack[TransactionOptions],
    ) -> Change:
        change, current = self.change(**options), self.epoch.generations
        for artifact in read_folder(folder):
            plugin = read_manifest(artifact).id
            active = current.get(plugin)
            if active is None or active.digest != artifact.digest or plugin in configs:
                change.put(artifact, config=configs.get(plugin))
        return change

    def _open_share(self, share: str | PathLike[str] | Share) -> Publication:
        from epochal.share import Share
        from epochal.share.publication import Publication

        def warn(text: str) -> None:
            self.events.emit(StoreFaulted(error=text))

        return Publication(share if isinstance(share, Share) else Share(share), warn)

    def _source(self) -> EpochSource | None:
        if self._publication is None:
            return None
        from epochal.worker.remote_exports import SharedSource

        return SharedSource(self._publication.share)

    def _shared(self) -> Publication:
        if self._publication is None:
            raise NoShareError
        return self._publication

    def _open(self, folder: str | PathLike[str], keep: Keep | None) -> Store:
        # Here, since some builds of Python come without sqlite3.
        from epochal.store import Store

        def warn(text: str) -> None:
            self.events.emit(StoreFaulted(error=text))

        return Store(folder, keep=keep, warn=warn)

    def _restore(self, store: Store, mode: Restore) -> None:
        from epochal.store.restore import restore_last

        def run(planned: Sequence[PlannedChange], journal: Journal) -> Cutover:
            limits, hosts = self._limits(), self._participants
            return self._queue.prepare(
                ChangeSpec(lambda _: planned, limits, hosts, journal, reason="restart")
            ).wait()

        try:
            restore_last(store, mode, self._epochs, run)
        except BaseException:
            self._loaders.close()
            store.close()
            raise

    def _history(self, wanted: str) -> Store:
        if self._store is None:
            raise NoStoreError(wanted)
        return self._store

    def __repr__(self) -> str:
        return f"<runtime, {self.epoch!r}>"


def _interrupts(policy: str) -> bool:
    if policy not in ("report", "interrupt"):
        raise HostError(f"on_drain_timeout is {policy!r}; expected 'report' or 'interrupt'")
    return policy == "interrupt"
