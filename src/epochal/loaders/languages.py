"""The loader of each language, by `Artifact.language`: the one place that lists them.

A generation's namespace is made by the loader of its language and is used alike from there on. In
each of them the exports are objects of Python modules; see `wasm.namespace` for code that is not
Python.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from epochal.loaders.python_namespace import PythonNamespace, load_python

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from epochal._core.generation.generation import Loader
    from epochal._core.plugin.artifact import Artifact
    from epochal._core.plugin.candidate import Candidate


def loaders_for(store: str | PathLike[str] | None) -> Mapping[str, Loader]:
    """The loaders of one runtime, by language.

    Args:
        store: the folder of its store, in which compiled code is kept; None to keep none.
    """
    compiled = None if store is None else Path(store) / "compiled"
    return {"python": load_python, "wasm": partial(_load_wasm, compiled)}


def open_replica(
    artifact: Artifact, plugin: str, number: int, vendored: str, public: str
) -> PythonNamespace:
    """A namespace for the generation of another process, whose modules run when imported."""
    if artifact.language == "wasm":
        from epochal.loaders.wasm.namespace import open_wasm_replica

        return open_wasm_replica(artifact, number, public)
    return PythonNamespace(artifact, plugin, number, vendored, public=public)


def _load_wasm(
    compiled: Path | None, candidate: Candidate, number: int, *, in_subprocess: bool
) -> PythonNamespace:
    from epochal.loaders.wasm.namespace import WasmNamespace

    return WasmNamespace(candidate, number, compiled)
