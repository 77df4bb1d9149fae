"""The command line's client of a service: HTTP, with a token if needed.

An error answer of the service is raised as `AnswerError` with the service's own code and text.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urldefrag, urlsplit

import httpx

from epochal.cli.server_options import DEFAULT
from epochal.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from epochal.artifact import Artifact

ARROW: Final = "application/vnd.apache.arrow.stream"
_CONNECT_S: Final = 5.0


class AnswerError(HostError):
    """The service answered with an error.

    Attributes:
        code: the service's own, as in `epochal.errors`.
        status: the HTTP status.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status: Final = status
        self.code = str(problem.get("code", "http"))
        detail = str(problem.get("detail", f"the service answered {status}"))
        is_missing = status == 401 and self.code == "token"
        hint = "; give it with --token-file or in EPOCHAL_ADMIN_TOKEN" if is_missing else ""
        super().__init__(f"{detail}{hint}")


class UnreachableError(HostError):
    """No service answers at the address."""

    code = "unreachable"


class Client:
    """A client of one service.

    Args:
        server: its address; `#token=…` behind it is the admin token.
        token_file: the token; otherwise it is in the address, or in `EPOCHAL_ADMIN_TOKEN`, or
            for queries alone in `EPOCHAL_QUERY_TOKEN`.

    Raises:
        HostError: the address is malformed, or the file cannot be read.
    """

    def __init__(self, server: str, token_file: Path | None = None) -> None:
        address, fragment = urldefrag(server)
        parts = urlsplit(address)
        socket = parts.path if parts.scheme == "unix" and not parts.netloc else ""
        if not socket and (parts.scheme not in ("http", "https") or not parts.netloc):
            raise HostError(
                f"--server {address!r} is not an address; expected one such as {DEFAULT} or "
                "unix:/run/epochal.sock"
            )
        self._address: Final = address.rstrip("/")
        token = _token(fragment, token_file)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        # No limit here: the service limits the drain of a change, and the time of a query.
        timeout = httpx.Timeout(None, connect=_CONNECT_S)
        self._http: Final = httpx.Client(
            base_url="http://localhost" if socket else self._address,
            transport=httpx.HTTPTransport(uds=socket) if socket else None,
            headers=headers,
            timeout=timeout,
        )

    def ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """One request with a JSON answer.

        Raises:
            AnswerError: the service refused.
            HostError: it cannot be reached.
        """
        try:
            answer = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None
        self._check(answer)
        document: dict[str, Any] = answer.json()
        return document

    def stream(self, method: str, path: str, **options: Any) -> Stream:
        """One request with a streamed answer; a context manager."""
        return Stream(self, self._http.build_request(method, path, **options))

    def events(self, last: str | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """The service's events, as type and document: past ones first, then new ones, without end.

        Raises:
            AnswerError: the service refused.
            HostError: it cannot be reached, or closed the connection.
        """
        headers = {"last-event-id": last} if last else {}
        with self.stream("GET", "/v1/events", headers=headers) as answer:
            yield from _events(answer.lines())

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def send(self, request: httpx.Request) -> httpx.Response:
        """Send a request with a streamed answer.

        Raises:
            AnswerError: the service refused.
            HostError: it cannot be reached.
        """
        try:
            answer = self._http.send(request, stream=True)
            if answer.is_error:
                answer.read()
        except httpx.TransportError as error:
            raise self._unreachable(error) from None
        self._check(answer)
        return answer

    def _check(self, answer: httpx.Response) -> None:
        try:
            _check(answer)
        except AnswerError as error:
            if error.code in ("not-found", "http") and urlsplit(self._address).path:
                detail = f"{error}; {self._address} has a path: is that the service's own?"
                raise AnswerError(error.status, {"code": error.code, "detail": detail}) from None
            raise

    def _unreachable(self, error: Exception) -> UnreachableError:
        reason = re.sub(r"\[Errno -?\d+\] ", "", str(error)).lower() or type(error).__name__
        return UnreachableError(
            f"no service answers at {self._address} ({reason}); start one with "
            "`epochal serve`, or name its address with --server or EPOCHAL_SERVER"
        )


class Stream:
    """A streamed answer."""

    def __init__(self, client: Client, request: httpx.Request) -> None:
        self._client: Final = client
        self._request: Final = request
        self._answer: httpx.Response | None = None

    def __enter__(self) -> Stream:
        self._answer = self._client.send(self._request)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._answer is not None:
            self._answer.close()

    def lines(self) -> Iterator[str]:
        """The lines of the answer."""
        assert self._answer is not None
        yield from self._reading(self._answer.iter_lines())

    def content(self) -> Iterator[bytes]:
        """The bytes of the answer, in chunks."""
        assert self._answer is not None
        yield from self._reading(self._answer.iter_bytes())

    def _reading(self, parts: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from parts
        except httpx.TransportError as error:
            raise HostError(f"the answer broke off before its end ({error})") from None


def _check(answer: httpx.Response) -> None:
    if not answer.is_error:
        return
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    raise AnswerError(answer.status_code, problem if isinstance(problem, dict) else {})


def _events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Server-sent events, in the form that the service writes: one line of data each."""
    kind, data = "message", ""
    for line in lines:
        if line.startswith("event: "):
            kind = line[7:]
        elif line.startswith("data: "):
            data = line[6:]
        elif not line and data:
            yield kind, json.loads(data)
            kind, data = "message", ""


def _token(fragment: str, path: Path | None) -> str | None:
    if path is not None:
        try:
            return path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise HostError(f"the token in {path} cannot be read: {error}") from None
    given = parse_qs(fragment).get("token")
    if given:
        return given[0]
    return os.environ.get("EPOCHAL_ADMIN_TOKEN") or os.environ.get("EPOCHAL_QUERY_TOKEN")


def packed(artifact: Artifact) -> bytes:
    """The body of an upload: a file as it is, a package as an archive of its folder."""
    if not artifact.is_package:
        return artifact.files[artifact.root]
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz", compresslevel=6) as archive:
        for name, content in artifact.files.items():
            entry = tarfile.TarInfo(f"{artifact.name}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return sink.getvalue()
