"""The plugins that are swapped: one source text for all systems."""

from __future__ import annotations

import functools
from typing import Any

from epochal import Kind

export: Kind[Any] = Kind("conformance.export")
"""Marks a plugin's exports. The other systems ignore the attribute."""


@functools.singledispatch
def describe(thing: object) -> str:
    """A host's function that plugins add their classes to."""
    return repr(thing)


@functools.cache
def remembered(thing: object) -> str:
    """A host's function that caches its arguments and results."""
    return repr(thing)


class UsedAfterShutdownError(RuntimeError):
    """A version was called after its own `shutdown()`."""


def source(plugin: str, version: int, extra: str = "") -> str:
    """The source of one version of a plugin; its functions return the version's number.

    Args:
        plugin: its name.
        version: the number that its functions return; written with a fixed width, so that two
            versions have sources of equal length.
        extra: code to append.
    """
    return _TEXT.format(plugin=plugin, version=f"{version:06d}", extra=extra)


_TEXT = """
# /// plugin
# id = "{plugin}"
# version = "{version}"
# ///
from conformance.plugin import UsedAfterShutdownError, export

VERSION = int("{version}")
DOWN = []


class Shape:
    def version(self):
        return VERSION


def helper():
    if DOWN:
        raise UsedAfterShutdownError("{plugin}", VERSION)
    return VERSION


@export
def a():
    return helper()


@export
def b():
    return helper()


@export
def shape():
    return Shape()


@export
def around(entered, leave):
    before = helper()
    entered.set()
    leave.wait(20)
    return before, helper(), VERSION


def shutdown():
    DOWN.append(True)

{extra}
"""
