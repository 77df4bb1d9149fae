"""The operation that running code belongs to, so that all hosts it uses agree on one epoch.

The problem: an operation pins an epoch, but a query, a hook call or a tool within it would each
read the current one, and after a reload in the middle answer with other versions. The idea: the
innermost `with rt.operation(…)` block is found in a context variable, which asyncio's tasks and
`asyncio.to_thread` carry along.

A context variable does not belong to a generator: set between two of its yields, it is seen by the
code that iterates over it, and lost where each step runs in a context of its own (a thread pool).
An operation that a generator enters is therefore also noted under the generator's frame. While such
operations exist, a look-up walks up its own stack: the first frame that entered an operation
decides. A generator that waits at a `yield` is on no stack, so its consumer does not see its
operation. A generator under `contextlib.contextmanager` is the other case: its block belongs to the
code that has the `with` statement.

Blocks need not end in the order in which they began, nor in the context in which they began: a
generator is closed by the collector, in any thread, or by its event loop. A block that ends is
therefore taken out of the chain of its context, wherever it is. A context that it cannot reach
keeps it; it counts as ended there, or, as a generator's, as absent.

A block refers to its operation weakly until it has ended: the `with` statement holds the operation.
So a block whose `__enter__` or `__exit__` was interrupted by Ctrl-C keeps no epoch, and is absent
once the operation is gone.

Threads: a chain belongs to the contexts that have it. ``_generators`` gains and loses entries in
the thread that runs the generator, one dictionary step each; look-ups on any thread read it.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from epochal._core.introspect.frames import is_between_yields

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

O = TypeVar("O")  # noqa: E741  an operation
T = TypeVar("T")

_GENERATOR: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_CONTEXTLIB: Final = vars(contextlib)


class Block(Generic[O]):
    """One `with` block of an operation.

    Attributes:
        owner: of the operation's runtime.
        outer: the block around it, of any runtime.
        frame_id: of the frame that has the block.
    """

    __slots__ = ("_ended", "_operation", "frame_id", "outer", "owner")

    def __init__(
        self, operation: O, owner: Ambient[O], outer: Block[Any] | None, frame_id: int
    ) -> None:
        self._operation: Final = weakref.ref(operation)
        self._ended: O | None = None
        self.owner = owner
        self.outer = outer
        self.frame_id = frame_id

    @property
    def operation(self) -> O | None:
        """The operation, also after its end; None if it is gone and the block was interrupted."""
        return self._operation() or self._ended

    @property
    def is_over(self) -> bool:
        """Whether the block has ended."""
        return self._ended is not None

    def end(self, operation: O) -> None:
        """Note that the block of this operation has ended."""
        self._ended = operation

    @property
    def is_absent(self) -> bool:
        """Whether code outside of the block sees it where it should not."""
        return self.operation is None


class GeneratorBlock(Block[O]):
    """A block in a generator.

    Attributes:
        frame: the generator's, until the block ends.
    """

    __slots__ = ("frame",)

    def __init__(
        self, operation: O, owner: Ambient[O], outer: Block[Any] | None, frame: FrameType
    ) -> None:
        super().__init__(operation, owner, outer, id(frame))
        self.frame: FrameType | None = frame

    @property
    def is_absent(self) -> bool:
        """Whether the generator has left the block, or waits at a `yield` in it."""
        frame = self.frame
        return super().is_absent or frame is None or is_between_yields(frame)


_innermost: Final[ContextVar[Block[Any] | None]] = ContextVar("epochal_operation", default=None)


class Ambient(Generic[O]):
    """Finds the operation of one runtime that the running code belongs to."""

    __slots__ = ("_generators",)

    def __init__(self) -> None:
        self._generators: Final[dict[int, list[Block[O]]]] = {}  # by their frames' ids

    def operation(self) -> O | None:
        """The innermost operation, also one that has ended; None outside of any."""
        block = _innermost.get()
        while block is not None and (block.owner is not self or block.operation is None):
            block = block.outer
        if self._generators or isinstance(block, GeneratorBlock):
            _forget_ended_generators()
            block = self._search(_innermost.get())
        return block.operation if block is not None else None

    def enter(self, operation: O, frame: FrameType) -> Block[O]:
        """Begin a block in a frame: from now on its code belongs to the operation."""
        if frame.f_code.co_flags & _GENERATOR or frame.f_globals is _CONTEXTLIB:
            frame = _owner_of(frame)
            if frame.f_code.co_flags & _GENERATOR:
                return self._enter_in_generator(operation, frame)
        block = Block(operation, self, _innermost_left(), id(frame))
        _innermost.set(block)
        return block

    def _enter_in_generator(self, operation: O, frame: FrameType) -> Block[O]:
        block = GeneratorBlock(operation, self, _innermost_left(), frame)
        self._generators.setdefault(block.frame_id, []).append(block)
        _innermost.set(block)
        return block

    def exit(self, block: Block[O], operation: O) -> None:
        """End the block of an operation, in any context and any order."""
        block.end(operation)
        if isinstance(block, GeneratorBlock):
            self._exit_in_generator(block)
        if _innermost.get() is block:
            _innermost.set(block.outer)
        else:
            _take_out(block)
        # Contexts that were copied within the block keep it: let it keep no ended ones, or a
        # callback that schedules itself would grow a chain of all its runs.
        while block.outer is not None and block.outer.is_over:
            block.outer = block.outer.outer

    def _exit_in_generator(self, block: GeneratorBlock[O]) -> None:
        block.frame = None
        blocks = self._generators[block.frame_id]
        blocks.remove(block)
        if not blocks:
            del self._generators[block.frame_id]

    def run(self, operation: O, function: Callable[..., T], *args: Any, **kw: Any) -> T:
        """Call a function within the operation, on any thread."""
        block = self.enter(operation, sys._getframe())  # noqa: SLF001  its only name
        try:
            return function(*args, **kw)
        finally:
            self.exit(block, operation)

    def _search(self, innermost: Block[Any] | None) -> Block[O] | None:
        """The block that decides where generators have some: see the module's text."""
        by_frame: dict[int, Block[O]] = {}
        block = innermost
        while block is not None:
            is_plain = block.owner is self and not isinstance(block, GeneratorBlock)
            if is_plain and block.operation is not None:
                by_frame.setdefault(block.frame_id, block)
            block = block.outer
        frame: FrameType | None = sys._getframe(2)  # noqa: SLF001  its only name
        while frame is not None:
            for block in reversed(self._generators.get(id(frame), ())):
                if block.operation is not None:
                    return block
            if (found := by_frame.get(id(frame))) is not None:
                return found
            frame = frame.f_back
        # Not on this stack: carried by a context, into a task or a thread.
        block = innermost
        while block is not None and (block.owner is not self or block.is_absent):
            block = block.outer
        return block


def _innermost_left() -> Block[Any] | None:
    """The innermost block of this context whose operation is not gone."""
    block = _innermost.get()
    while block is not None and block.operation is None:
        block = block.outer
    return block


def leave_all() -> None:
    """Leave all operations in this context: for work that belongs to none of them."""
    if _innermost.get() is not None:
        _innermost.set(None)


def _forget_ended_generators() -> None:
    """Take out of this context the blocks of generators that ended in another."""
    block = _innermost.get()
    while isinstance(block, GeneratorBlock) and block.is_over:
        block = block.outer
    _innermost.set(block)


def _take_out(block: Block[Any]) -> None:
    """Take a block out of this context's chain, if it is there."""
    above = _innermost.get()
    while above is not None and above.outer is not block:
        above = above.outer
    if above is not None:
        above.outer = block.outer


def _owner_of(frame: FrameType) -> FrameType:
    """The frame that has the `with` statement, behind those of `contextlib`."""
    while (caller := frame.f_back) is not None and (
        frame.f_globals is _CONTEXTLIB
        or (caller.f_globals is _CONTEXTLIB and frame.f_code.co_flags & _GENERATOR)
    ):
        frame = caller
    return frame
