"""The memory of this process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_PAGES: Final = Path("/proc/self/statm")


def resident_bytes() -> int | None:
    """Resident memory; None where the system does not tell."""
    try:
        return int(_PAGES.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None
