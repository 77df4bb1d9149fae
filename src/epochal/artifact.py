"""Artifacts: the exact bytes of one plugin version, named by their SHA-256 digest.

`read_artifact(path)` reads a plugin from disk without running any of its code; `Artifact` holds
bytes that came from elsewhere; `read_manifest` reads an artifact's manifest. `Runtime.load` and
`Runtime.reload` take either a path or an artifact::

    from epochal.artifact import read_artifact

    runtime.load(read_artifact("plugins/geo.py"))
"""

from epochal._core.plugin.artifact import EXTENSIONS, MAX_BYTES, MAX_FILES, Artifact, read_artifact
from epochal._core.plugin.manifest import read_manifest

__all__ = ["EXTENSIONS", "MAX_BYTES", "MAX_FILES", "Artifact", "read_artifact", "read_manifest"]
