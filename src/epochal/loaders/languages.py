"""The loader of each language, by `Artifact.language`: the one place that lists them.

A generation's namespace is made by the loader of its language and is used alike from there on. In
each of them the exports are objects of Python modules; see `wasm.namespace` for code that is not
Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from epochal.loaders.python_namespace import PythonNamespace, load_python

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from os import PathLike

    from epochal._core.generation.generation import Loader
    from epochal._core.plugin.artifact import Artifact
    from epochal._core.plugin.candidate import Candidate
    from epochal.loaders._kept_code import KeptCode


@dataclass(frozen=True, slots=True)
class Loaders:
    """The loaders of one runtime.

    Attributes:
        by_language: the loader of each language.
        close: called once by the runtime as it closes its store, in which they keep compiled code.
    """

    by_language: Mapping[str, Loader]
    close: Callable[[], object]


def loaders_for(store: str | PathLike[str] | None) -> Loaders:
    """The loaders of one runtime.

    Args:
        store: the folder of its store, in which compiled code is kept; None to keep none.
    """
    if store is None:
        by_language = {"python": partial(load_python, None), "wasm": partial(_load_wasm, None)}
        return Loaders(by_language, _nothing)
    from epochal.loaders._code_writer import CodeWriter
    from epochal.loaders._kept_code import KeptCode

    kept = KeptCode(Path(store) / "compiled")
    code = CodeWriter(kept)
    by_language = {"python": partial(load_python, code), "wasm": partial(_load_wasm, kept)}
    return Loaders(by_language, code.close)


def open_replica(
    artifact: Artifact, plugin: str, number: int, vendored: str, public: str
) -> PythonNamespace:
    """A namespace for the generation of another process, whose modules run when imported."""
    if artifact.language == "wasm":
        from epochal.loaders.wasm.namespace import make_wasm_replica

        replica: PythonNamespace = make_wasm_replica(artifact, number, public)
    else:
        replica = PythonNamespace(artifact, plugin, number, vendored, public=public)
    replica.open()
    return replica


def _load_wasm(
    kept: KeptCode | None, candidate: Candidate, number: int, *, in_subprocess: bool
) -> PythonNamespace:
    from epochal.loaders.wasm.namespace import WasmNamespace

    return WasmNamespace(candidate, number, kept)


def _nothing() -> None:
    """There is no store."""
