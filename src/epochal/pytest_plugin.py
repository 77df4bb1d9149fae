"""Fixtures for plugin authors; pytest finds them once Epochal is installed.

::

    def test_it_can_be_swapped(epochal_plugin):
        geo = epochal_plugin("geo.py")
        assert geo.call("distance", 0, 0) == 0
        geo.reload()                      # or geo.reload("geo_next.py"), or of changed text

``epochal_runtime`` is a runtime that ends with its test. It fails the test if a version of a plugin
is still in use then, does not shut down, or stays in memory: each of these would be a leak in a
process that runs the plugin for months. ``epochal_plugin`` loads a plugin into it.

Every pytest run of an environment imports this module, so it imports the library where a fixture is
first requested.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from os import PathLike
    from pathlib import Path

    from epochal.artifact import Artifact
    from epochal.report import Cutover
    from epochal.runtime import Runtime

    Source = str | PathLike[str] | Artifact

_DRAIN_S: Final = 5.0


class LoadedPlugin:
    """A plugin in a test's runtime; made by the fixture `epochal_plugin`.

    Attributes:
        id: its id.
        runtime: where it is loaded.
        cutover: the report of its last load or reload.
    """

    def __init__(
        self, runtime: Runtime, source: Source, config: Mapping[str, Any] | None, folder: Path
    ) -> None:
        from epochal.artifact import read_manifest

        self._folder: Final = folder
        self.runtime: Final = runtime
        artifact = _read(source, folder)
        self.id: Final = read_manifest(artifact).id
        self.cutover: Cutover = runtime.load(artifact, config=config)

    def reload(self, source: Source | None = None, **options: Any) -> Cutover:
        """Replace the plugin; fail the test unless the old version ended and its memory came back.

        Args:
            source: a path, an artifact or the text of the new version; None to read the old
                source again.
            options: of `Runtime.reload`: `config`, `grants`, `drain_timeout`, …

        Raises:
            EpochalError: the new version is refused; the old one stays active.
        """
        artifact = _read(source, self._folder) if source is not None else None
        self.cutover = self.runtime.reload(self.id, artifact, **options)
        _check(self.cutover)
        return self.cutover

    def export(self, name: str) -> Any:
        """Look up an export as an operation does, by its name with or without the plugin's.

        Raises:
            KeyError: there is no such export; the message lists the exports.
        """
        full = name if name.startswith(f"{self.id}.") else f"{self.id}.{name}"
        epoch = self.runtime.epoch
        kinds = {key: kind for kind, key in epoch.generation(self.id).exports}
        if full not in kinds:
            raise KeyError(f"{self.id} has no export {full!r}; it has {', '.join(sorted(kinds))}")
        return epoch[kinds[full]][full]

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call an export in the current epoch."""
        return self.export(name)(*args, **kwargs)


@pytest.fixture
def epochal_runtime() -> Generator[Runtime, None, None]:
    """A runtime for one test, which fails if a plugin does not shut down or stays in memory."""
    from epochal.runtime import Runtime

    runtime = Runtime(drain_timeout=_DRAIN_S)
    yield runtime
    gc.collect()  # the frames of a failed assertion may hold an epoch
    cutover = runtime.close()
    if cutover is not None:
        _check(cutover)


@pytest.fixture
def epochal_plugin(epochal_runtime: Runtime, tmp_path: Path) -> Callable[..., LoadedPlugin]:
    """A function that loads a plugin: `epochal_plugin(source, config=None)`.

    The source is the path of a `.py` file or a package's folder, an artifact, or the plugin's text.
    """

    def load(source: Source, config: Mapping[str, Any] | None = None) -> LoadedPlugin:
        return LoadedPlugin(epochal_runtime, source, config, tmp_path)

    return load


def _read(source: Source, folder: Path) -> Artifact:
    from epochal.artifact import Artifact, read_artifact, read_manifest

    if isinstance(source, Artifact):
        return source
    if not (isinstance(source, str) and "\n" in source):
        return read_artifact(source)
    plugin = read_manifest(Artifact("plugin", {"plugin.py": source.encode()})).id
    path = folder / f"{plugin}.py"
    path.write_text(source)
    return read_artifact(path)


def _check(cutover: Cutover) -> None:
    __tracebackhide__ = True
    for problem, lines in (
        ("is still in use by", cutover.holders),
        ("did not shut down cleanly:", cutover.failures),
        ("is still in memory:", cutover.leaks),
    ):
        if lines:
            pytest.fail(
                f"an old version {problem}\n  " + "\n  ".join(map(str, lines)), pytrace=False
            )
