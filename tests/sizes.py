"""The three sizes of a test that could go on for ever, by the variable `EPOCHAL_SIZE`.

`make test` runs the quick one, `make test-long` the long one (a quarter of an hour in all on two
processors), `make test-hours` the whole one.
"""

import os
from typing import Final, TypeVar

T = TypeVar("T")

SIZE: Final = os.environ.get("EPOCHAL_SIZE", "quick")
if SIZE not in ("quick", "long", "whole"):
    raise ValueError(f"EPOCHAL_SIZE is {SIZE!r}: expected quick, long or whole")
IS_LONG: Final = SIZE != "quick"
IS_WHOLE: Final = SIZE == "whole"


def sized(quick: T, long: T, whole: T | None = None) -> T:
    """The one of three values that belongs to this run; the whole size is the long one, if None."""
    if IS_WHOLE and whole is not None:
        return whole
    return long if IS_LONG else quick
