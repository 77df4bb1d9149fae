"""What clients saw before a change, and for how long it still answers them.

The problem: a client lists the tools, shows them to a model, and calls one a minute later. In
between the tool may have changed. A change that the client's call survives (a new optional
argument, another body) needs nothing: the call runs in the newest epoch. For the others the
operator chooses:

- `keep`: the old version answers such calls, for a bounded time after the change. The session's
  turn ends on the tools that it saw.
- `error`: the call is answered with the reason, and the new schema.

The old version is held for each tool by itself, and only where a client may have seen it, so a
change of a body delays no drain. It is an operation, and the report of the change lists it as a
holder. `cancel_holders=True` lets it go.

Which thread writes: the change that has the turn adds to ``_seen`` and ``_held``; event loops read
both, and take out of ``_held``. Each is one step of a dictionary.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from epochal.errors import ToolArgumentError
from epochal.kinds import tool
from epochal.mcp.catalogue import call_meta, catalogue_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from weakref import ref

    from epochal import Epoch, Operation
    from epochal.runtime import Runtime
    from epochal.tools import Tool, ToolFacts

Stale: TypeAlias = Literal["keep", "error"]

_MAX_HELD: Final = 8
_MAX_SEEN: Final = 64


@dataclass(frozen=True, slots=True, weakref_slot=True)
class HeldTool:
    """An old version of a tool that still answers.

    Attributes:
        tool: the tool.
        operation: keeps its generation in use.
        meta: what a result says of its code.
    """

    tool: Tool
    operation: Operation
    meta: dict[str, Any]


class Superseded:
    """The versions of tools that clients may have seen.

    Args:
        rt: the runtime.
        stale: what becomes of calls of them.
        hold: seconds for which an old version answers.
    """

    def __init__(self, rt: Runtime, stale: Stale, hold: float) -> None:
        if stale not in ("keep", "error"):
            raise ValueError(f"stale={stale!r} is not known; expected 'keep' or 'error'")
        if not hold > 0:
            raise ValueError(f"hold is a positive number of seconds, not {hold!r}")
        self.is_kept: Final = stale == "keep"
        self.hold: Final = hold
        self._rt: Final = rt
        self._seen: Final[dict[str, dict[str, ToolFacts]]] = {}
        self._held: Final[dict[str, dict[str, HeldTool]]] = {}

    def replace(self, old: Epoch, new: Epoch, *, is_seen: bool) -> Callable[[], None]:
        """Note what a change supersedes; called before it is published.

        Args:
            old: the epoch that serves.
            new: the epoch that is to serve.
            is_seen: whether any client may have seen the old one.

        Returns:
            Forgets it again, for a change that is rolled back.
        """
        noted: list[tuple[str, str]] = []
        after = catalogue_of(new).tools
        for name, facts in catalogue_of(old).tools.items():
            now = after.get(name)
            if now is not None and now.digest == facts.digest:
                continue
            versions = self._seen.setdefault(name, {})
            versions[facts.digest] = facts
            while len(versions) > _MAX_SEEN:
                del versions[next(iter(versions))]
            breaks = now is None or facts.faults_after(now)
            if self.is_kept and is_seen and breaks:
                self._keep(old, facts)
                noted.append((name, facts.digest))
        return partial(self._drop_all, noted)

    def _keep(self, old: Epoch, facts: ToolFacts) -> None:
        generation = old.generations[facts.plugin]
        if generation.state.name != "ACTIVE":  # stopped first: nothing of it can be called
            return
        label = f"MCP: {facts.name} {generation.version}, for clients that saw it"
        operation = self._rt.operation(f"{label} (at most {self.hold:g} s)", epoch=old)
        operation.narrow([facts.plugin])
        held = HeldTool(old[tool][facts.name], operation, call_meta(old, facts.plugin))
        operation.on_cancel(partial(self.drop, facts.name, facts.digest))
        self.drop(facts.name, facts.digest)  # the same to clients, with an older body
        versions = self._held.setdefault(facts.name, {})
        versions[facts.digest] = held
        while len(versions) > _MAX_HELD:
            self.drop(facts.name, next(iter(versions)))

    def drop(self, name: str, digest: str, only: HeldTool | None = None) -> None:
        """Let an old version go. Idempotent; called on any thread.

        Args:
            name: of the tool.
            digest: of the version.
            only: the version itself, where another of the same digest is to stay; None for any.
        """
        versions = self._held.get(name, {})
        if only is None or versions.get(digest) is only:
            held = versions.pop(digest, None)
            if held is not None:
                held.operation.end()

    def _drop_all(self, noted: list[tuple[str, str]]) -> None:
        for name, digest in noted:
            self.drop(name, digest)

    def held_versions(self) -> list[HeldTool]:
        """The old versions that answer."""
        return [held for versions in list(self._held.values()) for held in list(versions.values())]

    def close(self) -> None:
        """Let all old versions go."""
        for held in self.held_versions():
            self.let_go(held)

    def let_go(self, held: HeldTool | None) -> None:
        """Let an old version go, if it still answers. Called on any thread."""
        if held is not None:
            self.drop(held.tool.name, held.tool.facts.digest, held)

    def let_go_of(self, held: ref[HeldTool]) -> None:
        """`let_go` for a timer, which must not keep the version itself."""
        self.let_go(held())

    def was_there(self, name: str) -> bool:
        """Whether there was a tool of that name, which a client may have seen."""
        return name in self._seen

    def faults(self, name: str, digest: str, now: ToolFacts | None) -> list[str]:
        """In words, why a client that saw a version may be wrong about the tool as it is."""
        if now is None:
            return ["it is gone"]
        facts = self._seen.get(name, {}).get(digest)
        if now.digest == digest or facts is None:
            return []
        return facts.faults_after(now)

    def held(self, name: str, digest: str) -> HeldTool | None:
        """The version that a client saw, or the newest that serves it as well, if one answers."""
        exact = self._held.get(name, {}).get(digest)
        if exact is not None:
            return exact
        saw = self._seen.get(name, {}).get(digest)
        versions = () if saw is None else self._newest(name)
        return next((one for one in versions if saw and not saw.faults_after(one.tool.facts)), None)

    def accepting(
        self, name: str, arguments: Mapping[str, Any]
    ) -> tuple[HeldTool, dict[str, Any]] | None:
        """The newest held version that takes these arguments, with them as it takes them."""
        for held in self._newest(name):
            try:
                return held, held.tool.check(arguments)
            except ToolArgumentError:
                continue
        return None

    def _newest(self, name: str) -> Iterator[HeldTool]:
        return reversed(list(self._held.get(name, {}).values()))
