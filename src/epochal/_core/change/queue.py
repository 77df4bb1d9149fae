"""Begins the changes of one runtime, until it is closed.

Who reads, who writes: ``_closed`` goes from False to True once, under ``_closing``, and so does the
queueing of the last change: whatever was begun before is in the queue before it, and nothing is
begun after. ``_numbers`` is a counter whose `next` is one step. ``_under_way`` holds its members
weakly, so an ended change leaves by itself.
"""

from __future__ import annotations

import itertools
import os
import threading
from concurrent.futures import wait
from contextvars import copy_context
from typing import TYPE_CHECKING, Final

from epochal._core.change.executor import ChangeRun
from epochal._core.change.plugin_calls import Phases, changing
from epochal._core.change.transaction import Running
from epochal._core.sync.threads import call_on_thread
from epochal._core.sync.weak_registry import WeakRegistry
from epochal.errors import ForkedRuntimeError, NestedChangeError, RuntimeClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from epochal._core.change.executor import Limits
    from epochal._core.change.plan import PlannedChange
    from epochal._core.change.staging import Site
    from epochal._core.generation.epoch import Epoch

    Wishes = Callable[[Epoch], Sequence[PlannedChange]]

_runtimes: Final = itertools.count(1)


class Changes:
    """Begins changes, one thread each; the turn orders them."""

    __slots__ = ("_closed", "_closing", "_numbers", "_pid", "_serial", "_under_way")

    def __init__(self) -> None:
        self._serial: Final = next(_runtimes)
        self._numbers: Final = itertools.count(1)
        self._pid: Final = os.getpid()
        self._under_way: Final[WeakRegistry[Future[None]]] = WeakRegistry()
        self._closing: Final = threading.Lock()
        self._closed = False

    def begin(
        self,
        site: Site,
        wishes: Wishes,
        limits: Limits,
        *,
        dry_run: bool = False,
        reason: str = "",
    ) -> Running:
        """Begin a change.

        Raises:
            HostError: the runtime is closed, of another process, or asked by a change's own code.
        """
        with self._closing:
            self.check_open()
            # In the queue before the runtime can close: whoever closes waits for this change.
            return self._start(site, wishes, limits, dry_run=dry_run, reason=reason)

    def begin_last(self, site: Site, wishes: Wishes, limits: Limits) -> Running | None:
        """Begin a change after which no other can begin; None if one was begun before."""
        with self._closing:
            if self._closed:
                return None
            running = self._start(site, wishes, limits, dry_run=False, reason="close")
            self._closed = True
            return running

    def wait(self, timeout: float | None) -> None:
        """Wait for all that runs or drains, for so many seconds at most."""
        wait(self._under_way.live(), timeout)

    def check_open(self) -> None:
        """Raise `RuntimeClosedError` if the last change was begun."""
        if self._closed:
            raise RuntimeClosedError("the runtime was closed; make a new one")

    def _start(
        self, site: Site, wishes: Wishes, limits: Limits, *, dry_run: bool, reason: str
    ) -> Running:
        if changing.get() == self._serial:
            raise NestedChangeError(
                "a change was asked for by code that a change is running (a plugin's link, init or "
                "shutdown); ask for it afterwards, or record it in the same change"
            )
        self._check_process()
        number = next(self._numbers)
        phases = Phases(self._serial, copy_context(), limits.phase)
        run = ChangeRun(number, site, wishes, phases, limits, dry_run=dry_run, reason=reason)
        self._under_way.add(call_on_thread(run.run, name=f"epochal change {number}"))
        return Running(run)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedRuntimeError(
                f"this runtime was made in process {self._pid}; this is its fork {os.getpid()}, "
                "where the threads that use its plugins do not exist; make a new Runtime in it"
            )
