"""Whether the installed distributions that a plugin's manifest asks for are there."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from epochal.errors import MissingDependencyError, VersionConflictError

if TYPE_CHECKING:
    from epochal._core.plugin.manifest import Manifest


def check_distributions(manifest: Manifest) -> None:
    """Check `dependencies`; those whose marker does not apply here are left out.

    Raises:
        MissingDependencyError: some are not installed; all are named.
        VersionConflictError: some are installed in a version that does not satisfy; all are named.
    """
    missing: list[str] = []
    unsatisfied: list[str] = []
    for requirement in manifest.dependencies:
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            missing.append(str(requirement))
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            unsatisfied.append(f"{requirement} (installed: {installed})")
    if missing:
        raise MissingDependencyError(
            f"plugin {manifest.id!r} needs distributions that are not installed: "
            f"{', '.join(missing)}; install them with pip",
            plugin=manifest.id,
        )
    if unsatisfied:
        raise VersionConflictError(
            f"plugin {manifest.id!r} needs other versions of what is installed: "
            f"{', '.join(unsatisfied)}",
            plugin=manifest.id,
        )
