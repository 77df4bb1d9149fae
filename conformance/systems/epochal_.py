"""Epochal: an operation pins an epoch; a swap is a change."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from conformance.plugin import export
from epochal import Runtime
from epochal.artifact import Artifact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from epochal import Cutover


class Epochal:
    """Epochal as its README describes it."""

    name: ClassVar = "Epochal"
    how: ClassVar = "`rt.change()` for a swap, `rt.epoch` read once for each operation"
    lacks: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, folder: Path) -> None:
        self.rt = Runtime(drain_timeout=1.0)
        self.last: Cutover | None = None

    def load(self, sources: Mapping[str, str]) -> None:
        """Load all plugins in one change."""
        with self.rt.change() as change:
            for name, text in sources.items():
                change.load(Artifact(name, {f"{name}.py": text.encode()}))

    def swap(self, sources: Mapping[str, str]) -> None:
        """Reload all plugins in one change."""
        with self.rt.change() as change:
            for name, text in sources.items():
                change.reload(name, Artifact(name, {f"{name}.py": text.encode()}))
        self.last = change.cutover

    @contextmanager
    def begin(self) -> Iterator[Callable[[str, str], Callable[..., Any]]]:
        """Begin an operation, which pins the current epoch."""
        with self.rt.operation() as operation:
            exports = operation[export]
            yield lambda plugin, function: exports[f"{plugin}.{function}"]

    def holders(self) -> tuple[str, ...]:
        """The holders of the old version in the last swap's report, as text."""
        return tuple(map(str, self.last.holders)) if self.last is not None else ()

    def close(self) -> None:
        """Close the runtime."""
        self.rt.close(drain_timeout=1.0)
