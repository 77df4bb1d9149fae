"""Plugin modules under the names that leave the process: `geo`, `geo.sub`.

Pickles, task queues, loggers and schema registries write a module's name down, and look it up in
`sys.modules` later, perhaps in another process. So a plugin's modules, classes and functions bear
the plugin's own name, the same in every generation; and since several generations may be alive at
once, that name stands for none of them. `sys.modules["geo"]` is a `ModuleView`, which finds the
generation that its reader means, at each look:

1. the one whose class or function is looked up: `sys.modules[cls.__module__]` asks with the class's
   own string object, of which each generation has one, and the key there sees it (`_ViewKey`);
2. if the string is any other, as in reading a pickle, the one whose code is on the stack;
3. the one whose code a change is running (`calling`);
4. the one of the operation that the code belongs to (`rt.operation`);
5. the active one; if there is none, the newest.

Outside the plugin's own code, an exported function is the export, which carries its lease. So the
host can pickle exports, and what it reads back counts as use.

A module that the host has, or could import, keeps its name: the plugin's is then `geo@plugin`.

Threads: ``_spaces`` is replaced entry by entry under the registry's lock, each value whole; every
thread reads it in one dict step.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from epochal._core.generation.generation import calling
from epochal._core.introspect.object_names import MODULE_OF_NAME, PublicView

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from epochal._core.plugin.artifact import Artifact
    from epochal.loaders.python_namespace import PythonNamespace

_spaces: Final[dict[str, tuple[PythonNamespace, ...]]] = {}
"""Public root name -> the namespaces of that name, oldest first."""

OURS: Final = object()
"""What our finder has as `finds_plugins`: tells it from the others, where these are asked."""

_CALLS_AT_MOST: Final = 3
"""How far below the look-up a view may be read, in calls, and still count as its."""


def public_root(plugin: str, artifact: Artifact) -> str:
    """The name of a plugin's root module for everything outside: its id, if that is free."""
    if plugin in _spaces or type(sys.modules.get(plugin)) is ModuleView:
        return plugin
    if plugin in sys.modules:
        return f"{plugin}@plugin"
    spec = find_elsewhere(plugin)
    # A folder without code has no origin, and the plugin's own file may lie on the path.
    if spec is None or spec.origin is None or _is_own_file(spec.origin, artifact):
        return plugin
    return f"{plugin}@plugin"


def find_elsewhere(
    name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
) -> ModuleSpec | None:
    """The spec of a module that is no plugin's, from all finders but ours.

    `importlib.util.find_spec` would ask our own finder, which asks all others, and then these.

    Args:
        name: of the module, like the rest as the import protocol has it.
        path: of the package.
        target: the module to be reloaded, if one is.
    """
    finders: list[Any] = sys.meta_path.copy()
    for finder in finders:
        find_spec = getattr(finder, "find_spec", None)
        if find_spec is None or getattr(finder, "finds_plugins", None) is OURS:
            continue
        spec: ModuleSpec | None = find_spec(name, path, target)
        if spec is not None:
            return spec
    return None


def _is_own_file(file: str, artifact: Artifact) -> bool:
    if artifact.origin is None:
        return False
    own = artifact.origin / "__init__.py" if artifact.is_package else artifact.origin
    return os.path.realpath(file) == os.path.realpath(own)


def add_space(namespace: PythonNamespace) -> None:
    """Let a generation be found by its public name; called under the registry's lock."""
    root = namespace.public_root
    _spaces[root] = (*_spaces.get(root, ()), namespace)


def remove_space(namespace: PythonNamespace) -> bool:
    """Undo `add_space`, and remove the views that no other generation needs.

    Returns whether nothing else can have that name now, or a name below it.
    """
    root = namespace.public_root
    left = tuple(space for space in _spaces.get(root, ()) if space is not namespace)
    if left:
        _spaces[root] = left
    else:
        _spaces.pop(root, None)
    needed = {public for space in left for public in space.public_names()}
    for public in namespace.public_names():
        if public not in needed and type(sys.modules.get(public)) is ModuleView:
            sys.modules.pop(public, None)
    if not left:  # under another name, too
        for name, module in list(sys.modules.items()):
            if type(module) is ModuleView and module.__name__.partition(".")[0] == root:
                sys.modules.pop(name, None)
    return not left and root not in sys.modules


def show(public: str) -> None:
    """Put a view into `sys.modules`, unless that name is taken."""
    sys.modules.setdefault(_ViewKey(public), ModuleView(public))


def find_view(public: str) -> ModuleSpec | None:
    """The spec of a view, for an import of a public name; None if no plugin has that name."""
    spaces = _spaces.get(public.partition(".")[0])
    if spaces is None:
        return None
    space = _meant(spaces)[0]
    spec = space.find_spec(space.private(public))
    if spec is None:
        return None
    is_package = spec.submodule_search_locations is not None
    return ModuleSpec(_ViewKey(public), ViewLoader(), is_package=is_package)  # type: ignore[arg-type]  # typeshed wants the old load_module


def find_made(namespace: PythonNamespace, private: str) -> ModuleSpec | None:
    """The spec of a module that a generation's code made by hand, under its public name.

    It put the module into `sys.modules`, or has a finder of its own that makes it (`six.moves`).
    """
    public = namespace.public_root + private.removeprefix(namespace.root_name)
    if public not in sys.modules and not any(namespace.owns(finder) for finder in sys.meta_path):
        return None
    try:
        made = importlib.import_module(public)
    except ModuleNotFoundError:
        return None
    return None if type(made) is ModuleView else ModuleSpec(private, _MadeLoader(made))  # type: ignore[arg-type]  # typeshed wants the old load_module


@contextmanager
def taking_replacement(public: str, private: str) -> Iterator[None]:
    """Around a module's code, which may put another object into `sys.modules` in its own place.

    It does so by its `__name__`; the import system looks under the private name.
    """
    before = sys.modules.get(public)
    yield
    after = sys.modules.get(public)
    if after is not before and before is not None and after is not None:
        sys.modules[private] = after
        sys.modules[public] = before


class _MadeLoader:
    """The loader of a module that is there."""

    def __init__(self, made: ModuleType) -> None:
        self._made: Final = made

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module."""
        return self._made

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: its code has run."""


class ViewLoader:
    """The loader of a view: imports the module that is meant now."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The view."""
        return ModuleView(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Import the module; raises what its code raises."""
        _module(module.__name__)


class ModuleView(PublicView):
    """A plugin's module under its public name; see the module's docstring."""

    def __getattribute__(self, name: str) -> Any:
        public: str = object.__getattribute__(self, "__dict__")["__name__"]
        if name == "__name__":
            return public
        if name == "__class__":
            return ModuleView
        module, is_inside, space = _module(public)
        if name == "__spec__":
            return _public_spec(public, module)
        value = getattr(module, name)
        if type(value) is FunctionType and not is_inside:
            return space.export_of(value)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        # The import system binds a submodule's view in its parent, and gives a view its spec.
        if name != "__spec__" and type(value) is not ModuleView:
            setattr(_module(self.__name__)[0], name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_module(self.__name__)[0], name)

    def __dir__(self) -> list[str]:
        return dir(_module(self.__name__)[0])

    def __repr__(self) -> str:
        spaces = _spaces.get(self.__name__.partition(".")[0])
        what = _meant(spaces)[0].described if spaces else "a plugin that was removed"
        return f"<module {self.__name__!r} of {what}>"


def _module(public: str) -> tuple[ModuleType, bool, PythonNamespace]:
    """The module that a name means now, whether its own code asks, and its namespace."""
    spaces = _spaces.get(public.partition(".")[0])
    if spaces is None:
        raise AttributeError(f"plugin module {public!r} is gone: its plugin was removed")
    space, is_inside = _meant(spaces)
    private = space.private(public)
    module = space.modules.get(private)
    if module is None:
        # Another generation has imported it; this one has not, so far.
        module = importlib.import_module(private)
    return module, is_inside, space


def _meant(spaces: tuple[PythonNamespace, ...]) -> tuple[PythonNamespace, bool]:
    """The namespace that the calling code means, and whether it is that namespace's own code."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  the stack has no other name
    meant = spaces[0] if len(spaces) == 1 else _asked_for(frame, spaces)
    while frame is not None:
        names = dict.get(frame.f_globals, "__builtins__")
        for space in spaces:
            if space.builtins is names and meant in (None, space):
                return space, True
        frame = frame.f_back
    return meant or _chosen(spaces), False


class _ViewKey(str):
    """The key of a view in `sys.modules`: notes the string object with which it is looked up.

    A dictionary compares its key with the one that it is asked for, here.
    """

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> Any:
        is_equal = str.__eq__(self, other)
        if is_equal is True:
            # The frame's `id`, not the frame, which would keep all its variables.
            _last_look.asked = (other, id(sys._getframe().f_back))
        return is_equal


class _LastLook(threading.local):
    asked: tuple[object, int] = (None, 0)


_last_look: Final = _LastLook()


def _asked_for(
    frame: FrameType | None, spaces: tuple[PythonNamespace, ...]
) -> PythonNamespace | None:
    """The namespace whose own string the code that reads a view has just looked it up with."""
    name, looked_in = _last_look.asked
    module = MODULE_OF_NAME.get(id(name))
    if module is None:
        return None
    builtins, calls = vars(module)["__builtins__"], _CALLS_AT_MOST
    while frame is not None and calls:
        if id(frame) == looked_in:
            return next((space for space in spaces if space.builtins is builtins), None)
        calls -= frame.f_code.co_filename != __file__
        frame = frame.f_back
    return None


def runs_code_of(namespace: PythonNamespace) -> bool:
    """Whether a namespace's own code is on the calling thread's stack."""
    return _meant((namespace,))[1]


def _chosen(spaces: tuple[PythonNamespace, ...]) -> PythonNamespace:
    owners = [(space, space.owner()) for space in reversed(spaces)]
    called = calling.get()
    for space, owner in owners:
        if owner is not None and owner is called:
            return space
    for space, owner in owners:
        if owner is not None and owner.is_in_ambient_operation():
            return space
    for space, owner in owners:
        if owner is not None and owner.is_active:
            return space
    return spaces[-1]


def _public_spec(public: str, module: ModuleType) -> ModuleSpec | None:
    spec = module.__spec__
    if spec is None:
        return None
    shown = ModuleSpec(public, spec.loader, origin=spec.origin)
    shown.submodule_search_locations = spec.submodule_search_locations
    shown.has_location = spec.has_location
    return shown
