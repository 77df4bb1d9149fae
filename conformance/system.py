"""The interface between scenarios and systems, and the outcome of a scenario."""

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
        name: its usual name.
        how: how it is used here, in a phrase.
        lacks: the names of scenarios that test a promise which it does not make.
    """

    name: ClassVar[str]
    how: ClassVar[str]
    lacks: ClassVar[frozenset[str]]

    def __init__(self, folder: Path) -> None:
        """Start, with an empty folder for the plugins' files."""

    def load(self, sources: Mapping[str, str]) -> None:
        """Load plugins: name -> source text."""

    def swap(self, sources: Mapping[str, str]) -> None:
        """Replace plugins, together if possible. The system shuts the old versions down.

        A system without a notion of shutting down does as its hosts would: it calls the old
        version's `shutdown()` as soon as the new one serves.
        """

    def begin(self) -> AbstractContextManager[Look]:
        """Begin an operation; yields its look-up of a function by plugin and name."""
        ...

    def close(self) -> None:
        """End the system; closing twice is allowed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a scenario with one system.

    Attributes:
        passed: None where the scenario does not apply.
        evidence: the counts, as text.
    """

    passed: bool | None
    evidence: str
