"""Access control: the right that each request needs, and the one that it has.

A client that can load a plugin can run code here, and any page in any browser on this machine can
reach loopback. So, before a route sees a request:

1. ``Host`` must be a name of this service. Otherwise a foreign name that resolves to this machine
   would make a foreign page's origin the service's own (DNS rebinding). A probe of its health may
   also give an address, as those of Docker and Kubernetes do: no foreign page has one.
2. ``Origin``, where a browser sends one, must be the page's own; ``Sec-Fetch-Site`` must not be
   another site's.
3. Every request but a read or a query needs the admin token: as ``Authorization: Bearer``, or by
   the page's session. Reads and queries need a token only where one is set; beyond loopback it is.

The page's session has two halves. Browsers send cookies to every port of a host, so another local
service would see the cookie (``HttpOnly``, ``SameSite=Strict``). The key is in the page's own
storage, which belongs to one port, and is sent in a header that no foreign page can set. A change
needs both. Both are derived from the token, so that a restart with the same token keeps sessions;
neither reveals it. Secrets are compared in constant time and never logged.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final

from epochal.server.problem_details import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import Scope

KEY_HEADER: Final = "epochal-session"
_MAX_PLAIN: Final = 64
_READ_FIELDS: Final = frozenset(
    {b"host", b"origin", b"sec-fetch-site", b"authorization", b"cookie", KEY_HEADER.encode()}
)

_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_PROBES: Final = ("/healthz", "/readyz")
_OPEN_PATHS: Final = ("/", *_PROBES)
_SOURCES: Final = re.compile(r"/v1/plugins/[^/]+/diff")
"""The code of plugins, which may hold what no client of queries is to see."""
_READS: Final = ("GET", "HEAD", "OPTIONS")
_CALLS: Final = (("POST", "/v1/query"), ("POST", "/mcp"), ("DELETE", "/mcp"))


class Right(IntEnum):
    """The right that a request needs, or has; a higher one includes the lower."""

    # The page's files, and whether the service lives: no data.
    NOTHING = 0
    # Queries and reads.
    READ = 1
    # Changes of plugins: they run new code.
    CHANGE = 2


@dataclass(frozen=True, kw_only=True)
class Access:
    """The names that the service is known by, and its tokens.

    Attributes:
        authorities: the values of `Host`, lower case: `127.0.0.1:8000`, `localhost:8000`; without a
            port, any port.
        admin_token: for changes.
        query_token: for queries and reads; None where they need no token.
        root_path: the path under which a proxy offers the service, such as `/sql`; empty for none.
    """

    authorities: frozenset[str]
    admin_token: str
    query_token: str | None = None
    root_path: str = ""

    def __repr__(self) -> str:
        """Without the tokens: a log may show it."""
        return f"<access by {', '.join(sorted(self.authorities))}>"

    def is_served(self, authority: str) -> bool:
        """Whether a `Host` names this service."""
        authority = authority.lower()
        name, colon, port = authority.rpartition(":")
        bare = name if colon and port.isdigit() else authority
        return authority in self.authorities or bare in self.authorities

    def is_own(self, origin: str) -> bool:
        """Whether an `Origin` is this service's page."""
        scheme, separator, authority = origin.partition("://")
        return bool(separator) and scheme in ("http", "https") and self.is_served(authority)

    def of_token(self, token: str) -> Right:
        """The right of a token."""
        if _same(token, self.admin_token):
            return Right.CHANGE
        if self.query_token is not None and _same(token, self.query_token):
            return Right.READ
        return Right.NOTHING

    @cached_property
    def cookie(self) -> str:
        """The half of the page's session that the browser keeps."""
        return _derived(self.admin_token, "cookie")

    @cached_property
    def key(self) -> str:
        """The half that the page keeps."""
        return _derived(self.admin_token, "key")

    @cached_property
    def cookie_name(self) -> str:
        """Another one for each service: browsers share cookies among the ports of a host."""
        return f"epochal_{_derived(self.admin_token, 'name')[:8]}"


def right_needed(method: str, path: str) -> Right:
    """The right that a request needs; an unknown method or path needs the highest."""
    if path in _OPEN_PATHS or path.startswith("/page/"):
        return Right.NOTHING if method in _READS else Right.CHANGE
    if _SOURCES.fullmatch(path):
        return Right.CHANGE
    # A tool is a plugin's function, as those that a query calls; a session's end is no change.
    # `mcp_mount` asks for the right of changes where a tool is marked destructive.
    if method in _READS or (method, path) in _CALLS:
        return Right.READ
    return Right.CHANGE


def _is_address(authority: str) -> bool:
    """Whether a `Host` is an IP address, with or without a port."""
    bracketed = re.fullmatch(r"\[(.*)\](?::\d+)?", authority)
    try:
        ipaddress.ip_address(bracketed[1] if bracketed else authority.partition(":")[0])
    except ValueError:
        return False
    return True


class Guard:
    """Refuses requests without the right that they need.

    Args:
        access: the tokens, and the names that the service is known by.
    """

    def __init__(self, access: Access) -> None:
        self._access: Final = access
        # The rights of requests that name a host and nothing else that decides. No secret is in
        # here, which a look-up would compare in a time that depends on it.
        self._plain: Final[dict[tuple[str, str, bytes], Right]] = {}

    def right_of(self, scope: Scope) -> Right:
        """The right that a request has.

        Raises:
            Problem: it needs a higher one, or comes from a foreign page or by a foreign name.
        """
        deciding = [field for field in scope["headers"] if field[0] in _READ_FIELDS]
        if len(deciding) != 1 or deciding[0][0] != b"host":
            return self._checked(scope, deciding)
        request = scope["method"], scope["path"], deciding[0][1]
        right = self._plain.get(request)
        if right is None:
            right = self._checked(scope, deciding)
            if len(self._plain) >= _MAX_PLAIN:
                self._plain.clear()
            self._plain[request] = right
        return right

    def _checked(self, scope: Scope, deciding: Iterable[tuple[bytes, bytes]]) -> Right:
        headers = _Fields(deciding)
        self._check_host(scope["path"], headers)
        own_origin = self._check_origin(scope["path"], headers)
        needed = right_needed(scope["method"], scope["path"])
        held = self._right_of(headers, own_origin=own_origin)
        if held < needed:
            self._refuse(headers, needed)
        return held

    def _check_host(self, path: str, headers: _Fields) -> None:
        hosts = headers.getlist("host")
        if path in _PROBES and len(hosts) == 1 and _is_address(hosts[0]):
            return
        if len(hosts) != 1 or not self._access.is_served(hosts[0]):
            raise Problem(
                421, "unknown-host", "the service is not known by that name; see --allow-host"
            )

    def _check_origin(self, path: str, headers: _Fields) -> bool:
        """Whether the request comes from the page itself, by its browser's headers."""
        origins = headers.getlist("origin")
        if any(not self._access.is_own(origin) for origin in origins):
            raise Problem(403, "origin", "a page of another origin may not use this service")
        site = headers.get("sec-fetch-site", "none")
        if site not in ("none", "same-origin") and path.startswith(("/v1/", "/mcp")):
            raise Problem(403, "origin", "a page of another site may not use this service")
        # Browsers send no `Origin` with a page's own reads.
        return bool(origins) or site == "same-origin"

    def _right_of(self, headers: _Fields, *, own_origin: bool) -> Right:
        access = self._access
        without_token = Right.READ if access.query_token is None else Right.NOTHING
        if (token := _bearer(headers)) is not None:
            return max(without_token, access.of_token(token))
        if not _same(_cookie(headers, access.cookie_name), access.cookie):
            return without_token
        # Cookie, key and origin: a cookie alone is sent by other services on this host as well.
        has_key = _same(headers.get(KEY_HEADER, ""), access.key)
        return Right.CHANGE if has_key and own_origin else Right.READ

    def _refuse(self, headers: _Fields, needed: Right) -> None:
        given = _bearer(headers) or ""
        if self._access.of_token(given) is Right.READ:
            raise Problem(403, "right", "the token is for queries; this needs the admin token")
        token = "the admin token" if needed is Right.CHANGE else "a token"
        code, detail = "token", f"this needs {token}: Authorization: Bearer …"
        challenge = 'Bearer realm="epochal"'
        if given:
            code, challenge = "wrong-token", f'{challenge}, error="invalid_token"'
            detail = f"the token is not this service's; this needs {token}"
        raise Problem(401, code, detail, {"www-authenticate": challenge})


def _bearer(headers: _Fields) -> str | None:
    """The token of `Authorization: Bearer`; None without one."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def authorities_of(sock: socket.socket, names: Iterable[str]) -> frozenset[str]:
    """The values of `Host` that name a service.

    Args:
        sock: the service's listening socket.
        names: further names, each with a port, or without one for any port.
    """
    further = {name.lower().rstrip(".") for name in names}
    if sock.family == socket.AF_UNIX:
        return frozenset({"localhost"} | further)
    host, port = sock.getsockname()[:2]
    own = {f"[{host}]:{port}" if ":" in host else f"{host}:{port}"}
    if ipaddress.ip_address(host).is_loopback:
        own.add(f"localhost:{port}")
    return frozenset(own | further)


class _Fields:
    """The fields of a request's head that matter here."""

    __slots__ = ("_values",)

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._values: Final[dict[bytes, list[str]]] = {}
        for name, value in headers:
            self._values.setdefault(name, []).append(value.decode("latin-1"))

    def get(self, name: str, default: str = "") -> str:
        """The first field of a name."""
        values = self._values.get(name.encode())
        return values[0] if values else default

    def getlist(self, name: str) -> list[str]:
        """All fields of a name."""
        return self._values.get(name.encode(), [])


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), wanted.encode(errors="replace"))


def _derived(token: str, purpose: str) -> str:
    return hmac.digest(token.encode(), f"epochal {purpose}".encode(), "sha256").hex()


def _cookie(headers: _Fields, name: str) -> str:
    if not (given := headers.get("cookie")):
        return ""
    try:
        cookie = SimpleCookie(given).get(name)
    except CookieError:
        return ""
    return cookie.value if cookie is not None else ""
