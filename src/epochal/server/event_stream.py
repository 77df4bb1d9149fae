"""The events of a runtime as server-sent events, for the clients that follow them.

The last `KEPT` events are in one deque. A follower is only a place in it: it sends the events after
its place, then waits for more. So a slow follower costs nothing and delays no other events;
one that falls behind the deque's beginning is sent the number of events that it missed. An event's
id is the service's start and its place: ``Last-Event-ID`` continues where a connection broke, and
begins anew after a restart of the service.

Threads: everything belongs to the event loop. `forwarder` passes the runtime's events to it from
their own thread.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import deque
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from epochal.report import Cutover
from epochal.server.problem_details import Problem
from epochal.server.schemas import encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from epochal.events import Event

KEPT: Final = 2_000
_RETRY_MS: Final = 1_000
_CAPITAL: Final = re.compile(r"(?<!^)(?=[A-Z])")


class EventFeed:
    """Events and samples, in the form in which they are sent.

    Args:
        followers: the number of clients that may follow at a time.

    Attributes:
        boot: names this start of the service.
    """

    def __init__(self, followers: int) -> None:
        self.boot: Final = secrets.token_hex(4)
        self._max_followers: Final = followers
        self._followers = 0
        self._events: Final[deque[_SentEvent]] = deque(maxlen=KEPT)
        self._count = 0  # of events so far; the last one's place
        self._sample = b""
        self._samples = 0
        self._more = asyncio.Event()
        self._closed = False

    @property
    def followers(self) -> int:
        """The number of clients that follow."""
        return self._followers

    def forwarder(self) -> Callable[[Event], None]:
        """A function that adds an event from any thread, through the loop that runs now."""
        loop = asyncio.get_running_loop()

        def forward(event: Event) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self.add, event)

        return forward

    def add(self, event: Event) -> None:
        """Send an event to every follower."""
        self._count += 1
        self._events.append(_SentEvent(f"{self.boot}-{self._count}", event))
        self._wake()

    def sample(self, document: dict[str, Any]) -> None:
        """Send the figures; a follower that is behind gets only the newest."""
        self._samples += 1
        self._sample = b"event: sample\ndata: %b\n\n" % encode(document)
        self._wake()

    def close(self) -> None:
        """End every follower's stream; may be called from any task of the loop."""
        self._closed = True
        self._wake()

    def follow(self, last_id: str | None) -> AsyncIterator[bytes]:
        """A follower's stream, from the event after `last_id` on, or from the oldest.

        Raises:
            Problem: too many clients follow already.
        """
        if self._followers >= self._max_followers:
            raise Problem(
                503,
                "followers",
                f"{self._max_followers} follow the events already",
                {"retry-after": "5"},
            )
        self._followers += 1
        return self._follow(self._place_of(last_id))

    async def _follow(self, place: int) -> AsyncIterator[bytes]:
        try:
            hello = encode({"boot": self.boot, "last": f"{self.boot}-{self._count}"})
            # With an id: a client that comes back before the first event misses none after it.
            begun = f"{self.boot}-{place}".encode()
            yield b"retry: %d\nid: %b\nevent: hello\ndata: %b\n\n" % (_RETRY_MS, begun, hello)
            samples_seen = 0
            while not self._closed:
                # Before the look for news: an event that is added after the look sets this one.
                more = self._more
                missed = self._count - len(self._events) - place
                if missed > 0:
                    place += missed
                    yield b'event: missed\ndata: {"count": %d}\n\n' % missed
                has_new = place < self._count
                new = list(self._events)[place - self._count :] if has_new else ()
                content = b"".join(event.content for event in new)
                place = self._count
                if self._samples > samples_seen:
                    samples_seen, content = self._samples, content + self._sample
                if content:
                    yield content
                    continue
                await more.wait()
        finally:
            self._followers -= 1

    def _place_of(self, event_id: str | None) -> int:
        boot, _, number = (event_id or "").partition("-")
        if boot != self.boot or not number.isascii() or not number.isdigit():
            return 0 if self._count <= KEPT else self._count - KEPT
        return min(int(number[:18]), self._count)

    def _wake(self) -> None:
        # Set, then replaced: each follower waits on the one that it read before its look.
        self._more.set()
        self._more = asyncio.Event()


class _SentEvent:
    """An event, encoded when the first follower needs it."""

    __slots__ = ("_content", "_event", "_id")

    def __init__(self, event_id: str, event: Event) -> None:
        self._id: Final = event_id
        self._event: Final = event
        self._content = b""

    @property
    def content(self) -> bytes:
        """The event as followers receive it."""
        if not self._content:
            data = encode(document_of(self._event))
            self._content = b"id: %b\ndata: %b\n\n" % (self._id.encode(), data)
        return self._content


def document_of(event: Event) -> dict[str, Any]:
    """An event for JSON: its type, level and log line, and its fields."""
    facts = {
        field.name: _plain(getattr(event, field.name)) for field in fields(event) if field.repr
    }
    kind = _CAPITAL.sub("-", type(event).__name__).lower()
    level = _LEVELS.get(event.level, "info")
    return {"type": kind, "level": level, "text": event.describe(), **facts}


_LEVELS: Final = {10: "debug", 20: "info", 30: "warning", 40: "error"}


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Cutover):
        return value.as_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    # A record reads as its text: msgspec would write it as an object.
    return str(value) if is_dataclass(value) else value
