"""An artifact: the exact bytes of one plugin version, named by their SHA-256.

A plugin's files are read once, all at the same time, and never again: a generation is made of the
artifact, so the running code, the tracebacks and the digest come from the same bytes, even if the
folder changes.

The digest of a single file is the one that `sha256sum` prints for it; that of a package is the
SHA-256 of the output of `sha256sum` for its files, sorted by path.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from epochal.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_FILES: Final = 10_000
MAX_BYTES: Final = 256 * 1024 * 1024

EXTENSIONS: Final = (".so", ".pyd", ".dylib", ".dll")


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Artifact:
    """The bytes of one plugin version.

    Attributes:
        name: the file's stem or the package folder's name.
        files: POSIX path relative to the plugin -> bytes. One entry for a single file.
        is_package: whether `__init__.py` is the root module, rather than the one file.
        origin: the path that it was read from; None if it was never a file here.
        digest: SHA-256 in hexadecimal.
    """

    name: str
    files: Mapping[str, bytes] = field(repr=False)
    is_package: bool = False
    origin: Path | None = None
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", MappingProxyType(dict(self.files)))
        object.__setattr__(self, "digest", _digest(self.files, self.is_package))

    @property
    def root(self) -> str:
        """The path of the root module within `files`."""
        return "__init__.py" if self.is_package else next(iter(self.files))


def read_artifact(source: str | os.PathLike[str]) -> Artifact:
    """Read a plugin from a Python file or a package's folder.

    Bytecode caches and hidden files are left out.

    Raises:
        ArtifactError: the path does not exist, is neither of the two or cannot be read; or the
            package holds compiled extension modules, which no process can unload.
    """
    path = Path(source)
    try:
        if path.is_dir():
            return _read_package(path)
        if path.suffix != ".py" and path.exists():
            raise ArtifactError(
                f"{path} is not a plugin: expected a .py file or a package's folder"
            )
        return Artifact(path.stem, {path.name: path.read_bytes()}, origin=path.absolute())
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror or error}") from error


def _read_package(folder: Path) -> Artifact:
    if not (folder / "__init__.py").is_file():
        raise ArtifactError(f"{folder} is not a plugin: a package needs an __init__.py")
    files: dict[str, bytes] = {}
    size = 0
    for path in sorted(_files(folder)):
        name = path.relative_to(folder).as_posix()
        if path.name.endswith(EXTENSIONS):
            raise ArtifactError(
                f"{folder} holds the compiled extension {name}, which no process can unload: such "
                "a plugin cannot be swapped; install it and list it in `dependencies`"
            )
        files[name] = path.read_bytes()
        size += len(files[name])
        if len(files) > MAX_FILES or size > MAX_BYTES:
            raise ArtifactError(
                f"{folder} is too large for a plugin: more than {MAX_FILES:,} files or "
                f"{MAX_BYTES // 1024 // 1024} MiB; keep data outside and name it in the config"
            )
    return Artifact(folder.absolute().name, files, is_package=True, origin=folder.absolute())


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__" and name[0] != "."]
        for name in names:
            if name[0] != "." and not name.endswith((".pyc", ".pyo")):
                yield Path(parent, name)


def listing(files: Mapping[str, bytes]) -> bytes:
    """The output of `sha256sum` for a package's files; its SHA-256 is the package's digest."""
    return "".join(
        f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)
    ).encode()


def _digest(files: Mapping[str, bytes], is_package: bool) -> str:
    content = listing(files) if is_package else next(iter(files.values()))
    return hashlib.sha256(content).hexdigest()
