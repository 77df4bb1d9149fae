"""The events of a runtime, for whoever follows them over HTTP (server-sent events).

The last `KEPT` events lie in one list. A follower is a place in it: it sends what is new, then
waits for more. So a slow follower costs nothing and holds nobody up; one that falls further behind
than the list reaches is told how many it missed. An event's id is the service's start and its
place, so ``Last-Event-ID`` goes on where a connection broke, and after a restart of the service
begins anew.

Who reads, who writes: everything belongs to the event loop; `bringing` has the runtime's events
brought over from their thread.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections import deque
from dataclasses import fields
from enum import Enum
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from epochal.report import Cutover
from epochal.server.problem_details import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from epochal.events import Event

KEPT: Final = 2_000
_RETRY_MS: Final = 1_000
_CAPITAL: Final = re.compile(r"(?<!^)(?=[A-Z])")


class Feed:
    """Events and samples, as followers get them.

    Args:
        followers: how many there may be at a time.

    Attributes:
        boot: this start of the service.
    """

    def __init__(self, followers: int) -> None:
        self.boot: Final = secrets.token_hex(4)
        self._most: Final = followers
        self._followers = 0
        self._events: Final[deque[_Told]] = deque(maxlen=KEPT)
        self._count = 0  # of events so far; the last one's id
        self._sample = ""
        self._samples = 0
        self._more = asyncio.Event()
        self._closed = False

    @property
    def followers(self) -> int:
        """How many follow."""
        return self._followers

    def bringing(self) -> Callable[[Event], None]:
        """What takes in a runtime's events, from any thread, for the loop that runs now."""
        loop = asyncio.get_running_loop()

        def bring(event: Event) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self.add, event)

        return bring

    def add(self, event: Event) -> None:
        """Tell an event."""
        self._count += 1
        self._events.append(_Told(f"{self.boot}-{self._count}", event))
        self._wake()

    def sample(self, document: dict[str, Any]) -> None:
        """Tell how things are; only the newest is kept."""
        self._samples += 1
        self._sample = f"event: sample\ndata: {json.dumps(document)}\n\n"
        self._wake()

    def close(self) -> None:
        """Let every follower go; may be called from any task of the loop."""
        self._closed = True
        self._wake()

    def follow(self, last_id: str | None) -> AsyncIterator[bytes]:
        """What a follower is sent, from the event after `last_id` on, or all that is kept.

        Raises:
            Problem: too many follow already.
        """
        if self._followers >= self._most:
            raise Problem(
                503, "followers", f"{self._most} follow the events already", {"retry-after": "5"}
            )
        self._followers += 1
        return self._follow(self._place(last_id))

    async def _follow(self, place: int) -> AsyncIterator[bytes]:
        try:
            hello = json.dumps({"boot": self.boot, "last": f"{self.boot}-{self._count}"})
            yield f"retry: {_RETRY_MS}\nevent: hello\ndata: {hello}\n\n".encode()
            seen = 0
            while not self._closed:
                more = self._more
                missed = self._count - len(self._events) - place
                if missed > 0:
                    place += missed
                    yield f'event: missed\ndata: {{"count": {missed}}}\n\n'.encode()
                new = list(self._events)[place - self._count :] if self._is_new(place) else ()
                text = "".join(told.text for told in new)
                place = self._count
                if self._samples > seen:
                    seen, text = self._samples, text + self._sample
                if text:
                    yield text.encode()
                    continue
                await more.wait()
        finally:
            self._followers -= 1

    def _is_new(self, place: int) -> bool:
        return place < self._count

    def _place(self, last_id: str | None) -> int:
        boot, _, number = (last_id or "").partition("-")
        if boot != self.boot or not number.isascii() or not number.isdigit():
            return 0 if self._count <= KEPT else self._count - KEPT
        return min(int(number[:18]), self._count)

    def _wake(self) -> None:
        self._more.set()
        self._more = asyncio.Event()


class _Told:
    """An event, written out once somebody follows."""

    __slots__ = ("_event", "_id", "_text")

    def __init__(self, number: str, event: Event) -> None:
        self._id: Final = number
        self._event: Final = event
        self._text = ""

    @property
    def text(self) -> str:
        """As followers get it."""
        if not self._text:
            data = json.dumps(document_of(self._event), default=str)
            self._text = f"id: {self._id}\ndata: {data}\n\n"
        return self._text


def document_of(event: Event) -> dict[str, Any]:
    """An event as JSON says it: its type, when, its facts, and the line that a log has for it."""
    facts = {field.name: _plain(getattr(event, field.name)) for field in fields(event)}
    kind = _CAPITAL.sub("-", type(event).__name__).lower()
    level = _LEVELS.get(event.level, "info")
    return {"type": kind, "level": level, "text": event.describe(), **facts}


_LEVELS: Final = {10: "debug", 20: "info", 30: "warning", 40: "error"}


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, float) and not isfinite(value):
        return None  # JSON has no word for it
    if isinstance(value, Cutover):
        return value.as_dict()
    return list(value) if isinstance(value, tuple) else value
