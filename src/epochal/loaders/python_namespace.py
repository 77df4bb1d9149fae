"""The modules of one generation, apart from those of every other.

Two generations of one plugin must coexist: an operation that began before a reload goes on with the
old modules, late imports included. Each generation's modules therefore have private names, and
those names are in `sys.modules` for as long as the generation lives:

``geo__g7_3fa9c1d2`` is the root module of generation 7 of plugin `geo`, whose artifact's digest
begins with 3fa9c1d2; submodules are below it. (No dot before the number: parts of the import system
import the part before the first dot.) Only the import system knows these names: `__name__` is
`geo`, and so are the `__module__` of classes and functions, and what is pickled; `_module_views`
says how `geo` is looked up. Each module's `__name__` is a string object of its own, which its
classes refer to: by that object's identity, a class belongs to its generation.

``/plugins/geo.py@g7_3fa9c1d2`` is its file, to tracebacks, `inspect` and `linecache`: each
generation shows its own source, also after the file on disk has changed. Its folder is the real
one, so `Path(__file__).parent` still works; files read through it are today's on the disk, not the
artifact's (`importlib.resources` reads the artifact).

An import by the plugin's code is resolved in `_import_resolution`, found by the finder in
`_module_registry`, and loaded by `_module_loader`.

Threads: `modules` grows under the import system's own per-module locks, one dict step
each; `_closed` goes from False to True once. A later import fails, with the reason.
"""

from __future__ import annotations

import linecache
import pkgutil
import sys
import threading
from functools import partial
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import PurePosixPath
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Final

from epochal._core.generation.host_names import names_of
from epochal._core.generation.process_tables import host_builtins
from epochal._core.generation.side_effects import is_noting, plugin_imports
from epochal._core.introspect.object_names import MODULE_OF_NAME
from epochal.loaders import _module_registry as registry
from epochal.loaders._exit_hooks import ExitHooks
from epochal.loaders._import_resolution import NameMap, resolve_import, top_names
from epochal.loaders._module_loader import MemoryLoader
from epochal.loaders._module_proxies import ByNameProxy, ImportlibProxy, LoggingProxy, PickleProxy
from epochal.loaders._module_views import public_root, show
from epochal.loaders._prometheus import NAME as PROMETHEUS
from epochal.loaders._prometheus import GenerationMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import CodeType

    from epochal._core.generation.generation import Generation
    from epochal._core.plugin.artifact import Artifact
    from epochal._core.plugin.candidate import Candidate
    from epochal.loaders._compiler import CodeStore, Compiled
    from epochal.loaders._worker_processes import Code

_METADATA: Final = "importlib.metadata"
_PROXIED: Final = frozenset(
    {
        *("atexit", "logging", "pickle", "pkgutil"),
        *("importlib", _METADATA, "importlib.resources", "importlib.util"),
    }
)
"""The modules of which the plugin's code is given a proxy."""


class PythonNamespace:
    """The namespace of one generation; the plugin's code does not run before `execute`.

    Args:
        artifact: the plugin's bytes: one file, or a package.
        plugin: its id, by which the plugin's own code imports this generation.
        generation: its number.
        vendored: the folder of the distributions that it carries with it; empty for none.
        public: the public name of its root module; empty for one that is free.
        in_subprocess: whether its code is compiled in another process, which keeps compiling from
            holding up operations and costs a process.
        has_own_files: whether its modules are the artifact's files. If not, there is one module,
            and a subclass sets `sources` before it is executed.
        code_store: where the runtime's store keeps compiled code; None to keep none.

    Attributes:
        plugin: the plugin's id.
        number: the generation's number.
        vendored: as given.
        code: how worker processes find the code, once some was sent; see `_worker_processes`.
        root_name: the private name of the root module.
        public_root: its public name, `__name__`.
        tag: its generation's number and digest, in its private names.
        owner: returns the generation whose modules these are, for as long as there is one.
        builtins: the builtins of its modules, and of no other.
        modules: the modules loaded so far, by private name.
        artifact: the plugin's bytes.
        sources: the code of its modules, by path.
        compiled: results of the other process, for the next generation of the same source; None if
            code is compiled in this process.
        code_store: as given.
    """

    def __init__(
        self,
        artifact: Artifact,
        plugin: str,
        generation: int,
        vendored: str = "",
        *,
        public: str = "",
        in_subprocess: bool = False,
        has_own_files: bool = True,
        code_store: CodeStore | None = None,
    ) -> None:
        self.public_root: Final = public or public_root(plugin, artifact)
        self.owner: Callable[[], Generation | None] = _nobody
        self.modules: Final[dict[str, ModuleType]] = {}
        self._public_names: Final[dict[str, str]] = {}  # by private name, like `modules`
        self._name_ids: Final[set[int]] = set()  # of the public names, which are held above
        self._globals_ids: Final[set[int]] = set()  # of the dictionaries of `modules`
        self.tag = self.root_name = ""
        self.artifact: Final = artifact
        self.sources: Mapping[str, bytes] = artifact.files if has_own_files else {}
        self._is_package: Final = has_own_files and artifact.is_package
        self.compiled: Final[list[Compiled] | None] = [] if in_subprocess else None
        self.code_store: Final = code_store
        self.plugin: Final = plugin
        self.number: Final = generation
        self.code: Code | None = None
        self._described: Final = f"generation {generation} of plugin {plugin!r}"
        self._closed = False
        self._files: Final[list[str]] = []
        self._packages: Final = (
            _folders_with_code(artifact.files) if self._is_package else frozenset()
        )
        self._names: NameMap | None = None  # from the first import on, like the proxies
        self._proxies: dict[str, ModuleType] | None = None
        self._metrics: GenerationMetrics | None = None
        # By the `id` of the dictionary of the module, which `modules` keeps alive.
        self._names_in_code: Final[dict[int, frozenset[str]]] = {}
        self._lock: Final = threading.Lock()
        self.vendored: Final = vendored
        self.builtins: Final = host_builtins()
        self.builtins["__import__"] = partial(
            resolve_import, self._private_name, self._proxy_for, self._notice_import
        )

    def open(self) -> None:
        """Serve its modules by their names from now on."""
        registry.enter(self, self.plugin, f"g{self.number}_{self.artifact.digest[:8]}")

    def _private_name(self, name: str) -> str | None:
        names = self._names
        if names is None:  # of two threads that make one, either's will do
            names = self._names = NameMap(self._tops(), self._check_open)
        return names(name)

    def _notice_import(self, name: str, importer: Mapping[str, object] | None) -> None:
        if importer is None or not is_noting():
            return
        names = self._names_in_code.get(id(importer))
        if names is None:
            return
        for each in dict.fromkeys((name, name.partition(".")[0])):
            module = sys.modules.get(each)
            if type(module) is ModuleType:
                plugin_imports(module, names)

    def _proxy_for(self, name: str, module: ModuleType) -> ModuleType:
        if name.partition(".")[0] == PROMETHEUS:
            with self._lock:  # one for all threads, since it has the metrics
                if self._metrics is None:
                    self._metrics = GenerationMetrics(self.plugin)
            return self._metrics.proxy_for(module)
        if name not in _PROXIED:
            return module
        with self._lock:  # one of each for all threads: that of `atexit` has the hooks
            if self._proxies is None:
                self._proxies = self._make_proxies()
        proxies = self._proxies
        return proxies["importlib"].metadata if name == _METADATA else proxies[name]

    def _make_metadata_proxy(self, load: Callable[[str], ModuleType]) -> ModuleType:
        from epochal.loaders._metadata_proxy import MetadataProxy

        return MetadataProxy(self.artifact.files, self.vendored, load)

    def _make_proxies(self) -> dict[str, ModuleType]:
        names = self._private_name
        importlib_ = ImportlibProxy(names, self._make_metadata_proxy)
        return {
            "atexit": ExitHooks(),
            "importlib": importlib_,
            "importlib.resources": importlib_.resources,
            "importlib.util": importlib_.util,
            "logging": LoggingProxy({self.root_name, self.public_root}, self.plugin),
            "pickle": PickleProxy(names),
            "pkgutil": ByNameProxy(pkgutil, names),
        }

    def _tops(self) -> dict[str, str]:
        tops: dict[str, str] = {}
        plugin, vendored = self.plugin, self.vendored
        if vendored:
            folder = f"{self.root_name}.{vendored.replace('/', '.')}"
            tops = {name: f"{folder}.{name}" for name in top_names(self.artifact.files, vendored)}
        if self._is_package:
            tops.setdefault(self.artifact.name, self.root_name)
        return {**tops, self.public_root: self.root_name, plugin: self.root_name}

    def execute(self) -> ModuleType:
        """Run the root module's code.

        Raises:
            BaseException: raised by the code.
        """
        spec = self.find_spec(self.root_name)
        assert spec is not None  # every artifact has a root
        module = module_from_spec(spec)
        sys.modules[self.root_name] = module
        assert spec.loader is not None
        spec.loader.exec_module(module)
        return module

    def find_spec(self, name: str) -> ModuleSpec | None:
        """The spec of one of this generation's modules; None if it has no such module."""
        located = self._locate(name)
        if located is None:
            return None
        path, is_package = located
        if path not in self.sources:
            spec, file = ModuleSpec(name, None, is_package=True), self.file_name(path)
        else:
            loader = MemoryLoader(self, name, path, is_package=is_package)
            file = loader.file
            spec = ModuleSpec(name, loader, origin=file, is_package=is_package)  # type: ignore[arg-type]  # typeshed wants the old load_module
            spec.has_location = True  # so that `__file__` is set
        if is_package:
            spec.submodule_search_locations = [str(PurePosixPath(file).parent)]
        return spec

    @property
    def described(self) -> str:
        """Its plugin, version, number and digest, for people."""
        owner = self.owner()
        version = f" {owner.version}" if owner is not None else ""
        return f"plugin {self.plugin!r}{version} ({self.tag}, digest {self.artifact.digest[:12]})"

    def private(self, public: str) -> str:
        """The private name of a module."""
        return self.root_name + public.removeprefix(self.public_root)

    def public_names(self) -> list[str]:
        """The `__name__` of each module loaded so far: the very objects."""
        return list(self._public_names.values())

    def export_of(self, function: FunctionType) -> FunctionType:
        """What the host has in place of an exported function; any other function itself."""
        owner = self.owner()
        return function if owner is None else owner.export_of(function)

    def owns(self, obj: object) -> bool:
        """Whether an object was defined by this generation's code."""
        # By type, never `isinstance`: that asks the object for its `__class__`, and to ask a lazy
        # module for anything is to load it.
        if type(obj) is MethodType:
            obj = obj.__func__
        if type(obj) is FunctionType:
            if id(obj.__globals__) in self._globals_ids:
                return True
        elif issubclass(type(obj), ModuleType):
            return any(obj is module for module in list(self.modules.values()))
        else:
            cls = obj if issubclass(type(obj), type) else type(obj)
            name = cls.__dict__.get("__module__")
            if id(name) in self._name_ids:
                return True
        # A wrapper around one of our functions (`functools.lru_cache`, a partial, a decorator of a
        # library's) counts as ours.
        inner = getattr(obj, "__wrapped__", None) or getattr(obj, "func", None)
        return inner is not None and inner is not obj and self.owns(inner)

    def run_exit_hooks(self, failures: list[str]) -> list[str]:
        """Run the exit hooks of the plugin's code and unregister its metrics.

        Returns a line for each of them; `failures` gets a line for each hook that raises.
        """
        hooks = self._proxies["atexit"] if self._proxies is not None else None
        ran = hooks.run_hooks(failures) if isinstance(hooks, ExitHooks) else []
        return [*ran, *(self._metrics.unregister_all() if self._metrics is not None else ())]

    def interrupt(self, reason: str) -> None:
        """Do nothing: Python code cannot be stopped for certain."""

    def close(self) -> None:
        """Leave every process-wide table. Idempotent."""
        self._closed = True  # first: a late import must not enter what the next line removes
        registry.leave(self.root_name, self._files)
        self._globals_ids.clear()  # first: an `id` may be another dictionary's once they are gone
        self.modules.clear()
        self._names_in_code.clear()
        if self.compiled is not None:
            self.compiled.clear()

    def add_code(self, module: ModuleType, code: CodeType) -> None:
        """Note the names in a module's code, which is about to run."""
        self._names_in_code[id(vars(module))] = names_of(code)

    def add_module(self, module: ModuleType, loader: MemoryLoader) -> str:
        """Register a module that is about to run; called by its loader. Returns its public name.

        Raises:
            ImportError: the generation was removed.
        """
        self._check_open(loader.name)
        # Joined, not copied: a string object of its own, even if it is one letter long.
        public = "".join((self.public_root, loader.name.removeprefix(self.root_name)))
        self._name_ids.discard(id(self._public_names.get(loader.name)))
        self._name_ids.add(id(public))
        module.__name__ = self._public_names[loader.name] = public
        MODULE_OF_NAME[id(public)] = module
        show(public)
        vars(module)["__builtins__"] = self.builtins
        if (replaced := self.modules.get(loader.name)) is not None:
            self._globals_ids.discard(id(vars(replaced)))
        self._globals_ids.add(id(vars(module)))
        self.modules[loader.name] = module
        self._files.append(loader.file)
        source = loader.source
        # The one-entry form: lines are split when a traceback asks for them, and never checked
        # against the disk.
        linecache.cache[loader.file] = (lambda: source.decode("utf-8-sig", "replace"),)
        return public

    def _check_open(self, name: str) -> None:
        if self._closed:
            raise ImportError(
                f"{self._described} was removed, and can no longer import its own modules"
                + (f" (asked for {name!r})" if name else ""),
                name=name or None,
            )

    def file_name(self, path: str) -> str:
        """The name of one of the artifact's files in tracebacks."""
        origin = self.artifact.origin
        if origin is None:
            file = f"<{self.artifact.name}>/{path}"
        elif self.artifact.is_package:
            file = str(origin / path)
        else:
            file = str(origin)
        return f"{file}@{self.tag}"

    def _locate(self, name: str) -> tuple[str, bool] | None:
        """The file behind a module name, and whether it is a package.

        For a package without `__init__.py` that file is not in the artifact.
        """
        if name == self.root_name:
            return self.artifact.root, self._is_package
        if not self._is_package or not name.startswith(f"{self.root_name}."):
            return None
        stem = name[len(self.root_name) + 1 :].replace(".", "/")
        files = self.artifact.files
        if f"{stem}/__init__.py" in files:
            return f"{stem}/__init__.py", True
        if f"{stem}.py" in files:
            return f"{stem}.py", False
        return (f"{stem}/__init__.py", True) if stem in self._packages else None


def load_python(
    code_store: CodeStore | None, candidate: Candidate, number: int, *, in_subprocess: bool
) -> PythonNamespace:
    """Make the namespace of a generation (`epochal._core.generation.generation.Loader`)."""
    return PythonNamespace(
        candidate.artifact,
        candidate.plugin,
        number,
        candidate.manifest.vendored,
        in_subprocess=in_subprocess,
        code_store=code_store,
    )


def _nobody() -> None:
    """The owner of a namespace that was made without a generation."""


def _folders_with_code(files: Iterable[str]) -> frozenset[str]:
    """Every folder with Python files in or below it: a package, with `__init__.py` or without."""
    folders: set[str] = set()
    for path in files:
        folder = path.rpartition("/")[0] if path.endswith(".py") else ""
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return frozenset(folders)
