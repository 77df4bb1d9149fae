"""The two sizes of a long test: `make test` runs the quick one, `make test-long` the whole one."""

import os
from typing import TypeVar

T = TypeVar("T")

IS_LONG = bool(os.environ.get("EPOCHAL_LONG"))


def sized(quick: T, whole: T) -> T:
    """The one of two values that belongs to this run."""
    return whole if IS_LONG else quick
