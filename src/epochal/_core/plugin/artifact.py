"""An artifact: the exact bytes of one plugin version, named by their SHA-256.

A plugin's files are read once, all at the same time, and never again: a generation is made of the
artifact, so the running code, the tracebacks and the digest come from the same bytes, even if the
folder changes.

The digest of a single file is the one that `sha256sum` prints for it; that of a package is the
SHA-256 of the output of `sha256sum` for its files, sorted by path.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from epochal.errors import ArtifactError, format_error

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

MAX_FILES: Final = 10_000
MAX_BYTES: Final = 256 * 1024 * 1024

EXTENSIONS: Final = (".so", ".pyd", ".dylib", ".dll")

WASM: Final = ".wasm"
PACKAGE_ROOT: Final = "__init__.py"
PACKAGE_MANIFEST: Final = "plugin.toml"

_BINARY: Final = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Artifact:
    """The bytes of one plugin version.

    Attributes:
        name: the file's stem or the package folder's name.
        files: POSIX path relative to the plugin -> bytes. One entry for a single file.
        is_package: whether it was a folder: a Python package, or a `plugin.toml` with the `.wasm`
            module beside it.
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
        if not self.is_package:
            return next(iter(self.files))
        return wasm_root(self.files) or PACKAGE_ROOT

    @property
    def language(self) -> str:
        """What its code is: `python` or `wasm`."""
        return "wasm" if self.root.endswith(WASM) else "python"


def is_plugin_folder(files: Iterable[str]) -> bool:
    """Whether the paths in a folder are those of a plugin: of a package, or a module's."""
    names = [*files]
    return PACKAGE_ROOT in names or wasm_root(names) is not None


def wasm_root(names: Collection[str]) -> str | None:
    """The WebAssembly module of a folder; None for a Python package or another folder."""
    if PACKAGE_ROOT in names or PACKAGE_MANIFEST not in names:
        return None
    return next(iter(wasm_modules(names)), None)


def wasm_modules(names: Iterable[str]) -> list[str]:
    """The `.wasm` files that lie in a folder itself, in order; a plugin has one."""
    return sorted(name for name in names if name.endswith(WASM) and "/" not in name)


def read_artifact(source: str | os.PathLike[str]) -> Artifact:
    """Read a plugin from a Python file, a `.wasm` file, or a folder of one of the two languages.

    Bytecode caches and hidden files are left out, and links to folders are not followed.

    Raises:
        ArtifactError: the path does not exist, is neither of the two or cannot be read, whatever
            the reason; or it is too large, has a file that is not a regular one (a pipe, a device)
            or whose name is not text; or the package holds compiled extension modules, which no
            process can unload.
    """
    path = Path(source)
    if isinstance(source, str) and "\n" in source and not path.exists():
        raise ArtifactError(
            "a text of several lines is no path: give the path of a .py file or of a package's "
            'folder, or for source text Artifact("name", {"name.py": text.encode()})'
        )
    try:
        return _read(path)
    except ArtifactError:
        raise
    # The files are foreign: what a file system raises for them is not for us to list.
    except Exception as error:
        reason = (isinstance(error, OSError) and error.strerror) or format_error(error)
        at = getattr(error, "filename", None) or path
        if isinstance(error, FileNotFoundError) and not path.is_absolute():
            reason += f" (the path begins at {os.path.abspath(os.curdir)})"  # noqa: PTH100
        raise ArtifactError(f"{shown(at)} cannot be read: {reason}") from error


def _read(path: Path) -> Artifact:
    if os.path.isdir(path):  # noqa: PTH112  pathlib's raises for a folder that is closed to us
        return _read_package(path)
    if path.suffix not in (".py", WASM) and path.exists():
        raise ArtifactError(
            f"{shown(path)} is not a plugin: expected a .py or .wasm file, or a plugin's folder"
        )
    if not path.exists() and path.with_name(f"{path.name}.py").exists():
        raise ArtifactError(f"{shown(path)} does not exist; do you mean {shown(path)}.py?")
    _check_name(path, path.name)
    return Artifact(path.stem, {path.name: _read_file(path, MAX_BYTES)}, origin=path.absolute())


def shown(path: str | os.PathLike[str]) -> str:
    """A path for people: bytes that are not UTF-8 are shown as escapes."""
    return os.fspath(path).encode("utf-8", "backslashreplace").decode()


def _read_package(folder: Path) -> Artifact:
    if not os.path.isfile(folder / PACKAGE_ROOT) and not has_wasm_root(folder):  # noqa: PTH113
        raise ArtifactError(_not_a_package(folder))
    files: dict[str, bytes] = {}
    left = MAX_BYTES
    for path in sorted(files_of(folder, _raise)):
        name = path.relative_to(folder).as_posix()
        _check_name(folder, name)
        if path.name.endswith(EXTENSIONS):
            raise ArtifactError(
                f"{shown(folder)} holds the compiled extension {name}, which no process can unload:"
                " such a plugin cannot be swapped; install it and list it in `dependencies`"
            )
        if len(files) == MAX_FILES:
            raise _too_large(folder)
        files[name] = _read_file(path, left)
        left -= len(files[name])
    return Artifact(folder.absolute().name, files, is_package=True, origin=folder.absolute())


def has_wasm_root(folder: Path) -> bool:
    """Whether a folder has a `plugin.toml` and a WebAssembly module beside it. Never raises."""
    try:
        names = os.listdir(folder) if os.path.isfile(folder / PACKAGE_MANIFEST) else []  # noqa: PTH113, PTH208  as above
    except OSError:
        return False
    return wasm_root(names) is not None


def _not_a_package(folder: Path) -> str:
    """Why a folder is not a plugin; a folder of plugins is often meant by it."""
    inside = sorted(shown(path.name) for path in folder.glob("*.py"))
    if not inside:
        return (
            f"{shown(folder)} is not a plugin: a package needs an __init__.py, and a WebAssembly "
            "plugin's folder a plugin.toml with the .wasm file beside it"
        )
    some = ", ".join(inside[:3]) + (", …" if len(inside) > 3 else "")
    return (
        f"{shown(folder)} is a folder of files ({some}) and not one plugin: give the path of one, "
        "or load each of them with Runtime.load_folder; a package needs an __init__.py"
    )


def files_of(folder: Path, on_error: Callable[[OSError], object]) -> Iterator[Path]:
    """The files that make up a package, in any order; one more than it may have at most.

    Args:
        folder: the package's folder.
        on_error: gets the error of each folder inside that cannot be listed.
    """
    count, folders = 0, [folder]
    while folders:  # no recursion: folders may be nested deeper than Python's calls
        try:
            with os.scandir(folders.pop()) as scan:
                entries = [entry for entry in scan if entry.name[0] != "."]
        except OSError as error:
            on_error(error)
            continue
        for entry in entries:
            if _is_folder(entry):
                # A link to a folder is not followed: it may lead in a circle.
                if not entry.is_symlink() and entry.name != "__pycache__":
                    folders.append(Path(entry.path))
            elif not entry.name.endswith((".pyc", ".pyo")):
                yield Path(entry.path)
                count += 1
                if count > MAX_FILES:
                    return


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, for one; reading it as a file names the reason
        return False


def _read_file(path: Path, max_bytes: int) -> bytes:
    """Read a regular file; a pipe or device could block, or never end."""
    # A pipe without a writer would block `open`; regular files do not know the flag.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    with io.open(descriptor, "rb") as file:  # noqa: UP020  plugins replace the builtin `open`
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ArtifactError(f"{shown(path)} is not a regular file; a plugin's files must be")
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise _too_large(path)
    return content


def _check_name(source: Path, name: str) -> None:
    # The digest's listing has a line for each name, so a name must be text, in one line.
    if not name.isprintable():
        raise ArtifactError(
            f"{shown(source)} has a file whose name is not printable text, {name!a}; rename it"
        )


def _too_large(path: Path) -> ArtifactError:
    return ArtifactError(
        f"{shown(path)} is too large for a plugin: more than {MAX_FILES:,} files or "
        f"{MAX_BYTES // 1024 // 1024} MiB; keep data outside and name it in the config"
    )


def _raise(error: OSError) -> None:
    raise error


def listing(files: Mapping[str, bytes]) -> bytes:
    """The output of `sha256sum` for a package's files; its SHA-256 is the package's digest."""
    return "".join(
        f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)
    ).encode()


def _digest(files: Mapping[str, bytes], is_package: bool) -> str:
    content = listing(files) if is_package else next(iter(files.values()))
    return hashlib.sha256(content).hexdigest()
