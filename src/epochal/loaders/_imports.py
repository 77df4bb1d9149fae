"""What `import` means inside a plugin.

A plugin's own name means *this generation* of it: in an import statement, in `__import__`, and in
`importlib.import_module` by string; at the top of a module or late, inside a call that began before
a reload. Everything else means what it means everywhere.

The interpreter looks `__import__` up in the builtins of the running function's globals, so each
generation has builtins of its own, a copy with that one entry replaced. Nothing is replaced for
anybody else; and what another generation, its predecessor say, has replaced is not in the copy.
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

from epochal._core.generation.side_effects import host_builtins

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType


def private_builtins(
    own: Callable[[str], str | None], stand_in: Callable[[str, ModuleType], ModuleType]
) -> dict[str, Any]:
    """The builtins of one generation's modules.

    Args:
        own: maps an absolute module name of the plugin to this generation's private one, "" (a
            relative import) to ""; None for any other. It raises once its modules are gone.
        stand_in: given a module's name and the module, what this generation is given for it.
    """
    namespace = host_builtins()
    namespace["__import__"] = _importer(own, stand_in)
    return namespace


def _importer(
    own: Callable[[str], str | None], stand_in: Callable[[str, ModuleType], ModuleType]
) -> Callable[..., Any]:
    def import_name(
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002  the builtin's parameter
        locals: Mapping[str, object] | None = None,  # noqa: A002  the builtin's parameter
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        private = own("" if level else name)
        if private is not None:
            module = builtins.__import__(private or name, globals, locals, fromlist, level)
            if fromlist or level:
                return module
            # `import jinja2.ext` binds what `jinja2` means, wherever below the root that is.
            return builtins.__import__(own(name.partition(".")[0]) or name, fromlist=("__name__",))
        module = builtins.__import__(name, globals, locals, fromlist, level)
        # `import a.b` binds `a`, `from a.b import c` looks into `a.b`.
        return stand_in(name if fromlist else name.partition(".")[0], module)

    return import_name
