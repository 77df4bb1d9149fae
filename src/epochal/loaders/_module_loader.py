"""Loads one module from an artifact's bytes: the import protocol's loader.

Code is compiled from the artifact's bytes (under traffic in another process: `_compiler`), never
through a bytecode cache keyed by time and size, which would run the old code for two saves of equal
length within a second.
"""

from __future__ import annotations

import io
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from epochal._core.generation.side_effects import own_code_begins, own_code_ends
from epochal._core.sync.threads import give_way
from epochal.loaders._artifact_files import ArtifactFolder
from epochal.loaders._compiler import COMPILER
from epochal.loaders._module_views import taking_replacement

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from importlib.resources.abc import TraversableResources
    from types import ModuleType

    from epochal.loaders.python_namespace import PythonNamespace


class MemoryLoader:
    """The loader of one module, which has a private name and a file (`path`) in the artifact."""

    def __init__(
        self, namespace: PythonNamespace, name: str, path: str, *, is_package: bool
    ) -> None:
        self._namespace: Final = namespace
        self._is_package: Final = is_package
        self.name: Final = name
        self.path: Final = path
        self.file: Final = namespace.file_name(path)
        self.source: Final = namespace.sources[path]

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """None: the import system shall make an ordinary module."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Compile the bytes and run them."""
        public = self._namespace.add_module(module, self)
        namespace = self._namespace
        code = COMPILER.compile(
            self.source, self.file, retain_in=namespace.compiled, store=namespace.code_store
        )
        give_way()
        self._namespace.add_code(module, code)
        give_way()
        # It may be imported within a library's import, which it is no part of.
        depth = own_code_begins()
        try:
            with taking_replacement(public, self.name):
                exec(code, vars(module))
        finally:
            own_code_ends(depth)

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
            return artifact.files[str(name)]
        except KeyError:
            raise FileNotFoundError(f"the plugin's artifact has no file {path}") from None

    def get_resource_reader(self, fullname: str) -> TraversableResources:
        """The package's files as `importlib.resources` reads them, from memory."""
        folder = str(PurePosixPath(self.path).parent)
        return ArtifactFolder(self._namespace.artifact.files, "" if folder == "." else folder)
