"""The two endpoints of a flow, for one unit of work.

Between units a flow knows its endpoints by name only. For each unit it looks them up in the current
epoch, releases the rest of that epoch, enters the gates of both, and locks each object for itself.
So a hand-over, which closes a gate, finds every event that was read also written, and a batch
delays no change but those of its two plugins.

An endpoint may be absent: its plugin is not active, or its object is busy with a `checkpoint` for a
change that was given up at its time limit. The flow then does what it can without it.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from epochal.errors import format_error
from epochal.kinds.stream import sink, source
from epochal.kinds.toolkit.gated_state import state_ref_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from epochal import Operation
    from epochal.kinds.stream import StreamEndpoint, StreamKind
    from epochal.kinds.toolkit.gated_state import StateRef
    from epochal.runtime import Runtime

KINDS: Final[tuple[StreamKind, StreamKind]] = (source, sink)


class EndpointError(Exception):
    """A call of an endpoint raised; the text has the endpoint, the method and the error."""


@final
class FlowEndpoint:
    """A source or sink, for the exclusive use of one thread.

    Attributes:
        label: its kind and name, for errors.
        state: the record of its object.
    """

    __slots__ = ("_ref", "label", "state")

    def __init__(self, label: str, ref: StateRef) -> None:
        self.label: Final = label
        self._ref: Final = ref
        self.state: Final[StreamEndpoint] = ref.state  # type: ignore[assignment]  # a stream's

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the plugin's object.

        Raises:
            EndpointError: it raised any exception.
        """
        try:
            return self._ref.method(method)(*arguments)
        except BaseException as error:  # noqa: BLE001  the plugin's own: reported, and retried
            text = f"{self.label}, {method}: {format_error(error)}"
        # Not inside `except`: as the error's context, its frames would hold the plugin in use.
        raise EndpointError(text)

    def has(self, method: str) -> bool:
        """Whether the object has an optional method."""
        return callable(getattr(self.state.target, method, None))


@dataclass(frozen=True, slots=True)
class FlowEndpoints:
    """Both endpoints of a flow, or those that are there.

    Attributes:
        source: None if it is absent.
        sink: None if it is absent.
        waiting: the absent ones and the reason; empty if both are there.
    """

    source: FlowEndpoint | None
    sink: FlowEndpoint | None
    waiting: str


@contextmanager
def locked_endpoints(
    runtime: Runtime, names: tuple[str, str], *, wait: bool = False
) -> Iterator[FlowEndpoints]:
    """Lock both endpoints of a flow for one unit of work.

    Args:
        runtime: has their plugins.
        names: the full names of the source and the sink.
        wait: wait for an object that is busy, instead of doing without it.

    Yields:
        Those that are there.

    Raises:
        RuntimeClosedError: the runtime is closed.
    """
    operation = runtime.operation(f"stream {names[0]} -> {names[1]}", epoch=runtime.epoch)
    # Not entered: the plugins' code is called in the block, and belongs to no operation.
    with ExitStack() as ending:
        ending.callback(operation.end)
        refs = _look_up(operation, names)
        # The gates first, the locks inside: a hand-over waits for the lock behind a closed gate.
        with _inside_gates(refs) as current, ExitStack() as locks:
            endpoints: list[FlowEndpoint | None] = []
            waiting: list[str] = []
            for kind, name, ref in zip(KINDS, names, current, strict=True):
                endpoint = FlowEndpoint(f"{kind.name} {name}", ref) if ref is not None else None
                if endpoint is None:
                    waiting.append(f"{name} not active")
                elif endpoint.state.call_lock.acquire(blocking=wait):
                    locks.callback(endpoint.state.call_lock.release)
                else:
                    endpoint = None
                    waiting.append(f"{name} busy: in checkpoint for a change that was given up")
                endpoints.append(endpoint)
            yield FlowEndpoints(endpoints[0], endpoints[1], " and ".join(waiting))


def _look_up(operation: Operation, names: tuple[str, str]) -> list[StateRef | None]:
    """Look both endpoints up; from then on the operation holds no other plugin."""
    handles = [operation[kind].get(name) for kind, name in zip(KINDS, names, strict=True)]
    there = [name for name, handle in zip(names, handles, strict=True) if handle is not None]
    operation.narrow({name.partition(".")[0] for name in there})
    return [state_ref_of(handle) if handle is not None else None for handle in handles]


@contextmanager
def _inside_gates(refs: Sequence[StateRef | None]) -> Iterator[list[StateRef | None]]:
    """Enter the gates of those that are there.

    Yields:
        For each, the reference that calls go to now.
    """
    with ExitStack() as gates:
        yield [gates.enter_context(ref.inside()) if ref is not None else None for ref in refs]
