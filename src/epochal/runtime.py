"""The runtime: owns the current epoch and changes it.

::

    rt = Runtime()
    rt.load("plugins/geo.py")
    with rt.operation("request 17") as epoch:
        km = epoch[scalar]["geo.distance"](lat1, lon1, lat2, lon2)
    cut = rt.reload("geo")

Readers read one attribute, `Runtime.epoch`, and are done: what they got is immutable and pinned.
Writers go through `Change`, one after another, each on a thread of its own (see
`epochal._core.change`).

Who reads, who writes
---------------------

``epoch`` is stored by the change that has the turn, once, and read by everybody without a lock. One
store and one load of a reference: a reader has the old epoch or the new one, whole. Read it once
for each unit of work. ``_numbers`` and ``_change_numbers`` belong to whoever has the turn, or are
counters whose `next` is one step. ``_closed`` goes from False to True once, under ``_closing``.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections import defaultdict
from concurrent.futures import wait
from contextvars import copy_context
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from epochal._core.capabilities import DEFAULT_GRANTS, checked_grants
from epochal._core.change import ChangeRun, Limits, Site
from epochal._core.epoch import Epoch
from epochal._core.events import EventStream
from epochal._core.live import LiveSet
from epochal._core.operation import Operation
from epochal._core.phase import Phases, changing
from epochal._core.plan import Verb, Wish
from epochal._core.request import resolve
from epochal._core.threads import call_on_thread
from epochal._core.transaction import Change, Running
from epochal._core.turn import Turn
from epochal.errors import (
    ForkedRuntimeError,
    NestedChangeError,
    RuntimeClosedError,
)
from epochal.loaders.python import open_namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from concurrent.futures import Future
    from types import TracebackType

    from epochal._core.generation import Generation
    from epochal._core.report import Cutover
    from epochal._core.request import Request
    from epochal._core.transaction import Source

_ERROR_LIMIT_S: Final = 1.0
_runtimes: Final = itertools.count(1)


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
    ) -> None:
        self._publish(Epoch())
        self.events: Final = EventStream()
        self._grants: Final = DEFAULT_GRANTS if grants is None else checked_grants(grants)
        self._drain_timeout: Final = drain_timeout
        self._phase_timeout: Final = phase_timeout
        self._serial: Final = next(_runtimes)
        self._change_numbers: Final = itertools.count(1)
        self._numbers: Final[defaultdict[str, itertools.count[int]]] = defaultdict(itertools.count)
        self._operations: Final[LiveSet[Operation]] = LiveSet()
        self._pid: Final = os.getpid()
        # Changes that run or drain; weak, so an ended one leaves by itself.
        self._under_way: Final[LiveSet[Future[None]]] = LiveSet()
        self._closing: Final = threading.Lock()
        self._closed = False
        self._site: Final = Site(
            turn=Turn(),
            events=self.events,
            operations=self._operations,
            read=lambda: self.epoch,
            publish=self._publish,
            next_number=lambda plugin: next(self._numbers[plugin]),
            open_namespace=open_namespace,
        )

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
        self._check_open()
        operation = Operation(self.epoch, label)
        self._operations.add(operation)
        return operation

    def generation(self, plugin: str) -> Generation:
        """The active generation of a plugin; holding it holds nothing up.

        Raises:
            UnknownPluginError: it is not active.
        """
        return self.epoch.generation(plugin)

    # --- changing ----------------------------------------------------------------------------

    def change(
        self,
        *,
        drain_timeout: float | None = None,
        phase_timeout: float | None = None,
        cancel_holders: bool = False,
        dry_run: bool = False,
    ) -> Change:
        """Several changes at once, all or nothing; see `Change`.

        Args:
            drain_timeout: seconds; None for the runtime's.
            phase_timeout: seconds; None for the runtime's.
            cancel_holders: when a drain outlasts its timeout, ask who still uses the old
                generations to stop (operations are told by their `on_cancel`, asyncio tasks inside
                the old code are cancelled), and wait as long again. Nothing is shut down in use.
            dry_run: do everything short of publishing, then undo it: the report tells what would
                happen, and whatever would fail raises.
        """
        limits = self._limits(drain_timeout, phase_timeout, cancel_holders=cancel_holders)
        return Change(lambda requests: self._begin(requests, limits, dry_run=dry_run))

    def achange(
        self,
        *,
        drain_timeout: float | None = None,
        phase_timeout: float | None = None,
        cancel_holders: bool = False,
        dry_run: bool = False,
    ) -> Change:
        """`change` for event loops: `async with rt.achange() as change`."""
        return self.change(
            drain_timeout=drain_timeout,
            phase_timeout=phase_timeout,
            cancel_holders=cancel_holders,
            dry_run=dry_run,
        )

    def load(
        self,
        source: Source,
        *,
        config: Mapping[str, Any] | None = None,
        grants: Collection[str] | None = None,
        drain_timeout: float | None = None,
        phase_timeout: float | None = None,
    ) -> Cutover:
        """Load a plugin that is not active yet.

        Args:
            source: a Python file, a package's folder, or an artifact.
            config: JSON values for the plugin's `ctx.config`.
            grants: capability patterns for this plugin; None for the runtime's.
            drain_timeout: seconds; None for the runtime's.
            phase_timeout: seconds; None for the runtime's.

        Returns:
            The report. When `load` returns, operations that begin see the plugin.

        Raises:
            AlreadyLoadedError: it is active; use `reload`.
            PluginError: the plugin is at fault: its bytes, manifest, code or `init`.
            RefusedError: it does not fit: capabilities, requirements.
            PhaseTimeoutError: its code did not return in time.
            HostError: called from plugin code of a running change, or on a closed runtime.
        """
        change = self.change(drain_timeout=drain_timeout, phase_timeout=phase_timeout)
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

        Returns:
            The report.

        Raises:
            UnknownPluginError: it is not active; use `load`.
            EpochalError: as for `load`, and `IncompatibleError`; the old version goes on as if
                nothing had been asked.
        """
        change = self.change(
            drain_timeout=drain_timeout, phase_timeout=phase_timeout, cancel_holders=cancel_holders
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
    ) -> Cutover:
        """Take an active plugin out; blocks until it has drained, like `reload`.

        Args:
            plugin: its id.
            cascade: take along the plugins that require it, however indirectly.
            drain_timeout: seconds; None for the runtime's.
            cancel_holders: as for `change`.

        Raises:
            UnknownPluginError: it is not active.
            RequiredByError: others require it, and `cascade` is not set.
        """
        change = self.change(drain_timeout=drain_timeout, cancel_holders=cancel_holders)
        change.remove(plugin, cascade=cascade)
        return change.run()

    async def aremove(self, plugin: str, **options: Any) -> Cutover:
        """`remove` for event loops: same options, same result, without blocking the loop."""
        return await self._one(options, lambda change, rest: change.remove(plugin, **rest))

    # --- ending ------------------------------------------------------------------------------

    def close(
        self, *, drain_timeout: float | None = None, cancel_holders: bool = False
    ) -> Cutover | None:
        """Remove every plugin, dependents first, and take no more changes or operations.

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
        wait(self._under_way.live(), left)  # generations that earlier changes left draining
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
        names = ("drain_timeout", "phase_timeout", "cancel_holders")
        change = self.change(**{name: options.pop(name) for name in names if name in options})
        record(change, options)
        return await change.run_async()

    def _limits(
        self,
        drain_timeout: float | None,
        phase_timeout: float | None = None,
        *,
        cancel_holders: bool = False,
    ) -> Limits:
        return Limits(
            drain=self._drain_timeout if drain_timeout is None else drain_timeout,
            phase=self._phase_timeout if phase_timeout is None else phase_timeout,
            cancel_holders=cancel_holders,
        )

    def _begin(self, requests: Sequence[Request], limits: Limits, *, dry_run: bool) -> Running:
        def wishes(epoch: Epoch) -> Sequence[Wish]:
            return resolve(requests, epoch, self._grants)

        with self._closing:
            self._check_open()
            # In the queue before the runtime can close: whoever closes waits for this change.
            return self._start(wishes, limits, dry_run=dry_run)

    def _begin_close(self, limits: Limits) -> Running | None:
        def wishes(epoch: Epoch) -> Sequence[Wish]:
            return [Wish(Verb.REMOVE, plugin) for plugin in epoch.generations]

        with self._closing:
            if self._closed:
                return None
            running = self._start(wishes, limits, dry_run=False)
            self._closed = True
            return running

    def _start(
        self, wishes: Callable[[Epoch], Sequence[Wish]], limits: Limits, *, dry_run: bool
    ) -> Running:
        if changing.get() == self._serial:
            raise NestedChangeError(
                "a change was asked for by code that a change is running (a plugin's link, init or "
                "shutdown); ask for it afterwards, or record it in the same change"
            )
        self._check_process()
        number = next(self._change_numbers)
        phases = Phases(self._serial, copy_context(), limits.phase)
        run = ChangeRun(number, self._site, wishes, phases, limits, dry_run=dry_run)
        self._under_way.add(call_on_thread(run.run, name=f"epochal change {number}"))
        return Running(run)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedRuntimeError(
                f"this runtime was made in process {self._pid}; this is its fork {os.getpid()}, "
                "where the threads that use its plugins do not exist; make a new Runtime in it"
            )

    def _publish(self, epoch: Epoch) -> None:
        # Not through `__dict__`: a plain attribute is read by its offset (3 ns instead of 12).
        self.epoch = epoch  # type: ignore[misc]  # read-only to everybody else

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeClosedError("the runtime was closed; make a new one")

    def __repr__(self) -> str:
        return f"<runtime, {self.epoch!r}>"
