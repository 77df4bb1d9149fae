"""The namespace of one generation of a WebAssembly plugin.

It is that of a Python plugin (`PythonNamespace`) with one module, whose source is written from the
manifest (`host_end`) and which finds the generation's `Guest` under a private name. The guest has
the compiled code and its instances; all of them go when the namespace is closed.

Nothing of the module runs before LINKED, where it is compiled, checked and instantiated, which runs
its start function. `epochal_init` runs where a Python plugin's `init` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from epochal._core.plugin.candidate import NO_CONFIG, Candidate
from epochal._core.plugin.manifest import read_manifest
from epochal._core.plugin.wasm_sections import is_component
from epochal.errors import MissingDependencyError
from epochal.loaders.python_namespace import PythonNamespace
from epochal.loaders.wasm.host_end import GUEST, write_host_end
from epochal.loaders.wasm.limits import read_limits

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from epochal._core.plugin.artifact import Artifact
    from epochal.loaders._kept_code import KeptCode
    from epochal.loaders._module_loader import MemoryLoader
    from epochal.loaders.wasm.any_guest import AnyGuest
    from epochal.loaders.wasm.limits import GuestLimits


class WasmNamespace(PythonNamespace):
    """The namespace of one generation; nothing of its code runs before `execute`.

    Args:
        candidate: all that determines the generation.
        number: its number.
        kept: where the store keeps compiled code; None for no store.
        public: the public name of its module; empty for one that is free.

    Raises:
        HostError: a limit among the grants has no such form.
        MissingDependencyError: what runs WebAssembly is not installed.
    """

    def __init__(
        self, candidate: Candidate, number: int, kept: KeptCode | None, public: str = ""
    ) -> None:
        self._manifest: Final = candidate.manifest
        artifact = candidate.artifact
        limits = read_limits(candidate.grants)
        self._guest: Final = _guest(candidate, limits, kept)
        super().__init__(artifact, candidate.plugin, number, public=public, has_own_files=False)

    def find_spec(self, name: str) -> ModuleSpec | None:
        """The spec of its one module; None for another name."""
        if name == self.root_name and not self.sources:
            functions = self._guest.open()
            self.sources = {self.artifact.root: write_host_end(self._manifest, functions)}
        return super().find_spec(name)

    def add_module(self, module: ModuleType, loader: MemoryLoader) -> str:
        """Register the module, with the guest in it. Returns its public name."""
        vars(module)[GUEST] = self._guest
        return super().add_module(module, loader)

    def interrupt(self, reason: str) -> None:
        """Stop every call that runs in the guest, and take no more. Any thread."""
        self._guest.interrupt(reason)

    def close(self) -> None:
        """Leave every process-wide table, and give back the guest's memory."""
        super().close()
        self._guest.close()


def make_wasm_replica(artifact: Artifact, number: int, public: str) -> WasmNamespace:
    """A namespace for the generation of another process; its limits are the defaults."""
    candidate = Candidate(artifact, read_manifest(artifact), NO_CONFIG, frozenset())
    return WasmNamespace(candidate, number, None, public)


def _guest(candidate: Candidate, limits: GuestLimits, kept: KeptCode | None) -> AnyGuest[Any]:
    content = candidate.artifact.files[candidate.artifact.root]
    plugin = candidate.plugin
    try:
        if is_component(content):
            from epochal.loaders.wasm.component import ComponentGuest

            return ComponentGuest(candidate, content, limits, kept)
        from epochal.loaders.wasm.guest import Guest

        return Guest(candidate.manifest, content, limits, kept)
    except ImportError as error:
        if error.name not in ("wasmtime", "pyarrow"):
            raise
        raise MissingDependencyError(
            f"plugin {plugin!r} is WebAssembly, for which {error.name} is missing: "
            "pip install 'epochal[wasm]'",
            plugin=plugin,
        ) from error
