"""Finding implementations: pluggy's marks, read as marks of a kind, one for each project.

pluggy's marker leaves a dictionary of options in an attribute that is named after the project. The
core reads it through `read_marks` wherever it looks for marks, so a plugin says nothing of Epochal
but in its manifest, and is linked the same whether a manager exists yet or not: a runtime with a
store restores its plugins before anybody can make one.

Who reads, who writes
---------------------

``_kinds`` is added to with `setdefault`, one step, by whoever first meets a project; a kind is for
the life of the process.
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


class Project(Kind[Any]):
    """The kind of a project's hook implementations."""

    __slots__ = ("project",)

    # Modules of a package, and objects in them, may each implement the same hook.
    allow_duplicates = True

    def __init__(self, project: str) -> None:
        super().__init__(_kind_name(project), f"hook implementations of {project}")
        self.project: Final = project

    def validate(self, export: Export) -> None:
        """Ask for what pluggy takes; whether it fits a specification is for managers to say."""
        super().validate(export)
        if not isinstance(export.target, (FunctionType, MethodType)):
            raise TypeError(f"pluggy calls functions and methods, not {export.target!r}")


_kinds: Final[dict[str, Project]] = {}


def kind_of(project: str) -> Project:
    """The kind of a project's implementations; its name is the capability that plugins need."""
    return _kinds.get(project) or _kinds.setdefault(project, Project(project))


def _kind_name(project: str) -> str:
    """A name for each project, another for each other one: grants are given by it.

    `shop` is `pluggy.shop`; what cannot be a kind's name is spelled, `my-app` as
    `pluggy.spelled.pmy_2d_app`.
    """
    if _PLAIN.fullmatch(project):
        return f"pluggy.{project}"
    spelled = (one if one in _LETTERS else f"_{ord(one):x}_" for one in project)
    return f"pluggy.spelled.p{''.join(spelled)}"


_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")


def _read(name: str, target: object) -> Iterator[Mark]:
    """The marks that pluggy's marker left on what stands under a name."""
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
