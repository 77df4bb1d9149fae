"""The names of the interface between host and guest, version 1; docs/wasm.md describes it."""

from __future__ import annotations

from typing import Final

INTERFACE: Final = 1
MARK: Final = "epochal_interface_"
"""With the version, the function by which a module says for which one it is made."""

INIT: Final = "epochal_init"
SHUTDOWN: Final = "epochal_shutdown"
EXPORT_STATE: Final = "epochal_export_state"
IMPORT_STATE: Final = "epochal_import_state"
LIFE: Final = frozenset({INIT, SHUTDOWN, EXPORT_STATE, IMPORT_STATE})
"""The functions that the host calls if the module exports them."""
