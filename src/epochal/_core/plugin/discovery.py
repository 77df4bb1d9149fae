"""The plugins in a folder: its `.py` and `.wasm` files and its folders that have a manifest.

A file without a manifest is not a plugin: the test beside its plugin, a module of the host's.
Hidden files and folders are left out.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from epochal._core.plugin.artifact import (
    PACKAGE_ROOT,
    WASM,
    Artifact,
    has_wasm_root,
    read_artifact,
)
from epochal._core.plugin.manifest import has_manifest
from epochal.errors import HostError

if TYPE_CHECKING:
    from os import PathLike


def read_folder(folder: str | PathLike[str]) -> list[Artifact]:
    """Read every plugin of a folder, sorted by file name.

    Raises:
        HostError: there is no such folder.
        ArtifactError: a file in it cannot be read.
    """
    path = Path(folder)
    if not path.is_dir():
        raise HostError(f"{path} is not a folder; name the folder that holds the plugins")
    artifacts = [read_artifact(source) for source in sources_in(path)]
    return [artifact for artifact in artifacts if has_manifest(artifact)]


def sources_in(folder: Path) -> list[Path]:
    """The files and folders that may be plugins, or not; empty if there is no folder."""
    try:
        visible = [path for path in folder.iterdir() if path.name[0] != "."]
    except OSError:
        return []
    return [path for path in sorted(visible) if is_source(path) and path.name != "__pycache__"]


def is_source(path: Path) -> bool:
    """Whether a path has the form of a plugin, and may be one or not. Never raises."""
    # Not pathlib's: it raises for a folder that is closed to us.
    is_file = os.path.isfile
    if path.suffix in (".py", WASM) and is_file(path):
        return True
    return is_file(path / PACKAGE_ROOT) or has_wasm_root(path)
