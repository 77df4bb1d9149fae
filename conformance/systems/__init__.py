"""The systems, by the name that the command takes."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from conformance.systems import (
    cordis_,
    dictionary,
    epochal_,
    jurigged_,
    pluggy_,
    reimport,
    reload_,
)

SYSTEMS: Final = {
    "epochal": epochal_.Epochal,
    "reload": reload_.ImportlibReload,
    "reimport": reimport.Reimport,
    "jurigged": jurigged_.Jurigged,
    "pluggy": pluggy_.Pluggy,
    "cordis": cordis_.Cordis,
    "dict": dictionary.DictSwap,
    "lock": dictionary.LockPerCall,
}

_MODULES: Final = {"jurigged": "jurigged", "cordis": "cordis_py"}


def is_installed(system: str) -> bool:
    """Whether the distribution that a system needs is installed."""
    return system not in _MODULES or find_spec(_MODULES[system]) is not None
