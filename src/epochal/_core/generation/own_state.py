"""The state that a plugin keeps itself, and errors of a hand-over in words.

`export_state()` and `import_state(state, from_version)` move it; the change runs them with the
state of the exports (`epochal._core.change.state_transfer`).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from epochal._core.introspect.tracebacks import format_error
from epochal.errors import EpochalError, HandOverError, IncompatibleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from epochal._core.generation.kind import Kind
    from epochal._core.use.gate import Gate

    Key = tuple[Kind[Any], str]


class PluginState:
    """The state of a plugin's own: what `export_state()` returns is given to `import_state`.

    Nobody waits meanwhile: what the old generation's functions do to its state after it was
    exported is not in it. Where nothing may be lost, the state belongs in a service, whose calls
    wait (`epochal.kinds.service`).

    Attributes:
        gate: none.
    """

    def __init__(
        self,
        export_state: Callable[[], Any],
        import_state: Callable[[Any, str], object],
        from_version: str,
    ) -> None:
        self.gate: Final[Gate | None] = None
        self._export: Final = export_state
        self._import: Final = import_state
        self._from_version: Final = from_version

    def run(self) -> None:
        """Export, then import."""
        self._import(self._export(), self._from_version)

    def commit(self, offered: Any) -> None:
        """Nothing waits for it."""

    def roll_back(self) -> None:
        """The old generation has all that it had."""


def describe(key: Key | None, plugin: str) -> str:
    """What is handed over, in words."""
    return f"the state of plugin {plugin!r}" if key is None else f"{key[0].name} {key[1]}"


@contextmanager
def translate_errors(message: str, plugin: str) -> Iterator[None]:
    """Have what is raised inside say what could not be done, and whose fault that is.

    Raises:
        IncompatibleError: a `TypeError` or `ValueError`: the new version refuses.
        HandOverError: anything else that is not ours.
    """
    try:
        yield
    except EpochalError:
        raise
    except (TypeError, ValueError) as error:
        raise IncompatibleError(f"{message}: {format_error(error)}") from error
    except BaseException as error:
        raise HandOverError(f"{message}: {format_error(error)}", plugin=plugin) from error
