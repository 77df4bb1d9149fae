"""The two ends of a flow, for one unit of work.

Between units a flow knows its ends by name only. For each it looks them up in the epoch of that
moment, lets the rest of the epoch go, enters the gates of both, and has each object for itself. So
a hand-over, which closes a gate, finds every event that was read also written, and no change waits
for a batch but those of its two plugins.

An end may be absent: its plugin is not active, or its object is busy with a `checkpoint` for a
change that was given up at its time limit. What can be done without it, is.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from epochal._core.introspect.tracebacks import format_error
from epochal.kinds.stream import sink, source
from epochal.kinds.toolkit.gated_state import state_ref_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from epochal._core.generation.operation import Operation
    from epochal.kinds.stream import StreamEndpoint, StreamKind
    from epochal.kinds.toolkit.gated_state import StateRef
    from epochal.runtime import Runtime

KINDS: Final[tuple[StreamKind, StreamKind]] = (source, sink)


class EndFailedError(Exception):
    """A call of an end raised; the text says which, and what."""


@final
class End:
    """A source or sink that nobody else calls meanwhile.

    Attributes:
        told: what it is, for people.
        kept: its object's record.
    """

    __slots__ = ("_side", "kept", "told")

    def __init__(self, told: str, side: StateRef) -> None:
        self.told: Final = told
        self._side: Final = side
        self.kept: Final[StreamEndpoint] = side.state  # type: ignore[assignment]  # a stream's

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the plugin's object.

        Raises:
            EndFailedError: it raised, whatever it was.
        """
        try:
            return self._side.method(method)(*arguments)
        except BaseException as error:  # noqa: BLE001  the plugin's own: told, and tried again
            told = f"{self.told}, {method}: {format_error(error)}"
        # Not from within: the error's frames would hold the plugin in use.
        raise EndFailedError(told)

    def can(self, method: str) -> bool:
        """Whether it has an optional method."""
        return callable(getattr(self.kept.target, method, None))


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends, as far as they are there.

    Attributes:
        source: None for absent.
        sink: None for absent.
        waiting: who is absent and why; empty for nobody.
    """

    source: End | None
    sink: End | None
    waiting: str


@contextmanager
def engaged(runtime: Runtime, names: tuple[str, str], *, wait: bool = False) -> Iterator[Ends]:
    """Have both ends of a flow for one unit of work.

    Args:
        runtime: whose.
        names: the full names of the source and the sink.
        wait: wait for an object that is busy, rather than do without it.

    Yields:
        Both, as far as they are there.

    Raises:
        RuntimeClosedError: there is no work any more.
    """
    with runtime.operation(f"stream {names[0]} -> {names[1]}") as operation:
        sides = _looked_up(operation, names)
        with _inside(sides) as newest, ExitStack() as alone:
            ends: list[End | None] = []
            waiting: list[str] = []
            for kind, name, side in zip(KINDS, names, newest, strict=True):
                end = End(f"{kind.name} {name}", side) if side is not None else None
                if end is None:
                    waiting.append(f"{name} not active")
                elif end.kept.call_lock.acquire(blocking=wait):
                    alone.callback(end.kept.call_lock.release)
                else:
                    end = None
                    waiting.append(f"{name} busy: in checkpoint for a change that was given up")
                ends.append(end)
            yield Ends(ends[0], ends[1], " and ".join(waiting))


def _looked_up(operation: Operation, names: tuple[str, str]) -> list[StateRef | None]:
    """Both ends as the operation sees them, which holds no other plugin from then on."""
    handles = [operation[kind].get(name) for kind, name in zip(KINDS, names, strict=True)]
    there = [name for name, handle in zip(names, handles, strict=True) if handle is not None]
    operation.narrow({name.partition(".")[0] for name in there})
    return [state_ref_of(handle) if handle is not None else None for handle in handles]


@contextmanager
def _inside(sides: Sequence[StateRef | None]) -> Iterator[list[StateRef | None]]:
    """Be inside the gates of those that are there.

    Yields:
        For each, where calls go now.
    """
    with ExitStack() as gates:
        yield [gates.enter_context(side.inside()) if side is not None else None for side in sides]
