"""The world of components: the text of `wit/plugin.wit`.

It is in the wheel among the templates; in a checkout it is where it was written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

_IN_WHEEL: Final = Path(__file__).with_name("templates") / "wasm" / "epochal.wit"
_IN_CHECKOUT: Final = Path(__file__).parents[3] / "wit" / "plugin.wit"


def component_world() -> str:
    """The world `epochal:plugin`, for a component's own world to take from."""
    path = _IN_WHEEL if _IN_WHEEL.exists() else _IN_CHECKOUT
    return path.read_text(encoding="utf-8")
