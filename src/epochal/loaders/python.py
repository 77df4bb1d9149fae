"""The Python loader: one file, or a package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epochal.loaders._namespace import Namespace

if TYPE_CHECKING:
    from epochal._core.plugin.artifact import Artifact


def open_namespace(
    artifact: Artifact, plugin: str, generation: int, vendored: str = "", *, aside: bool = False
) -> Namespace:
    """Make the namespace of one generation; none of the plugin's code runs.

    Args:
        artifact: the plugin's bytes.
        plugin: its id, which means this generation wherever the plugin's own code imports it.
        generation: its number.
        vendored: the folder of the distributions that it carries with it; empty for none.
        aside: whether its code is compiled where that stops nobody; it costs a process.
    """
    return Namespace(artifact, plugin, generation, vendored, aside=aside)
