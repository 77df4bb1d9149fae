"""Capabilities: the kinds that a plugin may register, and the services that it may be given.

A manifest asks, the host grants, a plugin gets the intersection. A capability is the name of a kind
(`scalar`, `agent.tool`) or of a host service, which has a colon (`net:api.example.org`, `fs:data`).

* A manifest without the key asks for every kind and no service; with it, for exactly what it lists.
* A grant is a pattern: `*` for every kind, `agent.*`, `net:*`, `net:*.example.org`. A pattern
  without a colon never grants a service.

In-process Python cannot be sandboxed, and this is not a sandbox: grants decide which objects the
host gives to a plugin and registers for it.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, overload

from epochal.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Collection

DEFAULT_GRANTS: Final = frozenset({"*"})
"""Every kind and no service."""

_CAPABILITY: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*(:[^\s:*?\[\]][^\s*?\[\]]*)?")
_PATTERN: Final = re.compile(r"[a-z0-9_.*?\[\]!-]+(:\S+)?")


def is_capability(text: str) -> bool:
    """Whether a text has the form of a capability."""
    return _CAPABILITY.fullmatch(text) is not None


@overload
def checked_grants(grants: None) -> None: ...
@overload
def checked_grants(grants: Collection[str]) -> frozenset[str]: ...
def checked_grants(grants: Collection[str] | None) -> frozenset[str] | None:
    """Check the form of a host's grants; None stays None.

    Raises:
        HostError: a grant is not a pattern; the message names it.
    """
    if grants is None:
        return None
    if isinstance(grants, str):
        raise HostError(f"grants must be a collection of patterns, not the text {grants!r}")
    for pattern in grants:
        if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern):
            raise HostError(
                f"grant {pattern!r} is not a capability pattern: expected a kind such as 'scalar' "
                "or '*', or a service such as 'net:api.example.org' or 'net:*'"
            )
    return frozenset(grants)


def allows(asked: frozenset[str] | None, grants: frozenset[str], capability: str) -> bool:
    """Whether a plugin has a capability.

    Args:
        asked: the capabilities in its manifest; None if the manifest has no such key.
        grants: the host's patterns.
        capability: an exact name.
    """
    service = ":" in capability
    if service if asked is None else capability not in asked:
        return False
    return any(":" in p or not service for p in grants if fnmatchcase(capability, p))


def missing_grant(asked: frozenset[str] | None, grants: frozenset[str], capability: str) -> str:
    """What to do for a plugin to have a capability; empty if it has it."""
    if allows(asked, grants, capability):
        return ""
    todo = []
    if not allows(asked, frozenset({"*", "*:*"}), capability):
        todo.append(f"add {capability!r} to `capabilities` in its manifest")
    if not allows(frozenset({capability}), grants, capability):
        todo.append(f"have the host grant it (grants={{{capability!r}}}, --grant {capability})")
    return ", and ".join(todo)
