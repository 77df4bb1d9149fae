"""Reading requests: bodies within their limits, fields of the right types, options of changes."""

from __future__ import annotations

import asyncio
import json
import math
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

from starlette.requests import ClientDisconnect

from epochal.server.problem_details import Problem
from epochal.server.state import BODY_S

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from starlette.requests import Request

    from epochal.server.state import Service

_INT64: Final = range(-(2**63), 2**63)
_LONGEST_S: Final = 86_400.0
_TAG: Final = re.compile(r"""\s*(?:(?P<weak>W/)?"(?P<id>[^"\s]*)"|(?P<bare>[^",\s]+))?\s*(?:,|$)""")
_LISTS: Final = frozenset({"grant"})
_NUMBER: Final = re.compile(r"[0-9.eE+-]+")
_WORDS: Final = {"true": True, "false": False}


def service_of(request: Request) -> Service:
    """The service that a request is for."""
    service: Service = request.app.state.service
    return service


def wrong(detail: str) -> NoReturn:
    """Refuse a request that cannot be right.

    Raises:
        Problem: always.
    """
    raise Problem(400, "request", detail)


async def read_body(request: Request, most: int, seconds: float = BODY_S) -> bytes:
    """A request's body.

    Args:
        request: the request.
        most: bytes.
        seconds: until it must be there.

    Raises:
        Problem: it is larger than `most` bytes, takes too long, or the client went away.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:19]) > most:
        _too_large(most)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    _too_large(most)
    except ClientDisconnect:
        wrong("the client went away before its request was whole")
    except TimeoutError:
        late = f"the request was not whole within {seconds:g} s"
        raise Problem(408, "late", late, {"connection": "close"}) from None
    return bytes(body)


async def read_nothing(request: Request) -> None:
    """Refuse a body where there is nothing to say.

    Raises:
        Problem: there is one.
    """
    limits = service_of(request).limits
    if await read_body(request, limits.request_bytes, limits.body_s):
        wrong("this takes no body")


def _too_large(most: int) -> NoReturn:
    # What was not read makes the connection useless for another request.
    raise Problem(413, "too-large", f"more than {most:,} bytes", {"connection": "close"})


async def read_json(request: Request, most: int, fields: Collection[str]) -> dict[str, Any]:
    """A request's body as a JSON object with no other fields than these.

    Raises:
        Problem: it is none.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(415, "media-type", "expected a body of type application/json")
    body = await read_body(request, most, service_of(request).limits.body_s)
    try:
        document = json.loads(
            body,
            parse_constant=lambda word: wrong(f"{word} is no JSON"),
            object_pairs_hook=_object,
        )
    except (ValueError, RecursionError) as error:
        wrong(f"the body is no JSON: {error}")
    if not isinstance(document, dict):
        wrong("expected a JSON object")
    if unknown := sorted(document.keys() - set(fields)):
        wrong(f"unknown field {unknown[0]!r}; known: {', '.join(fields)}")
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        wrong(f"the field {next(n for n in names if names.count(n) > 1)!r} is there twice")
    return found


def text_of(value: Any, name: str) -> str:
    """A field that must be text.

    Raises:
        Problem: it is not.
    """
    if not isinstance(value, str) or not _is_unicode(value):
        wrong(f"{name} must be text")
    return value


def params_of(value: Any) -> list[Any] | dict[str, Any] | None:
    """A query's parameters.

    Raises:
        Problem: they cannot be values of SQL.
    """
    if value is None:
        return None
    if not isinstance(value, list | dict):
        wrong("params must be a list, for $1, $2, …, or an object, for $name")
    for one in value.values() if isinstance(value, dict) else value:
        _check_param(one)
    return value


def _check_param(value: Any) -> None:
    is_fine = value is None or isinstance(value, bool)
    if isinstance(value, float):
        is_fine = math.isfinite(value)  # 1e999 is none that was meant
    if isinstance(value, int) and not is_fine:
        is_fine = value in _INT64
    if isinstance(value, str):
        is_fine = _is_unicode(value)
    if not is_fine:
        wrong("a parameter must be null, true or false, a number of 64 bits, or text")


def number_of(value: Any, name: str, *, most: float, integer: bool = False) -> float:
    """A number from 0 to `most`; more is cut down to it.

    Raises:
        Problem: it is none, or negative.
    """
    wanted = int if integer else (int, float)
    if not isinstance(value, wanted) or isinstance(value, bool) or not value >= 0:
        wrong(f"{name} must be {'a whole' if integer else 'a'} number, not negative")
    return min(value, most)


def options_of(request: Request, *, extra: Collection[str] = ()) -> dict[str, Any]:
    """What a change may be told in its address: `drain_timeout`, `cancel_holders`, `reason`.

    Args:
        request: the request.
        extra: further names that are known to the route.

    Raises:
        Problem: an option that is not known, or wrong.
    """
    given, service = request.query_params, service_of(request)
    known = {"drain_timeout", "cancel_holders", "reason", *extra}
    if unknown := sorted(given.keys() - known):
        wrong(f"unknown option {unknown[0]!r}; known: {', '.join(sorted(known))}")
    if twice := sorted(name for name in {*given} - _LISTS if len(given.getlist(name)) > 1):
        wrong(f"the option {twice[0]!r} is there twice")
    reason = text_of(given.get("reason", ""), "reason")[:1_000]
    return {
        "drain_timeout": seconds_of(given, "drain_timeout", service.limits.drain_s),
        "cancel_holders": flag_of(given, "cancel_holders"),
        "reason": f"http: {reason}" if reason else "http",
        "if_epoch": _if_epoch(request),
    }


def seconds_of(given: Mapping[str, str], name: str, default: float) -> float:
    """An option that is a time.

    Raises:
        Problem: it is none.
    """
    try:
        text = given.get(name, str(default))
        seconds = float(text) if _NUMBER.fullmatch(text) else math.nan
    except ValueError:
        seconds = math.nan
    if not 0.0 <= seconds <= _LONGEST_S:
        wrong(f"{name} must be a number of seconds, from 0 to {_LONGEST_S:,.0f}")
    return seconds


def flag_of(given: Mapping[str, str], name: str) -> bool:
    """An option that is `true` or `false`.

    Raises:
        Problem: it is neither.
    """
    value = _WORDS.get(given.get(name, "false"))
    if value is None:
        wrong(f"{name} must be true or false")
    return value


def whole_of(given: Mapping[str, str], name: str, *, least: int = 1, most: int) -> int:
    """An option that is a whole number from `least` to `most`.

    Raises:
        Problem: it is none.
    """
    text = given[name]
    value = int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else -1
    if not least <= value <= most:
        wrong(f"{name} must be a whole number from {least} to {most:,}")
    return value


def _if_epoch(request: Request) -> list[str] | None:
    """The epochs of which one must be current, by RFC 9110; None for any.

    Ids without quotes are taken, too. A weak tag (`W/"…"`) never matches, as the RFC has it.
    """
    lines = request.headers.getlist("if-match")
    text = ",".join(lines)
    if not lines or text.strip() == "*":
        return None
    found = list(_TAG.finditer(text))
    tags = [(tag["id"] or tag["bare"], tag["weak"]) for tag in found if tag["id"] or tag["bare"]]
    if not tags or "".join(tag[0] for tag in found) != text:
        wrong("If-Match must be * or a list of epochs' ids in quotes")
    return [tag for tag, is_weak in tags if not is_weak]


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
