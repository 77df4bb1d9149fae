"""The events of a watched folder, in the runtime's stream."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

from epochal.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRefused(Event):
    """A plugin in a watched folder was saved and refused; its active generation stays.

    Attributes:
        path: of the plugin's file or folder.
        code: the error's stable code.
        error: the error's text.
        plugin: the plugin's id; None if it could not be read.
    """

    _LEVEL: ClassVar[int] = logging.ERROR
    _TEXT: ClassVar[str] = "{path} refused [{code}]: {error}"

    path: str
    code: str
    error: str
    plugin: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceGone(Event):
    """An active plugin's file or folder was deleted; the plugin stays active."""

    _LEVEL: ClassVar[int] = logging.WARNING
    _TEXT: ClassVar[str] = "{path} is gone, {plugin} serves on"

    path: str
    plugin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRenamed(Event):
    """An active plugin's file or folder was saved with another id.

    Attributes:
        path: of the file or folder.
        plugin: the id that it had; that plugin stays active, unless the watcher removes plugins.
        now: the id that it has now.
    """

    _LEVEL: ClassVar[int] = logging.WARNING
    _TEXT: ClassVar[str] = "{path} is plugin {now} now, and no longer the source of {plugin}"

    path: str
    plugin: str
    now: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationsFailed(Event):
    """The system's notifications of a watched folder ended; they are begun again.

    A file name that is not UTF-8 does that, or a folder that cannot be read. Until then the folder
    is looked at every few seconds.
    """

    _LEVEL: ClassVar[int] = logging.WARNING
    _TEXT: ClassVar[str] = "the notifications of {path} failed, it is scanned instead: {error}"

    path: str
    error: str
