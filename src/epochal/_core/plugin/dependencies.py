"""The check that the distributions in a plugin's manifest are installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from epochal.errors import MissingDependencyError, VersionConflictError

if TYPE_CHECKING:
    from epochal._core.plugin.manifest import Manifest


def check_distributions(manifest: Manifest) -> None:
    """Check a manifest's `dependencies`, except those whose marker does not apply here.

    Raises:
        MissingDependencyError: distributions are not installed; the message names them all.
        VersionConflictError: distributions are installed in an unsuitable version; the message
            names them all.
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
            distributions=missing,
        )
    if unsatisfied:
        raise VersionConflictError(
            f"plugin {manifest.id!r} needs other versions of installed distributions: "
            f"{', '.join(unsatisfied)}",
            plugin=manifest.id,
            distributions=unsatisfied,
        )
