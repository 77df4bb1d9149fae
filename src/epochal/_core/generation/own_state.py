"""A plugin's own state, which `export_state()` and `import_state(state, from_version)` move.

The change runs it with the state of the exports (`epochal._core.change.state_transfer`). Here is
also the translation of errors that plugin code and kinds raise while state is handed over.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from epochal._core.introspect.callables import check_ran
from epochal._core.use.gate import Gate
from epochal.errors import EpochalError, HandOverError, IncompatibleError, format_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from epochal._core.generation.kind import ExportKey


class PluginState:
    """The transfer of a plugin's own state: the result of `export_state()` goes to `import_state`.

    No caller waits meanwhile: what the old generation's functions do to its state after the export
    is lost. State that must not lose anything belongs in a service, whose calls wait
    (`epochal.kinds.service`).

    Attributes:
        gate: None; see above.
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
        import_state(self._import, export_state(self._export), self._from_version)

    def commit(self, offered: Any) -> None:
        """Do nothing: no call waits for this state."""

    def roll_back(self) -> None:
        """Do nothing: the old generation still has all of its state."""


def export_state(function: Callable[[], Any]) -> Any:
    """Call a plugin's `export_state()`; returns the state."""
    state = function()
    check_ran("export_state", state)
    return state


def import_state(function: Callable[[Any, str], object], state: Any, from_version: str) -> None:
    """Call a plugin's `import_state(state, from_version)`."""
    check_ran("import_state", function(state, from_version))


NO_IMPORT_STATE: Final = "what export_state() returns: there is no import_state() to take it"
"""The state that is dropped where a new version has no `import_state`."""


def describe(key: ExportKey | None, plugin: str) -> str:
    """The state that is handed over, in words: an export's, or (None) the plugin's own."""
    return f"the state of plugin {plugin!r}" if key is None else f"{key[0].name} {key[1]}"


def check_handover(handover: object) -> None:
    """Check what a kind's `hand_over` returned, before any gate is closed for it.

    Raises:
        TypeError: it is neither None nor a `Handover`.
    """
    if handover is None:
        return
    methods = [getattr(handover, name, None) for name in ("run", "commit", "roll_back")]
    gate = getattr(handover, "gate", handover)
    if not all(map(callable, methods)) or not (gate is None or isinstance(gate, Gate)):
        raise TypeError(f"hand_over returned no Handover, but {type(handover).__qualname__}")


@contextmanager
def translate_errors(message: str, plugin: str) -> Iterator[None]:
    """Turn exceptions of the block into errors that begin with `message`.

    Raises:
        IncompatibleError: for a `TypeError` or `ValueError`: the new version refuses.
        HandOverError: for any other exception that is not an `EpochalError`.
    """
    try:
        yield
    except EpochalError:
        raise
    except (TypeError, ValueError) as error:
        raise IncompatibleError(f"{message}: {format_error(error)}") from error
    except BaseException as error:
        raise HandOverError(f"{message}: {format_error(error)}", plugin=plugin) from error
