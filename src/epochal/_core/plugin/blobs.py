"""An artifact as blobs, each named by the SHA-256 of its content; see `epochal.store.artifacts`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epochal._core.plugin.artifact import Artifact, listing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def blobs_of(artifact: Artifact) -> Iterator[tuple[str, bytes]]:
    """The blobs that hold an artifact, by name; a package's listing last.

    Raises:
        ValueError: a package has a file that cannot be listed.
    """
    if not artifact.is_package:
        yield artifact.digest, next(iter(artifact.files.values()))
        return
    content = listing(artifact.files)
    names = listed(content)
    if names.keys() != artifact.files.keys():
        raise ValueError(
            f"package {artifact.name!r} cannot be stored: a file has a line break in its name; "
            "rename it"
        )
    for path, name in names.items():
        yield name, artifact.files[path]
    yield artifact.digest, content


def artifact_of(
    digest: str,
    read: Callable[[str], bytes],
    *,
    name: str,
    root: str | None,
    origin: Path | None = None,
) -> Artifact:
    """The artifact that blobs hold.

    Args:
        digest: its SHA-256.
        read: returns a blob, verified.
        name: the artifact's.
        root: the name of the one file; None for a package.
        origin: the artifact's.

    Returns:
        The artifact; without its root among its files if the blob is not a package's listing.
    """
    content = read(digest)
    files = (
        {path: read(blob) for path, blob in listed(content).items()}
        if root is None
        else {root: content}
    )
    return Artifact(name, files, is_package=root is None, origin=origin)


def listed(content: bytes) -> dict[str, str]:
    """A listing as path -> name. Lines of another form are left out: the digest is checked."""
    lines = content.decode("utf-8", "replace").split("\n")[:-1]
    return {line[66:]: line[:64] for line in lines if line[64:66] == "  "}
