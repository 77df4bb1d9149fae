"""What `import` means inside a plugin.

A plugin's own name means *this generation* of it: in an import statement, in `__import__`, and in
`importlib.import_module` by string; at the top of a module or late, inside a call that began before
a reload. Everything else means what it means everywhere.

The interpreter looks `__import__` up in the builtins of the running function's globals, so each
generation has builtins of its own, a copy with that one entry replaced; and code that imports
`importlib` is given a stand-in that knows its generation. Nothing is replaced for anybody else.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def private_builtins(
    own: Callable[[str], str | None], root_name: str, stand_ins: Mapping[str, ModuleType]
) -> dict[str, Any]:
    """The builtins of one generation's modules.

    Args:
        own: maps an absolute module name of the plugin to this generation's private one; None for
            any other name.
        root_name: the private name of the root module.
        stand_ins: modules that this generation is given in place of others, by their names.
    """
    namespace = dict(vars(builtins))
    given = {"importlib": _ImportlibStandIn(own), **stand_ins}
    namespace["__import__"] = _importer(own, root_name, given)
    return namespace


def _importer(
    own: Callable[[str], str | None], root_name: str, stand_ins: Mapping[str, ModuleType]
) -> Callable[..., Any]:
    def import_name(
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002  the builtin's parameter
        locals: Mapping[str, object] | None = None,  # noqa: A002  the builtin's parameter
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        if level == 0:
            if (private := own(name)) is not None:
                leaf = builtins.__import__(private, globals, locals, fromlist or ("__name__",), 0)
                # `import geo.sub` binds the root, `from geo.sub import x` wants the leaf.
                return leaf if fromlist else sys.modules[root_name]
            top, dot, _ = name.partition(".")
            if top in stand_ins and not (dot and fromlist):
                builtins.__import__(name, globals, locals, fromlist, 0)
                return stand_ins[top]
        return builtins.__import__(name, globals, locals, fromlist, level)

    return import_name


class _ImportlibStandIn(ModuleType):
    """`importlib` for one generation: everything is forwarded but `import_module`."""

    def __init__(self, own: Callable[[str], str | None]) -> None:
        super().__init__("importlib", importlib.__doc__)

        def import_module(name: str, package: str | None = None) -> ModuleType:
            private = own(name)
            if private is None and package is not None and name.startswith("."):
                package = own(package) or package
            return importlib.import_module(name if private is None else private, package)

        self.import_module = import_module

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib, name)

    def __dir__(self) -> list[str]:
        return dir(importlib)
