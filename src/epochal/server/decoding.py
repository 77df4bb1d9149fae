"""Reading a request: its body within limits of size and time, its JSON and options as structs.

Everything here refuses with a `Problem` whose detail names the field and the expected type.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import msgspec

from epochal.server.problem_details import Problem
from epochal.server.responses import EXCHANGE
from epochal.server.state import BODY_S, service_of
from epochal.sql.coarse_timers import TimeLimit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from epochal.server.responses import Exchange
    from epochal.server.schemas import RequestStruct

_TAG: Final = re.compile(
    r"""\s*+(?:(?P<weak>W/)?"(?P<id>[^"\s]*+)"|(?P<bare>[^",\s]++))?+\s*+(?:,|$)"""
)
_QUALITY: Final = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")
_WHOLE: Final = re.compile(rb"(-?\d+)\.0+")
CONFIG_HEADER: Final = "Epochal-Config"
_MAX_ACCEPTS: Final = 64
_REPEATABLE: Final = frozenset({"grant"})

RequestT = TypeVar("RequestT", bound="RequestStruct")


def bad_request(detail: str) -> NoReturn:
    """Refuse a request that cannot be right.

    Raises:
        Problem: always.
    """
    raise Problem(400, "request", detail)


def header(request: Request, name: bytes) -> str:
    """The first header of a name in lower case; empty without one.

    Without the mapping that a request makes of all its headers, which takes as long as all of this.
    """
    for known, value in request.scope["headers"]:
        if known == name:
            text: str = value.decode("latin-1")
            return text
    return ""


# --- bodies ------------------------------------------------------------------------------------


async def read_body(request: Request, max_bytes: int, timeout: float = BODY_S) -> bytes:
    """A request's body.

    Args:
        request: the request.
        max_bytes: the largest size.
        timeout: seconds until all of it must have arrived.

    Raises:
        Problem: it is larger than `max_bytes`, takes too long, or the client went away.
    """
    declared = header(request, b"content-length")
    # No more than 19 digits: converting thousands takes quadratic time.
    if declared.isdecimal() and int(declared[:19]) > max_bytes:
        _refuse_size(max_bytes)
    exchange: Exchange | None = request.scope.get(EXCHANGE)
    if exchange is not None and (body := exchange.take_body()) is not None:
        if len(body) > max_bytes:
            _refuse_size(max_bytes)
        return body
    left, more = max_bytes, True
    parts: list[bytes] = []
    try:
        async with TimeLimit(timeout):
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    bad_request("the client went away before its request was whole")
                parts.append(message.get("body", b""))
                left -= len(parts[-1])
                if left < 0:
                    _refuse_size(max_bytes)
                more = message.get("more_body", False)
    except TimeoutError:
        late = f"the request was not whole within {timeout:g} s"
        raise Problem(408, "late", late, {"connection": "close"}) from None
    return b"".join(parts)


def _refuse_size(max_bytes: int) -> NoReturn:
    # The unread rest makes the connection useless for another request.
    raise Problem(413, "too-large", f"more than {max_bytes:,} bytes", {"connection": "close"})


def media_type(request: Request) -> str:
    """The media type of a request's body, in lower case, without its parameters."""
    return header(request, b"content-type").partition(";")[0].strip().lower()


async def read_nothing(request: Request) -> None:
    """Refuse a body where the route takes none.

    Raises:
        Problem: there is one.
    """
    limits = service_of(request).limits
    if await read_body(request, limits.request_bytes, limits.body_s):
        bad_request("this route takes no body")


async def read_json(request: Request, kind: type[RequestT]) -> RequestT:
    """A request's JSON body as a struct.

    Raises:
        Problem: the body has another media type, is not JSON, or does not fit the struct.
    """
    if media_type(request) != "application/json":
        raise Problem(415, "media-type", "expected a body of type application/json")
    limits = service_of(request).limits
    body = await read_body(request, limits.request_bytes, limits.body_s)
    try:
        document = _decode(body, kind)
    except msgspec.ValidationError as error:
        bad_request(_explain(error, kind, "the body"))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        bad_request(f"the body is not valid JSON: {error}")
    except RecursionError:
        bad_request("the body nests too deeply")
    # msgspec keeps the last of two equal fields where another reader, a proxy that checks queries
    # say, may keep the first. Only bodies that fit the struct come here: they are not deep.
    if body.count(b'"') >= kind.quotes_of_twice:
        json.loads(body, object_pairs_hook=_check_unique, parse_int=str, parse_float=str)
    return document


def _decode(body: bytes, kind: type[RequestT]) -> RequestT:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError:
        # To JSON Schema 1.0 is an integer. Not in other fields: there a value keeps its type.
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        whole = {
            name: msgspec.Raw(match[1])
            for name, value in fields.items()
            if name in kind.integers and (match := _WHOLE.fullmatch(bytes(value)))
        }
        if not whole:
            raise
        return msgspec.json.decode(msgspec.json.encode(fields | whole), type=kind)


def _check_unique(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len({*names}) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        bad_request(f"the field {twice!r} is there twice")


# --- addresses and headers ---------------------------------------------------------------------


@lru_cache(_MAX_ACCEPTS)
def preferred(accept: str, kinds: tuple[str, ...]) -> str:
    """The media type that a client prefers, by RFC 9110, section 12.5.1.

    Args:
        accept: the header; empty for any type.
        kinds: the types that can be had; of equal ones the first is chosen, also where the client
            accepts none.
    """
    ranges: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, *parameters = (text.strip() for text in part.split(";"))
        weights = [text[2:] for text in parameters if text.startswith("q=")]
        if name and all(_QUALITY.fullmatch(weight) for weight in weights):
            ranges[name] = float(weights[0]) if weights else 1.0

    def rank(kind: str) -> tuple[float, int]:
        for exactness, name in ((2, kind), (1, f"{kind.partition('/')[0]}/*"), (0, "*/*")):
            if name in ranges:
                return ranges[name], exactness
        return 0.0, 0

    return max(kinds, key=rank)


def read_options(request: Request, kind: type[RequestT]) -> RequestT:
    """The options of a request's address as a struct.

    Raises:
        Problem: an option is unknown, is given twice, or does not fit the struct.
    """
    params = request.query_params
    given: dict[str, Any] = {}
    for name in params:
        values = params.getlist(name)
        if name in _REPEATABLE:
            given[name] = values
        elif len(values) > 1:
            bad_request(f"the option {name!r} is there twice")
        else:
            given[name] = values[0]
    return convert_text(given, kind, "the options")


def convert_text(given: Mapping[str, Any], kind: type[RequestT], place: str) -> RequestT:
    """Texts of an address as a struct; `place` names them in errors.

    Raises:
        Problem: they do not fit the struct.
    """
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        bad_request(_explain(error, kind, place))


def _explain(error: msgspec.ValidationError, kind: type[RequestStruct], place: str) -> str:
    """`limit: expected ...`, where msgspec writes "Expected ... - at `$.limit`"."""
    text, _, path = str(error).partition(" - at ")
    where = path.strip("`").removeprefix("$").removeprefix(".") or place
    known = f"; known: {', '.join(kind.__struct_fields__)}" if "unknown field" in text else ""
    return f"{where}: {text[:1].lower()}{text[1:]}{known}"


def read_config(request: Request) -> dict[str, Any] | None:
    """The plugin's configuration in the header `Epochal-Config`; None to keep the active one's.

    A header, since a configuration may hold secrets, which addresses spread into logs.

    Raises:
        Problem: it is not one JSON object.
    """
    texts = request.headers.getlist(CONFIG_HEADER)
    if not texts:
        return None
    try:
        # Headers are bytes, which the server reads as Latin-1; JSON is UTF-8.
        config = msgspec.json.decode(texts[0].encode("latin-1"), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        bad_request(f'{CONFIG_HEADER} must be one JSON object, such as {{"key": "value"}}')
    if len(texts) > 1:
        bad_request(f"the header {CONFIG_HEADER} is there twice")
    return config


def read_if_match(request: Request) -> list[str] | None:
    """The ids of which one must be the current epoch's, by RFC 9110; None for any epoch.

    Ids without quotes are taken, too. A weak tag (`W/"…"`) never matches, as the RFC has it.

    Raises:
        Problem: the header cannot be read.
    """
    lines = request.headers.getlist("if-match")
    text = ",".join(lines)
    if not lines or text.strip() == "*":
        return None
    tags: list[tuple[str, str | None]] = []
    position = 0
    while (match := _TAG.match(text, position)) is not None and position < len(text):
        position = match.end()
        if identity := match["id"] or match["bare"]:
            tags.append((identity, match["weak"]))
    if not tags or match is None:
        bad_request("If-Match must be * or a list of epoch ids in quotes")
    return [tag for tag, is_weak in tags if not is_weak]
