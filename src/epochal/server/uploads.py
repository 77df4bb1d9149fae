"""Uploads as artifacts: a Python or WebAssembly file, an archive of a folder, or a wheel.

Nothing is unpacked to disk: the archive's files are read into memory and become the artifact. Their
sizes are counted as they are read; the archive's own numbers are not trusted. So there is no folder
that a path could leave and no file that a link could point to. Such entries are refused all the
same: the archive is an attack, or holds something else than a plugin.
"""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from epochal.artifact import EXTENSIONS, MAX_FILES, Artifact, is_plugin_folder
from epochal.errors import ArtifactError, format_error
from epochal.server.problem_details import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    Entry = tuple[str, IO[bytes]]

UPLOAD_TYPES: Final = (
    "text/x-python",
    "application/zip",
    "application/gzip",
    "application/wasm",
    "application/octet-stream",
)
"""The media types of an upload; which of them it is, its first bytes show."""

_FORMS: Final = ("multipart/form-data", "application/x-www-form-urlencoded")

_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_GZIP: Final = b"\x1f\x8b"
_WASM: Final = b"\0asm"
_CHUNK: Final = 1 << 16


def check_upload_type(kind: str) -> None:
    """Refuse a form, whose text around the file would be taken for the plugin's.

    Args:
        kind: the media type of the body.

    Raises:
        Problem: the body is a form.
    """
    if kind in _FORMS:
        raise Problem(
            415,
            "media-type",
            f"expected a body of type {', '.join(UPLOAD_TYPES)}, not a form; "
            "with curl: --upload-file geo.py",
        )


def read_upload(content: bytes, plugin: str, *, unpacked_bytes: int) -> Artifact:
    """Make an artifact of an upload; its first bytes show which of them it is.

    Args:
        content: the upload.
        plugin: the id in its address.
        unpacked_bytes: the largest size of its files.

    Raises:
        ArtifactError: it is not a plugin.
        Problem: it is larger than allowed.
    """
    if content.startswith(_ZIP):
        entries = _zip_entries(content)
    elif content.startswith(_GZIP):
        entries = _tar_entries(content, unpacked_bytes)
    elif content.startswith(_WASM):
        return Artifact(plugin, {f"{plugin}.wasm": content})
    else:
        return Artifact(plugin, {f"{plugin}.py": content})
    try:
        files = _read(entries, unpacked_bytes)
    except (ArtifactError, Problem):
        raise
    except Exception as error:  # noqa: BLE001  the archive is foreign
        # Its readers raise what they like for a damaged one: an IndexError for an entry without a
        # name, the errors of each compressor. None of it is a fault of ours.
        reason = format_error(error)
        raise ArtifactError(f"the archive cannot be read: {reason}", plugin=plugin) from None
    return _artifact(files, plugin)


def _read(entries: Iterator[Entry], max_bytes: int) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    left = max_bytes
    for name, stream in entries:
        path = _check_path(name)
        if _is_ignored(path):
            continue
        if str(path) in files:
            raise ArtifactError(f"the archive has two files {name!r}")
        # One more than is left: so a bomb shows itself before it is unpacked.
        content = stream.read(left + 1)
        left -= len(content)
        if left < 0 or len(files) >= MAX_FILES:
            raise Problem(
                413,
                "too-large",
                f"the archive holds more than {max_bytes:,} bytes or {MAX_FILES:,} files; keep "
                "data outside of a plugin",
            )
        files[str(path)] = content
    return files


def _zip_entries(content: bytes) -> Iterator[Entry]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.infolist():
            mode = entry.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ArtifactError(f"{entry.filename!r} in the archive is a link or device")
            if entry.is_dir():
                _check_path(entry.filename)
                continue
            with archive.open(entry) as stream:
                yield entry.filename, stream


def _tar_entries(content: bytes, max_bytes: int) -> Iterator[Entry]:
    # Headers are unpacked too, so the whole is limited, not only the files in it. Twice the limit
    # of the files leaves room for a header of 512 bytes on each small file.
    plain = io.BytesIO(_inflate(content, 2 * max_bytes + _CHUNK))
    with tarfile.open(fileobj=plain, mode="r:") as archive:
        for entry in archive:
            if entry.isdir():
                _check_path(entry.name)
                continue
            stream = archive.extractfile(entry) if entry.isreg() else None
            if stream is None:
                raise ArtifactError(f"{entry.name!r} in the archive is a link or device")
            yield entry.name, stream


def _inflate(content: bytes, max_bytes: int) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
        plain = stream.read(max_bytes + 1)
    if len(plain) > max_bytes:
        raise Problem(413, "too-large", f"the archive holds more than {max_bytes:,} bytes")
    return plain


def _check_path(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    parts = name.rstrip("/").split("/")
    is_odd = any(part in ("", "..") or "\\" in part or ":" in part for part in parts)
    if is_odd or path.is_absolute() or not name.isprintable():
        raise ArtifactError(f"{name!r} in the archive is not a path inside a plugin's folder")
    return path


def _is_ignored(path: PurePosixPath) -> bool:
    """Whether reading a folder ignores such a file as well, or it is one of a wheel's records."""
    if not path.parts:
        return True
    hidden = any(part[0] == "." or part == "__pycache__" for part in path.parts)
    return hidden or path.suffix in (".pyc", ".pyo") or path.parts[0].endswith(".dist-info")


def _artifact(files: dict[str, bytes], plugin: str) -> Artifact:
    for name in files:
        if name.endswith(EXTENSIONS):
            raise ArtifactError(
                f"the archive holds the compiled extension {name}, which no process can unload; "
                "install it on the server and list it in `dependencies`",
                plugin=plugin,
            )
    if is_plugin_folder(files):
        return Artifact(plugin, files, is_package=True)
    tops = {name.partition("/")[0] for name in files}
    top = next(iter(tops), "")
    inside = {name.removeprefix(f"{top}/"): content for name, content in files.items()}
    if len(tops) == 1 and is_plugin_folder(inside):
        return Artifact(top, inside, is_package=True)
    if len(files) == 1 and top.endswith((".py", ".wasm")):
        return Artifact(top.rpartition(".")[0], files)
    raise ArtifactError(
        "the archive holds neither one plugin's folder nor one .py or .wasm file; at its top: "
        f"{', '.join(sorted(tops)[:10]) or 'nothing'}",
        plugin=plugin,
    )
