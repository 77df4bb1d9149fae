"""The share of a cluster: the plugins' bytes and the epochs' documents, each under its digest.

::

    blobs/<sha256>       a file of a plugin, or a package's listing of its files
    epochs/<id>.json     what an epoch is made of: `Epoch.document`
    leases/<process>     what a process that begins operations needs, with a time at which it ends
    workers/<process>    what a process that runs parts of them holds

The first two are immutable and named by their content, so the share needs no lock and no trust: a
reader verifies what it reads against the name that it asked for. Blobs are written before the
document that names them, and the document before the epoch is published: an id that a process ever
sees can be built. Collection removes documents that no lease names and that are old, then the blobs
that no document names; what is written while it runs is young, and stays.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from epochal._core.plugin.blobs import artifact_of, blobs_of, listed
from epochal._core.plugin.candidate import Candidate
from epochal._core.plugin.document import read_document
from epochal._core.plugin.manifest import read_manifest
from epochal.errors import DocumentError, HostError, ShareError
from epochal.share.files import ShareFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from epochal._core.generation.epoch import Epoch
    from epochal._core.plugin.artifact import Artifact
    from epochal._core.plugin.document import EpochDocument, PluginRecord

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection of a share removed.

    Attributes:
        epochs: the ids of the epochs.
        blobs: the number of blobs.
    """

    epochs: tuple[str, ...]
    blobs: int


class Share:
    """What processes need to run one another's epochs. Thread-safe.

    Args:
        url: a folder that all processes reach: a path, or an address that fsspec knows.
        timeout: seconds that one access may take.
        clock: returns seconds since 1970.

    Raises:
        HostError: fsspec is not installed, or does not know the address; or it is empty.

    Attributes:
        files: the files.
    """

    def __init__(
        self,
        url: str | PathLike[str],
        *,
        timeout: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(url, (str, PathLike)) or not str(url).strip():
            raise HostError(
                f"the address of a share is a folder, or one that fsspec knows, such as "
                f"'s3://bucket/epochs', not {url!r}"
            )
        self.files: Final = ShareFiles(str(url), timeout)
        self.clock: Final = clock
        # What was read and still lives, by digest, name and root: a change of one plugin has a
        # worker read one. Any thread adds; an artifact leaves it when it dies.
        self._read: Final[WeakValueDictionary[tuple[str, str, str | None], Artifact]] = (
            WeakValueDictionary()
        )

    @property
    def url(self) -> str:
        """The address, by which another process reaches it; a folder's is absolute."""
        return self.files.url

    def put(
        self, document: str, artifacts: Iterable[Artifact], *, there: Collection[str] = ()
    ) -> EpochDocument:
        """Write an epoch: first the blobs that are not there, then its document.

        The document is written also if it is there: then it is young, and no collection takes it.

        Args:
            document: of the epoch.
            artifacts: its plugins'.
            there: the digests of artifacts that need not be looked for: of an epoch that a lease
                of this process names.

        Raises:
            ShareError: it cannot be written; what was written is whole, and does no harm.
        """
        read = read_document(document)
        for artifact in artifacts:
            if artifact.digest in there:
                continue
            try:
                blobs = list(blobs_of(artifact))
            except ValueError as error:
                raise ShareError(str(error), path=self.url) from None
            for name, content in blobs:  # a package's listing, which names the others, last
                if not self.files.has(f"blobs/{name}"):
                    self.files.write(f"blobs/{name}", content)
        self.files.write(f"epochs/{read.id}.json", document.encode())
        return read

    def ensure(self, epoch: Epoch, *, there: Collection[str] = ()) -> None:
        """Write an epoch of this process, unless that was done: a stage's is published by none.

        Args:
            epoch: the epoch.
            there: as for `put`.

        Raises:
            ShareError: it cannot be written.
        """
        epoch.derived((Share, self.url), partial(self._ensure, there))

    def note(self, epoch: Epoch) -> None:
        """Note that an epoch of this process is there, since it was read."""
        epoch.derived((Share, self.url), lambda _: True)

    def _ensure(self, there: Collection[str], epoch: Epoch) -> bool:
        artifacts = [generation.candidate.artifact for generation in epoch.generations.values()]
        self.put(epoch.document(), artifacts, there=there)
        return True

    def has(self, epoch: str) -> bool:
        """Whether the document of an epoch is there.

        Raises:
            ShareError: the share cannot be read.
        """
        return self.files.has(f"epochs/{epoch}.json")

    def document(self, epoch: str) -> EpochDocument:
        """The document of an epoch, verified.

        Raises:
            ShareError: the share does not have it, or cannot be read.
            DocumentError: it is damaged, or of a later form.
        """
        name = f"epochs/{epoch}.json"
        content = self.files.read(name) if _DIGEST.fullmatch(epoch) else None
        if content is None:
            raise ShareError(f"{self.url}/{name} is not in the share", path=f"{self.url}/{name}")
        document = read_document(content)
        if document.id != epoch:
            raise DocumentError(
                f"{self.url}/{name} is the document of another epoch, {document.id[:12]}"
            )
        return document

    def candidate(self, record: PluginRecord) -> Candidate:
        """A plugin of an epoch with its bytes, each blob verified against its name.

        Raises:
            ShareError: a blob is missing or damaged, or the share cannot be read.
            PluginError: the bytes are not a plugin.
        """
        artifact = self._read.get((record.digest, record.name, record.root))
        if artifact is None:
            artifact = artifact_of(record.digest, self._blob, name=record.name, root=record.root)
            self._read[record.digest, record.name, record.root] = artifact
        if artifact.root not in artifact.files:
            raise ShareError(
                f"{self.url}/blobs/{record.digest} is not the listing of a package",
                path=f"{self.url}/blobs/{record.digest}",
            )
        manifest = read_manifest(artifact)
        if manifest.id != record.plugin:
            raise DocumentError(f"the bytes of plugin {record.plugin!r} are plugin {manifest.id!r}")
        return Candidate(artifact, manifest, record.config, record.grants)

    def _blob(self, name: str) -> bytes:
        path = f"{self.url}/blobs/{name}"
        content = self.files.read(f"blobs/{name}") if _DIGEST.fullmatch(name) else None
        if content is None:
            raise ShareError(f"{path} is missing in the share", path=path)
        if hashlib.sha256(content).hexdigest() != name:
            raise ShareError(
                f"{path} in the share is damaged: its SHA-256 differs from its name; remove it, "
                "and the next start of a runtime that has the plugin writes it again",
                path=path,
            )
        return content

    def collect(
        self, *, older_than_s: float = 7 * _DAY_S, keep: int = 16, named: Iterable[str] = ()
    ) -> Collected:
        """Remove the epochs that no lease names, and the blobs that no epoch names.

        Any process may call it, at any time, one at a time; a cron job is a good place.

        Args:
            older_than_s: seconds for which an epoch or a blob stays in any case. It must be longer
                than a change may take from its first blob to the publish.
            keep: how many of the newest epochs stay in any case.
            named: further ids that stay.

        Raises:
            ShareError: the share cannot be read or written; nothing that is named was removed.
            DocumentError: a document that stays cannot be read, so its blobs are not known.
        """
        from epochal.share.heartbeat import leases_of

        before = self.clock() - older_than_s
        documents = self._documents()
        newest = sorted(documents, key=lambda epoch: documents[epoch])[-keep:] if keep else []
        blobs = self.files.list("blobs")
        stay = {*named, *newest, *(lease.epoch for lease in leases_of(self))}
        going = {epoch for epoch, at in documents.items() if at < before and epoch not in stay}
        used = self._blobs_of(documents.keys() - going)
        # Again, since an epoch that serves anew is written anew: it stays.
        renewed = going - {epoch for epoch, at in self._documents().items() if at < before}
        going -= renewed
        for epoch in going:
            self.files.remove(f"epochs/{epoch}.json")
        used |= self._blobs_of(self._documents().keys() - (documents.keys() - renewed))
        unused = [name for name, at in blobs.items() if at < before and name not in used]
        for name in unused:
            self.files.remove(f"blobs/{name}")
        for folder in ("leases", "workers"):  # of processes that died
            for name, at in self.files.list(folder).items():
                if at < self.clock() - max(older_than_s, _DAY_S):
                    self.files.remove(f"{folder}/{name}")
        return Collected(tuple(sorted(going)), len(unused))

    def _documents(self) -> dict[str, float]:
        return {name[:64]: at for name, at in self.files.list("epochs").items()}

    def _blobs_of(self, epochs: Iterable[str]) -> set[str]:
        used: set[str] = set()
        for epoch in epochs:
            for record in self.document(epoch).plugins.values():
                used.add(record.digest)
                if record.root is None:
                    used.update(listed(self._blob(record.digest)).values())
        return used

    def __repr__(self) -> str:
        return f"<share {self.url}>"
