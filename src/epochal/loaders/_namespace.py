"""A namespace: the modules of one generation, apart from those of every other.

Two generations of one plugin must coexist: an operation that began before a reload goes on with the
old modules, late imports included. So each generation's modules have private names, and those names
are in `sys.modules` for as long as the generation lives:

``geo__g7_3fa9c1d2`` the root module of generation 7 of plugin `geo`, whose artifact's digest begins
with 3fa9c1d2; submodules below it. The digest is in the name, so a pickle made by name can never be
read as another version's class. (No dot before the number: parts of the import system, and
`pickle`, import what stands before the first dot.)

``/plugins/geo.py@g7_3fa9c1d2`` its file, to tracebacks, `inspect` and `linecache`: each generation
shows its own source, also when the file on disk has changed. Its folder is the real one, so
`Path(__file__).parent` still works; what is read through it is the disk's today, not the artifact's
(`importlib.resources` reads the artifact).

Code is compiled from the artifact's bytes (where others run, by another process: `_compiler`),
never through a bytecode cache keyed by time and size, which would run the old code for two saves of
equal length within a second.

Who reads, who writes: `modules` grows under the import system's own per-module locks, one dict step
each; `_closed` goes from False to True once. A late import that comes after it fails, and says why.
"""

from __future__ import annotations

import io
import linecache
import pkgutil
import sys
from functools import partial
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import PurePosixPath
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

from epochal.loaders import _registry as _tables
from epochal.loaders._compiler import COMPILER, Compiled
from epochal.loaders._exit_hooks import ExitHooks
from epochal.loaders._imports import private_builtins
from epochal.loaders._metadata import Metadata
from epochal.loaders._module_proxies import ByName, Importlib, Logging, Pickle
from epochal.loaders._name_map import OwnNames, packages, top_names
from epochal.loaders._prometheus import NAME as PROMETHEUS
from epochal.loaders._prometheus import Metrics
from epochal.loaders._resources import ArtifactFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.resources.abc import TraversableResources

    from epochal._core.plugin.artifact import Artifact


class Namespace:
    """The modules of one generation; see the module's own words.

    Args:
        artifact: the plugin's bytes.
        plugin: its id.
        generation: its number.
        vendored: the folder of the distributions that it carries with it; empty for none.
        aside: whether its code is compiled where that stops nobody.

    Attributes:
        root_name: the private name of the root module.
        modules: the modules loaded so far, by private name.
        compiled: what was compiled aside, for the next generation of the same source.
        exit_hooks: what its code registered with `atexit`.
    """

    def __init__(
        self,
        artifact: Artifact,
        plugin: str,
        generation: int,
        vendored: str = "",
        *,
        aside: bool = False,
    ) -> None:
        tag = _tables.enter(self, plugin, f"g{generation}_{artifact.digest[:8]}")
        self.root_name: Final = f"{plugin}__{tag}"
        self.modules: Final[dict[str, ModuleType]] = {}
        self.artifact: Final = artifact
        self.compiled: Final[list[Compiled] | None] = [] if aside else None
        self._plugin: Final = plugin
        self._said: Final = f"generation {generation} of plugin {plugin!r}"
        self._suffix: Final = f"@{tag}"
        self._closed = False
        self._packages: Final = packages(artifact.files) if artifact.is_package else frozenset()
        self.exit_hooks: Final = ExitHooks()
        own = OwnNames(self._tops(plugin, vendored), self._check_open)
        self._metrics: Final = Metrics(plugin)
        self._builtins: Final = private_builtins(own, self._stand_ins(own, vendored))
        self._files: Final[list[str]] = []

    def _stand_ins(self, own: OwnNames, vendored: str) -> Callable[[str, ModuleType], ModuleType]:
        importlib_ = Importlib(own, partial(Metadata, self.artifact.files, vendored))
        table: dict[str, ModuleType] = {
            "atexit": self.exit_hooks,
            "importlib": importlib_,
            "importlib.metadata": importlib_.metadata,
            "importlib.resources": importlib_.resources,
            "importlib.util": importlib_.util,
            "logging": Logging(self.root_name, self._plugin),
            "pickle": Pickle(own),
            "pkgutil": ByName(pkgutil, own),
        }
        metrics = self._metrics

        def stand_in(name: str, module: ModuleType) -> ModuleType:
            if name.partition(".")[0] == PROMETHEUS:
                return metrics.stand_in(module)
            return table.get(name, module)

        return stand_in

    def _tops(self, plugin: str, vendored: str) -> dict[str, str]:
        tops: dict[str, str] = {}
        if vendored:
            folder = f"{self.root_name}.{vendored.replace('/', '.')}"
            tops = {name: f"{folder}.{name}" for name in top_names(self.artifact.files, vendored)}
        if self.artifact.is_package:
            tops.setdefault(self.artifact.name, self.root_name)
        return {**tops, plugin: self.root_name}

    def execute(self) -> ModuleType:
        """Run the root module's code.

        Raises:
            BaseException: whatever the code raises.
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
        found = self._locate(name)
        if found is None:
            return None
        path, is_package = found
        if path not in self.artifact.files:
            return self._bare_package(name, path)
        loader = MemoryLoader(self, name, path, is_package=is_package)
        spec = ModuleSpec(name, loader, origin=loader.file, is_package=is_package)  # type: ignore[arg-type]  # typeshed wants the old load_module
        spec.has_location = True  # so that `__file__` is set
        if is_package:
            spec.submodule_search_locations = [str(PurePosixPath(loader.file).parent)]
        return spec

    def _bare_package(self, name: str, path: str) -> ModuleSpec:
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(PurePosixPath(self.file_name(path)).parent)]
        return spec

    def owns(self, obj: object) -> bool:
        """Whether an object was defined by this generation's code."""
        if isinstance(obj, MethodType):
            obj = obj.__func__
        if isinstance(obj, FunctionType):
            return any(obj.__globals__ is vars(module) for module in list(self.modules.values()))
        if isinstance(obj, ModuleType):
            return self.modules.get(obj.__name__) is obj
        cls = obj if isinstance(obj, type) else type(obj)
        name = cls.__dict__.get("__module__")
        if isinstance(name, str) and _tables.root_of(name) == self.root_name:
            return True
        # What wraps one of our functions (`functools.lru_cache`, a partial) counts as ours.
        inner = getattr(obj, "__wrapped__", None) or getattr(obj, "func", None)
        return inner is not None and inner is not obj and self.owns(inner)

    def run_exit_hooks(self, failures: list[str]) -> list[str]:
        """Run what the code registered to run at its exit, and take its metrics out; says what."""
        return [*self.exit_hooks.run_hooks(failures), *self._metrics.take_out_all()]

    def close(self) -> None:
        """Leave every process-wide table; doing so again does nothing."""
        self._closed = True
        _tables.leave(self.root_name, self._files)
        self.modules.clear()
        if self.compiled is not None:
            self.compiled.clear()

    def begin(self, module: ModuleType, loader: MemoryLoader) -> None:
        """Take in a module that is about to run."""
        self._check_open(loader.name)
        vars(module)["__builtins__"] = self._builtins
        self.modules[loader.name] = module
        self._files.append(loader.file)
        source = loader.source
        # The one-entry form: lines are split when a traceback asks for them, and never checked
        # against the disk.
        linecache.cache[loader.file] = (lambda: source.decode("utf-8-sig", "replace"),)

    def _check_open(self, name: str) -> None:
        if self._closed:
            raise ImportError(
                f"{self._said} was removed, and can import nothing of itself any more"
                + (f" (asked for {name!r})" if name else ""),
                name=name or None,
            )

    def file_name(self, path: str) -> str:
        """How tracebacks name a file of the artifact."""
        origin = self.artifact.origin
        if origin is None:
            where = f"<{self.artifact.name}>/{path}"
        elif self.artifact.is_package:
            where = str(origin / path)
        else:
            where = str(origin)
        return where + self._suffix

    def _locate(self, name: str) -> tuple[str, bool] | None:
        """The file behind a module name, and whether it is a package.

        A package without `__init__.py` has a file that is not there.
        """
        if name == self.root_name:
            return self.artifact.root, self.artifact.is_package
        if not self.artifact.is_package or not name.startswith(f"{self.root_name}."):
            return None
        stem = name[len(self.root_name) + 1 :].replace(".", "/")
        files = self.artifact.files
        if f"{stem}/__init__.py" in files:
            return f"{stem}/__init__.py", True
        if f"{stem}.py" in files:
            return f"{stem}.py", False
        return (f"{stem}/__init__.py", True) if stem in self._packages else None


class MemoryLoader:
    """Loads one module from an artifact's bytes; the import protocol's loader."""

    def __init__(self, namespace: Namespace, name: str, path: str, *, is_package: bool) -> None:
        self._namespace: Final = namespace
        self._is_package: Final = is_package
        self.name: Final = name
        self.path: Final = path
        self.file: Final = namespace.file_name(path)
        self.source: Final = namespace.artifact.files[path]

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """An ordinary module will do."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Compile the bytes and run them."""
        self._namespace.begin(module, self)
        code = COMPILER.compile(self.source, self.file, keeper=self._namespace.compiled)
        exec(code, vars(module))

    def get_code(self, fullname: str) -> Any:
        """The compiled module (`runpy`, `pkgutil`)."""
        return compile(self.source, self.file, "exec", dont_inherit=True)

    def get_source(self, fullname: str) -> str:
        """The source (`inspect`, `linecache`)."""
        return io.TextIOWrapper(
            io.BytesIO(self.source), encoding="utf-8-sig", errors="replace", newline=None
        ).read()

    def get_filename(self, fullname: str) -> str:
        """The file's name, as in `__file__`."""
        return self.file

    def is_package(self, fullname: str) -> bool:
        """Whether the module is a package."""
        return self._is_package

    def get_data(self, path: str) -> bytes:
        """A file of the artifact, by a path under the package's folder (`pkgutil.get_data`)."""
        artifact = self._namespace.artifact
        folder = PurePosixPath(artifact.origin or f"<{artifact.name}>")
        name = PurePosixPath(path)
        if name.is_relative_to(folder):
            name = name.relative_to(folder)
        try:
            return self._namespace.artifact.files[str(name)]
        except KeyError:
            raise FileNotFoundError(f"the plugin's artifact has no file {path}") from None

    def get_resource_reader(self, fullname: str) -> TraversableResources:
        """The package's files as `importlib.resources` reads them, from memory."""
        folder = str(PurePosixPath(self.path).parent)
        files = self._namespace.artifact.files
        return cast("TraversableResources", ArtifactFolder(files, "" if folder == "." else folder))
