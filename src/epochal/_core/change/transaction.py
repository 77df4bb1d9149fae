"""A change as its caller holds it: several wishes, recorded in a `with` block, and the wait.

The change itself runs on a thread of its own (`epochal._core.change.executor`); what is here only
asks for it and waits, in a thread or in an event loop.
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
    from collections.abc import Callable, Collection, Mapping, Sequence
    from types import TracebackType

    from epochal._core.change.executor import ChangeRun
    from epochal.report import Cutover

Source: TypeAlias = str | PathLike[str] | Artifact
"""Where a plugin is: a file, a package's folder, or an artifact that was read before."""

Requests: TypeAlias = "Sequence[Request | RollbackRequest]"
"""What one change is asked for."""


class Change:
    """Several changes of plugins as one transaction: all become visible at once, or none.

    Made by `Runtime.change` and `Runtime.achange`; record what you want inside the `with` block.
    Leaving the block runs it; leaving it by an exception throws it away.

    Attributes:
        cutover: the report, after the block.
    """

    __slots__ = ("_begin", "_requests", "_started", "cutover")

    def __init__(self, begin: Callable[[Requests], Running]) -> None:
        self._begin: Final = begin
        self._requests: Final[list[Request | RollbackRequest]] = []
        self._started = False
        self.cutover: Cutover | None = None

    def load(
        self,
        source: Source,
        *,
        config: Mapping[str, Any] | None = None,
        grants: Collection[str] | None = None,
    ) -> None:
        """Add a plugin that is not active; see `Runtime.load`."""
        self._requests.append(Request(Verb.LOAD, None, source, config, checked_grants(grants)))

    def reload(
        self,
        plugin: str,
        source: Source | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        grants: Collection[str] | None = None,
        restart: bool = False,
    ) -> None:
        """Replace an active plugin; see `Runtime.reload`.

        With `restart` a plugin that was not loaded from a path starts anew from the artifact that
        is active when the change has its turn.
        """
        granted = checked_grants(grants)
        self._requests.append(Request(Verb.RELOAD, plugin, source, config, granted, anew=restart))

    def put(
        self,
        source: Source,
        *,
        config: Mapping[str, Any] | None = None,
        grants: Collection[str] | None = None,
    ) -> None:
        """Add a plugin, or replace the active one of that id; which, the change's turn decides.

        The report's swap tells it: its `old` is None where the plugin was added.
        """
        self._requests.append(Request(None, None, source, config, checked_grants(grants)))

    def remove(self, plugin: str, *, cascade: bool = False) -> None:
        """Take an active plugin out; see `Runtime.remove`."""
        self._requests.append(Request(Verb.REMOVE, plugin, cascade=cascade))

    @overload
    def rollback(self, plugin: str, *, to: int | str) -> None: ...
    @overload
    def rollback(self, *, epoch: int) -> None: ...
    def rollback(
        self, plugin: str | None = None, *, to: int | str | None = None, epoch: int | None = None
    ) -> None:
        """Bring back what served before; see `Runtime.rollback`."""
        self.request(RollbackRequest(plugin, to, epoch))

    def request(self, request: Request | RollbackRequest) -> None:
        """Record a request as it is."""
        self._requests.append(request)

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

    def _start(self) -> Running:
        if self._started:
            raise HostError("this change has run already; make a new one with rt.change()")
        self._started = True
        return self._begin(self._requests)

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


class Running:
    """A change that runs on its thread, and the two ways to wait for its answer."""

    __slots__ = ("_run",)

    def __init__(self, run: ChangeRun) -> None:
        self._run: Final = run

    def wait(self) -> Cutover:
        """Block until the change answers; Ctrl-C gives it up."""
        run, answer = self._run, self._run.answer
        try:
            return answer.result()
        except BaseException:
            if not answer.done():
                # Ctrl-C came while the change ran: give it up, and leave only when it is undone (or
                # was published already, which a rollback could not undo).
                run.cancel()
                answer.exception()
            raise
        finally:
            # An error that the answer holds, and whose traceback has this frame, would be a cycle:
            # it would keep the caller's variables, epochs among them, until the collector runs.
            del self, run, answer

    async def wait_async(self) -> Cutover:
        """`wait` for event loops; cancelling the task gives the change up."""
        run, answer = self._run, self._run.answer
        try:
            return await asyncio.wrap_future(answer)
        except asyncio.CancelledError:
            run.cancel()
            settled = asyncio.wrap_future(answer)
            await asyncio.wait([settled])
            settled.exception()  # the task was cancelled: that is its answer
            raise
        finally:
            del self, run, answer  # as above
