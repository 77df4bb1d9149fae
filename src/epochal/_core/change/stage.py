"""A stage: an epoch aside, whole and callable, which is not the current one.

Some work needs the code of an epoch before, or without, serving it: a process that runs a part of
another's operation, a check of a release before it is published, a comparison of two versions. A
stage is a change that stops before the host could observe anything, and holds what it has staged.
Its generations are linked and initialized by the same steps as any others; dropped, they leave by
the same way out. A dry run is a stage that is dropped at once.

A stage stands alone: it is linked against its own plugins and compared with nothing, unless it is
asked to be. Any number of stages and the current epoch are there side by side, each with
generations of its own (E1, E3).

Threads: all methods may be called from any thread. ``_lock`` guards the moves of ``_state``, and
nothing foreign runs under it: the thread that moves it from HELD does the work of that move.
"""

from __future__ import annotations

import threading
from enum import Enum, auto
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from epochal._core.change.request import become
from epochal.errors import EpochMovedError, HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from epochal._core.change.plan import PlannedChange
    from epochal._core.change.queue import ChangeQueue, QueuedChange
    from epochal._core.change.sequence import ChangeSpec
    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.kind import Kind
    from epochal._core.plugin.candidate import Candidate
    from epochal._core.sync.completion import Completion
    from epochal.report import Cutover

    Read: TypeAlias = Callable[[Epoch], Sequence[PlannedChange]]
    Publish: TypeAlias = Callable[[Read, Mapping[str, Any]], Cutover]

F = TypeVar("F")

_ERROR_LIMIT_S: Final = 1.0
"""How long leaving a block by an error waits: the error may itself hold what was staged in use."""


class _State(Enum):
    # Made, and nothing staged yet.
    NEW = auto()
    # Staged: it can be called.
    HELD = auto()
    # It is being published by a change of its own; held until that has succeeded.
    PROMOTING = auto()
    # Dropped: what it staged is shut down, or will be once its last use ends.
    ENDED = auto()


class Stages:
    """The stages of one runtime that are held: one that its maker forgot is dropped at the end.

    Args:
        queue: begins changes.

    Attributes:
        queue: the same.
        held: each stage that is held, by its `id`. Any thread adds and removes, each in one step.
    """

    __slots__ = ("held", "queue")

    def __init__(self, queue: ChangeQueue) -> None:
        self.queue: Final = queue
        self.held: Final[dict[int, Stage]] = {}

    def close(self, timeout_s: float | None) -> None:
        """Release every stage; waits for so many seconds in all, None for as long as it takes."""
        deadline = None if timeout_s is None else monotonic() + timeout_s
        for stage in list(self.held.values()):
            stage.end(None if deadline is None else max(0.0, deadline - monotonic()))


def _plan(
    wanted: Mapping[str, Candidate], compared_with: str | None, active: Epoch
) -> Sequence[PlannedChange]:
    """What it takes to have the staged plugins active, and no others.

    Raises:
        EpochMovedError: the stage was compared with another epoch than the current one.
    """
    if compared_with not in {None, active.id}:
        raise EpochMovedError(expected=compared_with, number=active.number, current=active.id)
    return list(become(wanted, active))


class Stage:
    """An epoch aside: plugins that are loaded and callable, and not published.

    Made by `Runtime.stage`. Use it as a context manager, which drops it at the end of the block, or
    call `hold` and `release`. What is taken out of its epoch holds its generation in use, like any
    export: it is shut down after its last use, and never before.

    Attributes:
        cutover: the report of the staging, with the time of each step; None before it.
    """

    __slots__ = (
        *("__weakref__", "_change", "_compared_with", "_lock", "_publish", "_spec", "_stages"),
        *("_is_last", "_state", "cutover"),
    )

    def __init__(
        self,
        stages: Stages,
        spec: ChangeSpec,
        publish: Publish,
        compared_with: str | None = None,
    ) -> None:
        self._stages: Final = stages
        self._spec: Final = spec
        self._publish: Final = publish
        self._compared_with: Final = compared_with
        self._lock: Final = threading.Lock()
        self._state = _State.NEW
        self._is_last = False  # set by the runtime's end, while it is being promoted
        self._change: QueuedChange | None = None
        self.cutover: Cutover | None = None

    def hold(self) -> Stage:
        """Stage the plugins, and hold them until `release`; blocks until they are initialized.

        Returns:
            This stage.

        Raises:
            HostError: it was held before.
            EpochalError: as for `Runtime.load`; what was staged is taken down again.
        """
        change = self._begin()
        try:
            self.cutover = change.wait()
        except BaseException:
            self._drop()  # Ctrl-C may have come after the answer
            raise
        return self

    async def ahold(self) -> Stage:
        """`hold` for event loops, without blocking the loop."""
        change = self._begin()
        try:
            self.cutover = await change.wait_async()
        except BaseException:
            self._drop()
            raise
        return self

    def _begin(self) -> QueuedChange:
        change = self._stages.queue.prepare(self._spec)
        with self._lock:
            if self._state is not _State.NEW:
                raise HostError("this stage was held before; make a new one with rt.stage()")
            self._state, self._change = _State.HELD, change
        self._stages.held[id(self)] = self
        return change

    @property
    def epoch(self) -> Epoch:
        """The epoch that is staged. Reading it pins it, as `Runtime.epoch` does.

        Raises:
            HostError: the stage is not held, or was released or promoted.
        """
        change = self._change
        epoch = change.executor.held if change is not None else None
        if epoch is None:
            raise HostError(
                "this stage has no epoch: it is held within `with rt.stage(...)`, or between "
                "hold() and release()"
            )
        return epoch

    def __getitem__(self, kind: Kind[F]) -> Mapping[str, F]:
        return self.epoch[kind]

    def promote(self, **options: Any) -> Cutover:
        """Make the staged plugins the runtime's active ones, all of them, by an ordinary change.

        Plugins that are not in the stage are removed. Exports are compared with those that serve
        and state is handed over, so each plugin comes up once more, beside its predecessor, as a
        new generation; a plugin that serves already with the same code, configuration and grants
        goes on as it is. The stage is released after that.

        Args:
            **options: those of `Runtime.change`: `drain_timeout`, `reason` and so on.

        Returns:
            The report of the change.

        Raises:
            HostError: the stage is not held.
            EpochMovedError: it was compared with an epoch that is not the current one any more.
            EpochalError: as for `Runtime.reload`; the stage is held as before.
        """
        wanted = {plugin: g.candidate for plugin, g in self.epoch.generations.items()}
        with self._lock:
            if self._state is not _State.HELD:
                raise HostError("this stage is not held: it is promoted or released already")
            self._state = _State.PROMOTING
        try:
            cutover = self._publish(partial(_plan, wanted, self._compared_with), options)
        except BaseException:
            self._end_promotion()
            raise
        self._end_promotion()
        self.release()
        return cutover

    def _end_promotion(self) -> None:
        with self._lock:
            self._state = _State.HELD
            is_last = self._is_last
        if is_last:
            self._drop()

    def release(self, timeout: float | None = None) -> bool:
        """Drop the stage: shut its generations down, each after its last use. Idempotent.

        Args:
            timeout: seconds to wait until they are removed; None for the runtime's
                `drain_timeout`. They are removed all the same, whenever their last use ends.

        Returns:
            Whether all of them are removed.
        """
        return self._wait(self._drop(), timeout)

    def end(self, timeout: float | None) -> None:
        """Release it as its runtime ends; one that is being promoted goes once that is over."""
        self._wait(self._drop(at_once=False), timeout)

    def _wait(self, ended: Completion[None] | None, timeout: float | None) -> bool:
        if ended is None:
            return True
        return ended.wait(self._spec.limits.drain if timeout is None else timeout)

    async def arelease(self, timeout: float | None = None) -> bool:
        """`release` for event loops, without blocking the loop."""
        import asyncio  # the caller's loop has imported it

        return await asyncio.to_thread(self.release, timeout)

    def _drop(self, *, at_once: bool = True) -> Completion[None] | None:
        """Begin the way out, once; returns its end, None if nothing was staged."""
        with self._lock:
            change = self._change
            if change is None:
                self._state = _State.ENDED
                return None
            if self._state is _State.PROMOTING:
                if not at_once:
                    self._is_last = True
                    return change.executor.ended
                raise HostError("this stage is being promoted; release it after that")
            is_first = self._state is _State.HELD and change.executor.held is not None
            self._state = _State.ENDED
        if is_first:
            change.executor.drop()
        self._stages.held.pop(id(self), None)
        return change.executor.ended

    def __enter__(self) -> Stage:
        return self.hold()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The error's traceback may itself hold frames of what was staged.
        self.release(None if error is None else _ERROR_LIMIT_S)

    async def __aenter__(self) -> Stage:
        return await self.ahold()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.arelease(None if error is None else _ERROR_LIMIT_S)

    def __repr__(self) -> str:
        return f"<stage, {self._state.name.lower()}>"
