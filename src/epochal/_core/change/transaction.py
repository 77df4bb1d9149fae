"""A change as its caller holds it: the requests of a `with` block, and the wait for the answer.

The change itself runs on a thread of its own (`executor`); the caller only begins it and waits, in
a thread or in an event loop.
"""

from __future__ import annotations

import asyncio
from os import PathLike
from typing import TYPE_CHECKING, Any, Final, TypeAlias, overload

from epochal._core.change.plan import Verb
from epochal._core.change.request import Request, RollbackRequest
from epochal._core.plugin.artifact import Artifact
from epochal._core.plugin.capabilities import checked_grants
from epochal.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from types import TracebackType

    from epochal._core.change.executor import Executor
    from epochal._core.change.queue import ChangeQueue
    from epochal._core.change.request import Requests
    from epochal._core.change.sequence import ChangeSpec
    from epochal.report import Cutover

Source: TypeAlias = str | PathLike[str] | Artifact
"""Where a plugin is: a file, a package's folder, or an artifact that was read before."""


class Change:
    """Several changes of plugins as one transaction: all become visible at once, or none.

    Made by `Runtime.change` and `Runtime.achange`; record your requests inside the `with` block.
    Leaving the block runs the change; leaving it by an exception throws it away.

    Attributes:
        cutover: the report, after the block.
    """

    __slots__ = ("_queue", "_requests", "_spec", "_started", "cutover")

    def __init__(self, queue: ChangeQueue, spec: ChangeSpec, requests: Requests) -> None:
        self._queue: Final = queue
        self._spec: Final = spec
        self._requests: Final = requests.recorded  # which the spec reads
        self._started = False
        self.cutover: Cutover | None = None

    def load(
        self,
        source: Source,
        *,
        config: Mapping[str, Any] | None = None,
        grants: Collection[str] | None = None,
    ) -> Change:
        """Add a plugin that is not active; see `Runtime.load`."""
        return self.request(Request(Verb.LOAD, None, source, config, _checked(grants)))

    def reload(
        self,
        plugin: str,
        source: Source | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        grants: Collection[str] | None = None,
        restart: bool = False,
    ) -> Change:
        """Replace an active plugin; see `Runtime.reload`.

        With `restart` a plugin that was not loaded from a path starts anew from the artifact that
        is active when the change has its turn.
        """
        granted = _checked(grants)
        return self.request(Request(Verb.RELOAD, plugin, source, config, granted, restart=restart))

    def put(
        self,
        source: Source,
        *,
        config: Mapping[str, Any] | None = None,
        grants: Collection[str] | None = None,
    ) -> Change:
        """Add a plugin, or replace the active one of that id, as things are in the change's turn.

        In the report the `old` of its swap is None if the plugin was added.
        """
        return self.request(Request(None, None, source, config, _checked(grants)))

    def remove(self, plugin: str, *, cascade: bool = False) -> Change:
        """Take an active plugin out; see `Runtime.remove`."""
        return self.request(Request(Verb.REMOVE, plugin, cascade=cascade))

    @overload
    def rollback(self, plugin: str, *, to: int | str) -> Change: ...
    @overload
    def rollback(self, *, epoch: int) -> Change: ...
    def rollback(
        self, plugin: str | None = None, *, to: int | str | None = None, epoch: int | None = None
    ) -> Change:
        """Bring back a plugin, or a whole epoch, that served before; see `Runtime.rollback`."""
        return self.request(RollbackRequest(plugin, to, epoch))

    def request(self, request: Request | RollbackRequest) -> Change:
        """Record a request as it is; returns this change, as the other calls do."""
        self._requests.append(request)
        return self

    def run(self) -> Cutover:
        """Run it now, as leaving the `with` block does.

        Raises:
            HostError: it has run already.
        """
        self.cutover = cutover = self._start().wait()
        return cutover

    async def run_async(self) -> Cutover:
        """`run` for event loops."""
        self.cutover = cutover = await self._start().wait_async()
        return cutover

    def _start(self) -> RunningChange:
        if self._started:
            raise HostError("this change has run already; make a new one with rt.change()")
        self._started = True
        return self._queue.begin(self._spec)

    def __enter__(self) -> Change:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.run()

    async def __aenter__(self) -> Change:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            await self.run_async()


class RunningChange:
    """A change that runs on its thread, and the two ways to wait for its answer."""

    __slots__ = ("_executor",)

    def __init__(self, executor: Executor) -> None:
        self._executor: Final = executor

    def wait(self) -> Cutover:
        """Block until the change answers; Ctrl-C gives it up."""
        executor, answer = self._executor, self._executor.answer
        try:
            return answer.result()
        except BaseException:
            if not answer.done():
                # Ctrl-C came while the change ran: give it up, and leave only when it is undone (or
                # was published already, which a rollback could not undo).
                executor.cancel()
                answer.exception()
            raise
        finally:
            # An error that the answer holds, and whose traceback has this frame, would be a cycle:
            # it would keep the caller's variables, epochs among them, until the collector runs.
            del self, executor, answer

    async def wait_async(self) -> Cutover:
        """`wait` for event loops; cancelling the task gives the change up."""
        executor, answer = self._executor, self._executor.answer
        try:
            return await asyncio.wrap_future(answer)
        except asyncio.CancelledError:
            executor.cancel()
            ended = asyncio.wrap_future(answer)
            await asyncio.wait([ended])
            ended.exception()  # the task was cancelled: that is its answer
            raise
        finally:
            del self, executor, answer  # as above


def _checked(grants: Collection[str] | None) -> frozenset[str] | None:
    return None if grants is None else checked_grants(grants)
