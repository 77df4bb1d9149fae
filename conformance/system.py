"""What a scenario asks of a system, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    Look = Callable[[str, str], Callable[..., Any]]


class System(Protocol):
    """One way to run plugins and to swap them.

    Attributes:
        name: as people call it.
        how: how it is used here, in a sentence.
        lacks: the names of scenarios that ask for what it does not promise: not applicable.
    """

    name: ClassVar[str]
    how: ClassVar[str]
    lacks: ClassVar[frozenset[str]]

    def __init__(self, folder: Path) -> None:
        """Start, with an empty folder for the plugins' files."""

    def load(self, sources: Mapping[str, str]) -> None:
        """Load plugins: name -> source text."""

    def swap(self, sources: Mapping[str, str]) -> None:
        """Replace plugins, together if it can. The system shuts the old versions down.

        A system without a notion of shutting down does what a host would: it calls the old
        version's `shutdown()` as soon as the new one serves.
        """

    def begin(self) -> AbstractContextManager[Look]:
        """One operation: gives what finds a function by plugin and name, as operations do there."""
        ...

    def close(self) -> None:
        """End."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scenario found.

    Attributes:
        passed: None where the scenario does not apply.
        evidence: what was counted, in words.
    """

    passed: bool | None
    evidence: str
