"""The plugins' bytes on disk, each file named by the SHA-256 of its content.

A single-file plugin is one such file, named by the plugin's digest. A package is a file for each of
its files and one for its listing, `<digest>  <path>` a line; the SHA-256 of the listing is the
package's digest. Versions share the files that they have in common, and `sha256sum artifacts/*`
shows at any time that each file has the content that its name promises.

Every file is checked against its name when it is read; an error names the file that differs.
"""

from __future__ import annotations

import hashlib
import re
from functools import partial
from typing import TYPE_CHECKING, Final

from epochal._core.plugin.blobs import artifact_of, blobs_of, listed
from epochal._core.sync.durable_files import UNFINISHED, make_folder, sync_folder, write_durably
from epochal._core.sync.weak_registry import WeakRegistry
from epochal.errors import StoreCorruptError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from epochal._core.plugin.artifact import Artifact

_COMPILED: Final = re.compile(rf"([0-9a-f]{{64}})\.[0-9a-f]{{16}}({UNFINISHED.pattern})?")
_OURS: Final = re.compile(rf"[0-9a-f]{{64}}({UNFINISHED.pattern})?")


class Artifacts:
    """The folder of artifacts. Not thread-safe: the store calls it under its lock.

    Args:
        folder: made if it is not there.
        compiled: the folder in which loaders keep what they compile, a file named
            `<SHA-256 of the source>.<compiler>`; it need not be there.
        warn: called with a line about each file that cannot be removed.

    Raises:
        OSError: the folder cannot be made.
    """

    __slots__ = ("_compiled", "_durable", "_folder", "_in_use", "_warn")

    def __init__(self, folder: Path, compiled: Path, warn: Callable[[str], object]) -> None:
        make_folder(folder)
        self._compiled: Final = compiled
        self._warn: Final = warn
        self._folder: Final = folder
        # Every artifact that this process runs, or still drains, was read or written here. Its
        # files stay for as long as it lives, also after its epochs have left the history.
        self._in_use: Final[WeakRegistry[Artifact]] = WeakRegistry()
        # The names that are known to be durable.
        self._durable: Final[set[str]] = set()

    def write(self, artifacts: Iterable[Artifact]) -> None:
        """Store artifacts, durably.

        Raises:
            OSError: they cannot be written.
            StoreError: a package has a file that cannot be listed.
        """
        written: set[str] = set()
        for artifact in artifacts:
            self._in_use.add(artifact)
            for name, content in self._contents(artifact):
                if name not in self._durable or not (self._folder / name).is_file():
                    write_durably(self._folder / name, content)
                    written.add(name)
        if written:
            # Before the journal names them: a power cut loses a file if its name is not synced.
            sync_folder(self._folder)
            self._durable.update(written)

    def read(
        self, digest: str, *, name: str, root: str | None, origin: Path | None, plugin: str
    ) -> Artifact:
        """Read an artifact's bytes.

        Args:
            digest: its SHA-256.
            name: the artifact's.
            root: the name of the one file; None for a package.
            origin: the artifact's.
            plugin: the plugin's id, for errors.

        Raises:
            StoreCorruptError: a file is missing, cannot be read, or has changed.
        """
        artifact = artifact_of(
            digest, partial(self._blob, plugin=plugin), name=name, root=root, origin=origin
        )
        if artifact.root not in artifact.files:
            raise self._corrupt(digest, plugin, "is not the listing of a package")
        self._in_use.add(artifact)
        return artifact

    def collect(self, referred: Iterable[tuple[str, bool]]) -> None:
        """Remove the files that neither the history nor a live artifact of this process needs.

        Compiled code goes with its source.

        A file that cannot be removed is reported through `warn` and stays until the next time.

        Args:
            referred: the artifacts in the history: digest, and whether it is a package's.
        """
        keep: set[str] = set()
        try:
            for digest, is_package in {*referred, *self._used()}:
                keep.add(digest)
                if is_package:
                    keep.update(listed(self._blob(digest, "?")).values())
        except StoreCorruptError as error:
            # The files of a package whose listing cannot be read are not known: remove none.
            self._warn(f"artifacts are not collected: {error}")
            return
        for path in list(self._folder.iterdir()):
            # A file with another sort of name was not written by the store.
            if path.name not in keep and _OURS.fullmatch(path.name):
                self._remove(path)
        for path in list(self._compiled.iterdir()) if self._compiled.is_dir() else ():
            name = _COMPILED.fullmatch(path.name)
            if name is not None and (name[2] or name[1] not in keep):
                self._remove(path)

    def _used(self) -> Iterator[tuple[str, bool]]:
        return ((artifact.digest, artifact.is_package) for artifact in self._in_use.live())

    def _remove(self, path: Path) -> None:
        self._durable.discard(path.name)
        try:
            path.unlink()
        except OSError as error:
            self._warn(f"{path} cannot be removed: {error.strerror}")

    def _contents(self, artifact: Artifact) -> Iterator[tuple[str, bytes]]:
        """The files that hold an artifact, by name; a package's listing last."""
        try:
            yield from blobs_of(artifact)
        except ValueError as error:
            raise StoreError(str(error), path=self._folder) from None

    def _blob(self, name: str, plugin: str) -> bytes:
        path = self._folder / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise self._corrupt(name, plugin, f"cannot be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != name:
            raise self._corrupt(name, plugin, "has changed: its SHA-256 differs from its name")
        self._durable.add(name)
        return content

    def _corrupt(self, name: str, plugin: str, fault: str) -> StoreCorruptError:
        path = self._folder / name
        return StoreCorruptError(
            f"the stored file {path} of plugin {plugin!r} {fault}; put the file back from a backup",
            path=path,
            plugin=plugin,
        )
