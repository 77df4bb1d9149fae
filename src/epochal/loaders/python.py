"""The Python loader: one file, or a package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epochal.loaders._namespace import Namespace

if TYPE_CHECKING:
    from epochal._core.artifact import Artifact


def open_namespace(artifact: Artifact, plugin: str, generation: int) -> Namespace:
    """Make the namespace of one generation; none of the plugin's code runs.

    Args:
        artifact: the plugin's bytes.
        plugin: its id, which means this generation wherever the plugin's own code imports it.
        generation: its number.
    """
    return Namespace(artifact, plugin, generation)
