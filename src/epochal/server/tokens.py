"""The service's tokens: their sources, and when they are required.

Beyond loopback any machine may reach the port, so both rights need a token there. On loopback
queries need none, and an admin token is generated at the start where none is given.
"""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from epochal.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ADMIN: Final = "EPOCHAL_ADMIN_TOKEN"
QUERY: Final = "EPOCHAL_QUERY_TOKEN"
_SHORTEST: Final = 16


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one service.

    Attributes:
        admin: for changes.
        query: for queries and reads; None where they need no token.
        is_generated: whether `admin` was generated here, and must be shown to the operator.
    """

    admin: str
    query: str | None
    is_generated: bool

    def __repr__(self) -> str:
        """Without the tokens: a log may show it."""
        return f"<tokens{', generated' if self.is_generated else ''}>"


def read_tokens(
    host: str,
    environment: Mapping[str, str],
    admin_file: Path | None = None,
    query_file: Path | None = None,
) -> Tokens:
    """Read the tokens: a file takes precedence over the environment.

    Args:
        host: the address to listen on.
        environment: has `EPOCHAL_ADMIN_TOKEN` and `EPOCHAL_QUERY_TOKEN`.
        admin_file: holds the admin token.
        query_file: holds the query token.

    Raises:
        HostError: a token is missing beyond loopback, too short, or cannot be read.
    """
    admin = _read(admin_file, environment, ADMIN)
    query = _read(query_file, environment, QUERY)
    if not is_loopback(host) and (admin is None or query is None):
        missing = " and ".join(
            name for name, token in ((ADMIN, admin), (QUERY, query)) if token is None
        )
        raise HostError(
            f"{host} can be reached from other machines, and loading a plugin runs its code "
            f"here: set {missing} (or --token-file and --query-token-file)"
        )
    if admin is not None and admin == query:
        raise HostError(
            "the two tokens are equal, which gives every query the right to change plugins"
        )
    return Tokens(admin or secrets.token_urlsafe(32), query, is_generated=admin is None)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_any(host: str) -> bool:
    """Whether that address stands for all of this machine's."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return not host


def _read(path: Path | None, environment: Mapping[str, str], name: str) -> str | None:
    token = environment.get(name)
    source = name
    if path is not None:
        source = str(path)
        try:
            token = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise HostError(f"the token in {path} cannot be read: {error}") from None
    if token is None:
        return None
    token = token.strip()
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise HostError(
            f"the token in {source} is not valid: expected {_SHORTEST} or more printable ASCII "
            "characters without spaces, such as `openssl rand -hex 32` gives"
        )
    return token
