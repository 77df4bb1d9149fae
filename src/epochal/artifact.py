"""Artifacts: the exact bytes of one plugin version, named by their SHA-256 digest.

`read_artifact(path)` reads a plugin from disk without running any of its code, `read_folder` reads
all plugins of a folder, and `read_manifest` an artifact's manifest. `Artifact` holds bytes that
came from elsewhere. `read_document` reads and verifies an epoch's document (`Epoch.document`).
`Runtime.load` and `Runtime.reload` take either a path or an artifact::

    from epochal.artifact import read_artifact

    runtime.load(read_artifact("plugins/geo.py"))
"""

from epochal._core.plugin.artifact import (
    EXTENSIONS,
    MAX_BYTES,
    MAX_FILES,
    Artifact,
    is_plugin_folder,
    read_artifact,
)
from epochal._core.plugin.declared_exports import DeclaredColumn, DeclaredExport
from epochal._core.plugin.discovery import read_folder
from epochal._core.plugin.document import EpochDocument, PluginRecord, read_document
from epochal._core.plugin.manifest import Manifest, Requirement, is_plugin_id, read_manifest
from epochal._core.plugin.wasm_sections import embed_manifest, embedded_manifests

__all__ = [
    "EXTENSIONS",
    "MAX_BYTES",
    "MAX_FILES",
    "Artifact",
    "DeclaredColumn",
    "DeclaredExport",
    "EpochDocument",
    "Manifest",
    "PluginRecord",
    "Requirement",
    "embed_manifest",
    "embedded_manifests",
    "is_plugin_folder",
    "is_plugin_id",
    "read_artifact",
    "read_document",
    "read_folder",
    "read_manifest",
]
