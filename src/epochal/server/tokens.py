"""The tokens that let somebody in: where they come from, and when there must be some.

Beyond loopback whoever reaches the port could ask for anything, so both rights need a token there.
On loopback queries are free, and an admin token that nobody gave is made at the start.
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
        query: for queries and reads; None where anybody who reaches the service may.
        is_made: whether `admin` was made here, so that somebody must be told.
    """

    admin: str
    query: str | None
    is_made: bool

    def __repr__(self) -> str:
        """Without the tokens: it may end up in a log."""
        return f"<tokens{', made' if self.is_made else ''}>"


def read_tokens(
    host: str,
    environment: Mapping[str, str],
    admin_file: Path | None = None,
    query_file: Path | None = None,
) -> Tokens:
    """Find the tokens: a file goes before the environment.

    Args:
        host: the address to listen on.
        environment: its `EPOCHAL_ADMIN_TOKEN` and `EPOCHAL_QUERY_TOKEN`.
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
            f"{host} can be reached from other machines, and whoever loads a plugin runs code "
            f"here: set {missing} (or --token-file and --query-token-file)"
        )
    if admin is not None and admin == query:
        raise HostError("the two tokens are equal, so whoever may query could change plugins")
    return Tokens(admin or secrets.token_urlsafe(32), query, is_made=admin is None)


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
    where = name
    if path is not None:
        where = str(path)
        try:
            token = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise HostError(f"the token in {path} cannot be read: {error}") from None
    if token is None:
        return None
    token = token.strip()
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise HostError(
            f"the token in {where} is none: expected {_SHORTEST} or more printable ASCII "
            "characters without spaces, such as `openssl rand -hex 32` gives"
        )
    return token
