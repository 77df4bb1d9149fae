"""The limits of a WebAssembly plugin, which the host gives with its grants.

``grants={"*", "max_memory:64MiB", "call_timeout:250ms"}``: so they are part of the epoch's id, in
the store, and can be given wherever grants can. Without them the defaults hold; a plugin cannot ask
for more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from epochal.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterable

_MIB: Final = 1024 * 1024
_UNITS: Final[dict[str, dict[str, float]]] = {
    "max_memory": {"KiB": 1024, "MiB": _MIB, "GiB": 1024 * _MIB},
    "call_timeout": {"ms": 0.001, "s": 1.0},
}
_EXPECTED: Final = {"max_memory": "max_memory:64MiB", "call_timeout": "call_timeout:250ms"}
_NUMBER: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([A-Za-z]+)")

MAX_STACK: Final = 512 * 1024
"""Bytes of stack of one call. A thread of an engine may have no more than two MiB."""
MAX_TABLE_ELEMENTS: Final = 100_000
"""References in each table; compilers make one table, with an entry for each function pointer."""


@dataclass(frozen=True, slots=True)
class GuestLimits:
    """What a plugin's instances may use.

    Attributes:
        max_memory: bytes of memory of one instance, and of one table's rows.
        call_timeout: seconds of one call.
    """

    max_memory: int = 256 * _MIB
    call_timeout: float = 10.0


def read_limits(grants: Iterable[str]) -> GuestLimits:
    """The limits among a plugin's grants; of several for one thing, the strictest holds.

    Raises:
        HostError: one has no such form.
    """
    found: dict[str, float] = {}
    for grant in grants:
        name, _, text = grant.partition(":")
        if name in _UNITS:
            value = _read(name, text)
            found[name] = min(found.get(name, value), value)
    defaults = GuestLimits()
    return GuestLimits(
        int(found.get("max_memory", defaults.max_memory)),
        found.get("call_timeout", defaults.call_timeout),
    )


def _read(name: str, text: str) -> float:
    match = _NUMBER.fullmatch(text)
    unit = _UNITS[name].get(match[2]) if match is not None else None
    if match is None or unit is None or float(match[1]) == 0:
        units = ", ".join(_UNITS[name])
        raise HostError(
            f"the grant '{name}:{text}' has no limit in it: expected a number and a unit "
            f"({units}), such as {_EXPECTED[name]!r}"
        )
    return float(match[1]) * unit
