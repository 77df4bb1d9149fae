"""Installed distributions as plugins of a runtime.

A program built on pluggy finds its plugins by the entry points of installed distributions. Imported
so, a plugin is a module of the process, and stays what it was when it was imported. Read as an
artifact, it is loaded by the runtime, and after `pip install --upgrade` it is reloaded.

The plugin's id is the name of the entry point's package, so the package's absolute imports of
itself mean the runtime's copy. Other distributions that it imports are the process's.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from epochal.artifact import EXTENSIONS, Artifact, is_plugin_id
from epochal.errors import ArtifactError

if TYPE_CHECKING:
    from importlib.metadata import Distribution


def entry_point_plugins(group: str, name: str | None = None) -> list[Artifact]:
    """The plugins of installed distributions, to load with a runtime.

    ::

        for artifact in entry_point_plugins("datasette"):
            rt.load(artifact)

    Args:
        group: of the entry points, such as `datasette`.
        name: the name of one entry point; None for all of the group.

    Returns:
        An artifact for each package or module that has entry points there, by name. Its manifest is
        the package's own, or made of the distribution's metadata: the package's name is the id.

    Raises:
        ArtifactError: the files of one cannot be read, or it is no plugin that can be reloaded: it
            has compiled extension modules, or its name is no plugin's id.
    """
    found = entry_points(group=group)
    chosen = [point for point in found if name is None or point.name == name]
    by_package: dict[str, list[EntryPoint]] = {}
    for point in chosen:
        by_package.setdefault(point.module.partition(".")[0], []).append(point)
    return [_artifact_of(package, points) for package, points in sorted(by_package.items())]


def _artifact_of(package: str, points: list[EntryPoint]) -> Artifact:
    distribution = points[0].dist
    if distribution is None or not is_plugin_id(package):
        raise ArtifactError(
            f"entry point {points[0].name!r}: {package!r} cannot be the id of a plugin (lower-case "
            "letters, digits and underscores), or belongs to no installed distribution"
        )
    files = _files_of(distribution, package)
    if "plugin.toml" not in files:
        files["plugin.toml"] = f'id = "{package}"\nversion = "{distribution.version}"\n'.encode()
    # Its marks count where its module is imported.
    inner = sorted({point.module for point in points} - {package})
    for module in inner:
        relative = module.removeprefix(f"{package}.")
        files["__init__.py"] += f"\nimport {package}.{relative}  # an entry point\n".encode()
    return Artifact(package, files, is_package=True)


def _files_of(distribution: Distribution, package: str) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for path in distribution.files or ():
        within = path.as_posix()
        if within == f"{package}.py":
            files["__init__.py"] = path.read_binary()
        elif within.startswith(f"{package}/") and "__pycache__" not in path.parts:
            if within.endswith(EXTENSIONS):
                raise ArtifactError(
                    f"{distribution.name} holds the compiled extension {within}, which no process "
                    "can unload: such a plugin cannot be swapped"
                )
            files[within.removeprefix(f"{package}/")] = path.read_binary()
    if "__init__.py" not in files:
        raise ArtifactError(
            f"{distribution.name} lists no files of {package!r}: it is installed in a way (such as "
            "editable) that does not record them; load its folder instead"
        )
    return files
