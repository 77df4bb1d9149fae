"""The systems, by the name that the command takes."""

from __future__ import annotations

from typing import Final

from conformance.systems import dictionary, epochal_, pluggy_, reimport, reload_

SYSTEMS: Final = {
    "epochal": epochal_.Epochal,
    "reload": reload_.ImportlibReload,
    "reimport": reimport.Reimport,
    "pluggy": pluggy_.Pluggy,
    "dict": dictionary.DictSwap,
    "lock": dictionary.LockPerCall,
}
