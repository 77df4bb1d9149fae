"""How an import by a plugin's code is resolved: early or late, by statement or by string.

A plugin's own name means *this generation* of it: at the top of a module, or late, inside a call
that began before a reload. Where the manifest says `vendored = "_vendor"`, the same is true of
every package and module in that folder, as `pip install --target _vendor …` puts them there:
`import jinja2.ext` is then the plugin's own copy, for the plugin and for all that it carries, and
for nothing else in the process. So two plugins, or two generations of one, may carry different
versions of one distribution. Every other name means what it means elsewhere.

`NameMap` holds that rule. It is applied by `resolve_import` to the import statement, and by
`_module_proxies` to `importlib.import_module` and other functions that take a module's name. The
private name is that of the module's file: ``geo__g7_3fa9c1d2._vendor.jinja2.ext``. The import
system finds the module under that name (`_module_registry`).

The interpreter looks `__import__` up in the builtins of the running function's globals. Each
generation therefore has builtins of its own, a copy with that one entry replaced; the copy is of
the host's builtins, without what another generation has replaced there.
"""

from __future__ import annotations

import builtins
import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import ModuleType


class NameMap:
    """Maps an absolute module name to this generation's private one; None for any other name.

    Args:
        tops: first part of a name -> the private name of the module that it means.
        check_open: called with the requested name; raises once the generation's modules are gone.
    """

    __slots__ = ("_check_open", "_tops")

    def __init__(self, tops: Mapping[str, str], check_open: Callable[[str], None]) -> None:
        self._tops: Final = tops
        self._check_open: Final = check_open

    def __call__(self, name: str) -> str | None:
        """The private name of a module; "" for "", with which a relative import begins."""
        top, dot, rest = name.partition(".")
        private = self._tops.get(top) if top else ""
        if private is None:
            return None
        self._check_open(name)
        return f"{private}{dot}{rest}"


def top_names(files: Iterable[str], folder: str) -> frozenset[str]:
    """The names that can be imported from a folder: its modules, and packages of either form."""
    prefix = f"{folder}/"
    below = (path[len(prefix) :] for path in files if path.startswith(prefix))
    names = (path.partition("/")[0].removesuffix(".py") for path in below if path.endswith(".py"))
    return frozenset(name for name in names if name.isidentifier())


def resolve_import(
    names: Callable[[str], str | None],
    proxy_for: Callable[[str, ModuleType], ModuleType],
    imported: Callable[[str, Mapping[str, object] | None], object],
    name: str,
    globals: Mapping[str, object] | None = None,  # noqa: A002  the builtin's parameter
    locals: Mapping[str, object] | None = None,  # noqa: A002  the builtin's parameter
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    """`__import__` of one generation's modules.

    Args:
        names: maps the generation's own names.
        proxy_for: gets the name and module of an import, and returns the module or its proxy.
        imported: gets the name of an import that is not the generation's own, and the globals of
            the code that imports.
        name: as for the builtin, like the rest.
        globals: of the importing module.
        locals: not used by the import system.
        fromlist: the names that the statement takes out of the module.
        level: the dots of a relative import.
    """
    private = names("" if level else name)
    if private is not None:
        # Not with the `fromlist`: the import system would look for submodules below `__name__`,
        # which is the public name. Without any it would return the root, the plugin itself.
        module = builtins.__import__(private or name, globals, locals, ("__name__",), level)
        if fromlist or level:
            _import_submodules(module, fromlist or ())
            return module
        # `import jinja2.ext` binds `jinja2`, wherever below the root that is.
        top = name.partition(".")[0]
        return builtins.__import__(names(top) or name, fromlist=("__name__",))
    module = builtins.__import__(name, globals, locals, fromlist, level)
    imported(name, globals)
    # `import a.b` binds `a`, `from a.b import c` looks into `a.b`.
    return proxy_for(name if fromlist else name.partition(".")[0], module)


def _import_submodules(package: ModuleType, names: Iterable[str]) -> None:
    """Import what `from package import …` names, if that is a submodule and not yet there."""
    if not hasattr(package, "__path__") or package.__spec__ is None:
        return
    for name in names:
        if name == "*":
            _import_submodules(package, getattr(package, "__all__", ()))
        elif not hasattr(package, name):
            full = f"{package.__spec__.name}.{name}"
            try:
                module = importlib.import_module(full)
            except ModuleNotFoundError as error:
                if error.name != full:
                    raise
                continue  # the statement says what is missing
            if not hasattr(package, name):  # it is being imported, further up
                setattr(package, name, module)
