"""pluggy's marks, read as marks of a kind: one kind for each project.

pluggy's marker leaves a dictionary of options in an attribute named after the project. The core
reads it through `read_marks` wherever it looks for marks. A plugin therefore mentions Epochal only
in its manifest, and is linked the same whether or not a manager exists yet: a runtime with a store
restores its plugins before the program can make one.

Threads: ``_kinds`` grows by `setdefault`, one step, in the thread that first meets a
project; a kind lives as long as the process.
"""

from __future__ import annotations

import re
from types import FunctionType, MappingProxyType, MethodType
from typing import TYPE_CHECKING, Any, Final

from epochal._core.generation.kind import Export, Kind, Mark, read_marks

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUFFIX: Final = "_impl"
_OPTIONS: Final = frozenset({"hookwrapper", "optionalhook", "tryfirst", "trylast"})
_PLAIN: Final = re.compile(r"[a-z][a-z0-9_]*")


class HookimplKind(Kind[Any]):
    """The kind of a project's hook implementations."""

    __slots__ = ("project",)

    # The modules of a package, and objects in them, may each implement the same hook.
    allow_duplicates = True

    def __init__(self, project: str) -> None:
        super().__init__(_kind_name(project), f"hook implementations of {project}")
        self.project: Final = project

    def validate(self, export: Export) -> None:
        """Refuse all but functions and methods; managers compare them with specifications."""
        super().validate(export)
        if not isinstance(export.target, (FunctionType, MethodType)):
            raise TypeError(f"pluggy calls functions and methods, not {export.target!r}")

    def hook_of(self, export: Export) -> str:
        """The hook that an export implements by the name of its function."""
        hook: str = export.options.get("hook", export.name.partition(".")[2])
        return hook


_kinds: Final[dict[str, HookimplKind]] = {}


def kind_of(project: str) -> HookimplKind:
    """The kind of a project's implementations; its name is the capability that plugins need."""
    return _kinds.get(project) or _kinds.setdefault(project, HookimplKind(project))


def _kind_name(project: str) -> str:
    """The kind's name, different for each two projects: it is a capability that hosts grant.

    `shop` is `pluggy.shop`; a project that cannot be in a kind's name is spelled in hexadecimal:
    `my-app` is `pluggy.spelled.pmy_2d_app`.
    """
    if _PLAIN.fullmatch(project):
        return f"pluggy.{project}"
    spelled = (char if char in _LETTERS else f"_{ord(char):x}_" for char in project)
    return f"pluggy.spelled.p{''.join(spelled)}"


_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")


def _read(name: str, target: object) -> Iterator[Mark]:
    """The marks of pluggy's markers on the object with this name in a module or class."""
    if not isinstance(target, (FunctionType, MethodType, staticmethod, classmethod)):
        return
    inner = target if isinstance(target, FunctionType) else target.__func__
    for holder in (target, inner):
        for attribute, options in list(getattr(holder, "__dict__", {}).items()):
            if not attribute.endswith(_SUFFIX) or not isinstance(options, dict):
                continue
            if options.keys() >= _OPTIONS:
                if holder is not inner and not hasattr(inner, attribute):
                    # `@hookimpl` above `@staticmethod`: only the function is exported.
                    setattr(inner, attribute, options)
                kind = kind_of(attribute.removesuffix(_SUFFIX))
                yield Mark(kind, name, MappingProxyType({**options, "hook": name}))
        if holder is inner:
            return


read_marks(_read)
