"""What a person can do about a plugin that failed to load: the end of the error's message.

Each hint belongs to one way in which a plugin's code meets Epochal: its own id means itself, files
beside it are not part of it, and its active version is still there while the new one comes up.
"""

from __future__ import annotations

import errno
import importlib
import re
from difflib import get_close_matches
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Final

from epochal._core.generation.context import PluginContext
from epochal._core.generation.kind import Kind
from epochal._core.plugin.artifact import read_artifact
from epochal._core.plugin.manifest import has_manifest
from epochal.errors import ArtifactError, traceback_of

if TYPE_CHECKING:
    from pathlib import Path

    from epochal._core.generation.generation import Generation

_TAKEN: Final = re.compile(
    r"already|duplicate|in use|exists|conflict|taken|redefin|overwrit|locked|busy|twice|unique",
    re.IGNORECASE,
)
_HELD: Final = frozenset(
    {errno.EADDRINUSE, errno.EEXIST, errno.EBUSY, errno.EAGAIN, errno.EACCES, errno.ETXTBSY}
)


_INSTALL: Final = "install the distribution that has"


def hint_for(error: BaseException, new: Generation, old: Generation | None) -> str:
    """The hint for an error that a plugin's link or init raised; empty if there is none.

    Args:
        error: which the plugin's code raised.
        new: its generation.
        old: the active generation of the same plugin; None if there is none.
    """
    if isinstance(error, ImportError):
        hint = _import_hint(error, new)
        if not hint or hint.startswith(_INSTALL):
            hint = _marker_hint(error) or hint
    elif hint := _marker_hint(error) or _context_hint(error):
        pass
    elif _misses_in_itself(error, new):
        hint = _itself(new)
    elif old is not None and _may_be_held(error, new):
        hint = (
            f"its active version, generation {old.number}, is still there beside the new one, and "
            "may have what this one asks for (a name in a registry, a port, a lock): register with "
            'ctx.register, or write `handover = "stop-first"` into the manifest, which ends the '
            "old version first"
        )
    else:
        return ""
    return f"; {hint}" if hint else ""


def _marker_hint(error: BaseException) -> str:
    """For a marker that is looked for elsewhere, or under another name."""
    if not isinstance(error, (ImportError, NameError, AttributeError)):
        return ""
    # By its name: a floor above, which only the text of an error needs.
    kinds = importlib.import_module("epochal.kinds")
    markers = [name for name in kinds.__all__ if isinstance(getattr(kinds, name), Kind)]
    source, name = _looked_for(error)
    if name in markers:
        return f"the marker is imported with `from epochal.kinds import {name}`"
    if name == "ctx" and not source:
        return "`ctx` is what init(ctx) and register(ctx) are called with"
    if source != kinds.__name__:
        return "markers are in `epochal.kinds`" if name in ("kind", "markers") else ""
    close = get_close_matches(name, markers, 1)
    return f"do you mean {close[0]!r}?" if close else f"it has {', '.join(sorted(markers))}"


def _looked_for(error: ImportError | NameError | AttributeError) -> tuple[str, str]:
    """The module that lacks a name, empty for none, and that name; nothing for other modules."""
    if isinstance(error, NameError):
        return "", error.name or ""
    if isinstance(error, AttributeError):
        source = getattr(error.obj, "__name__", "") if isinstance(error.obj, ModuleType) else None
        name = error.name or ""
    elif isinstance(error, ModuleNotFoundError):
        source, _, name = (error.name or "").rpartition(".")
    else:
        found = re.match(r"cannot import name '(\w+)'", str(error))
        source, name = error.name, found[1] if found else ""
    return (source or "", name) if source in ("", "epochal", "epochal.kinds") else ("", "")


def _context_hint(error: BaseException) -> str:
    """For an attribute that `ctx`, or its configuration, does not have."""
    if not isinstance(error, AttributeError):
        return ""
    if type(error.obj) is MappingProxyType:
        return f"a configuration is a mapping: write ctx.config[{error.name!r}]"
    if type(error.obj) is not PluginContext:
        return ""
    close = get_close_matches(error.name or "", dir(PluginContext), 1)
    return f"do you mean ctx.{close[0]}?" if close else ""


def _import_hint(error: ImportError, new: Generation) -> str:
    if (
        error.name is None
        and "relative import" in str(error)
        and not new.candidate.artifact.is_package
    ):
        return (
            "a plugin of one file has no modules beside it: make it a package, a folder with "
            "__init__.py and plugin.toml"
        )
    name = error.name or ""
    top = name.partition(".")[0]
    artifact = new.candidate.artifact
    # `geo@plugin` is the public name of a plugin's module where a library has `geo`.
    if top.partition("@")[0] == new.plugin or new.is_own_module(top):
        return "" if artifact.is_package and "." in name else _itself(new)
    if not isinstance(error, ModuleNotFoundError) or not top.isidentifier():
        return ""
    if artifact.is_package and {f"{top}.py", f"{top}/__init__.py"} & set(artifact.files):
        return f"{top!r} is a module of this package: write `from . import {top}`"
    beside = artifact.origin.parent if artifact.origin is not None else None
    for found in (f"{top}.py", top):
        if beside is not None and (beside / found).exists():
            if _is_plugin(beside / found):
                return (
                    f'{found} beside it is a plugin: write `requires = ["{top}"]` into the '
                    f'manifest, and `{top} = ctx.require("{top}")` into init(ctx)'
                )
            return (
                f"{found} lies beside the plugin and is not part of it: make both one package (a "
                "folder with __init__.py), or make it a plugin that this one requires"
            )
    return f"{_INSTALL} {top!r}, and list it under `dependencies`"


def _is_plugin(path: Path) -> bool:
    try:
        return has_manifest(read_artifact(path))
    except ArtifactError:
        return False


def _itself(new: Generation) -> str:
    return (
        f"inside the plugin {new.plugin!r} means the plugin itself: give it another id to import a "
        "library of that name"
    )


def _misses_in_itself(error: BaseException, new: Generation) -> bool:
    """Whether an attribute was asked for that the plugin's own module does not have."""
    if not isinstance(error, AttributeError):
        return False
    return id(getattr(error.obj, "__dict__", None)) in new.globals_ids()


def _may_be_held(error: BaseException, new: Generation) -> bool:
    """Whether other code refused what the plugin asked for."""
    if isinstance(error, (SyntaxError, NameError, RecursionError, MemoryError)):
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _HELD
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001  foreign code
        text = ""
    return _TAKEN.search(text) is not None or not _raised_by(error, new)


def _raised_by(error: BaseException, new: Generation) -> bool:
    """Whether it was raised by the plugin's own code, rather than by code that it called."""
    traceback = traceback_of(error)
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is None or id(traceback.tb_frame.f_globals) in new.globals_ids()
