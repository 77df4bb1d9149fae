"""An artifact's files as `importlib.resources` reads them: from memory, whatever the disk has."""

from __future__ import annotations

import io
from importlib.resources.abc import TraversableResources
from typing import IO, TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.resources.abc import Traversable


class ArtifactPath:
    """A file or folder inside an artifact (`importlib.resources.abc.Traversable`)."""

    def __init__(self, files: Mapping[str, bytes], path: str) -> None:
        self._files: Final = files
        self._path: Final = path

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self._path.rpartition("/")[2]

    def is_file(self) -> bool:
        """Whether it is a file."""
        return self._path in self._files

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return not self._path or any(name.startswith(f"{self._path}/") for name in self._files)

    def iterdir(self) -> Iterator[ArtifactPath]:
        """The files and folders in this folder, by name."""
        prefix = f"{self._path}/" if self._path else ""
        names = {n[len(prefix) :].partition("/")[0] for n in self._files if n.startswith(prefix)}
        return (self.joinpath(name) for name in sorted(names))

    def joinpath(self, *parts: str) -> ArtifactPath:
        """The path below it, whether or not it is there."""
        return ArtifactPath(self._files, "/".join(filter(None, (self._path, *parts))))

    __truediv__ = joinpath

    def open(self, mode: str = "r", *args: Any, **kw: Any) -> IO[Any]:
        """Open the file, for reading."""
        stream = io.BytesIO(self.read_bytes())
        return stream if "b" in mode else io.TextIOWrapper(stream, *args, **kw)

    def read_bytes(self) -> bytes:
        """The file's bytes."""
        try:
            return self._files[self._path]
        except KeyError:
            raise FileNotFoundError(f"the plugin's artifact has no file {self._path}") from None

    def read_text(self, encoding: str | None = None) -> str:
        """The file's text, UTF-8 by default."""
        return self.read_bytes().decode(encoding or "utf-8")


class ArtifactFolder(TraversableResources):
    """A package's resources; the base class derives the rest of the protocol from `files`."""

    def __init__(self, files: Mapping[str, bytes], folder: str) -> None:
        self._root: Final = ArtifactPath(files, folder)

    def files(self) -> Traversable:
        """The package's folder."""
        return cast("Traversable", self._root)  # it has the parts that are used
