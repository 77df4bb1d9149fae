"""The document of an epoch: all that it takes to build it elsewhere, but the plugins' bytes.

An epoch's id is a digest over the digests of its plugins, their configuration and grants. So a
document needs no trust: its reader computes the id from the content and compares. The rest of it
(names of files, versions, what belongs to one process) is covered by a digest of the whole text.

A document is a JSON object with its keys in order, so that equal epochs have equal texts::

    {"format": 1, "id": "…", "plugins": {"geo": {"config": {}, "digest": "…", "grants": ["*"],
     "local": [], "name": "geo", "requires": [], "root": "geo.py", "version": "1.2.0"}},
     "sha256": "…"}

``format`` counts up where an older reader would misunderstand a document, and only then: a reader
passes over keys that it does not know.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from epochal._core.plugin.candidate import epoch_id, identity_of
from epochal.errors import DocumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from epochal._core.plugin.candidate import Candidate

FORMAT: Final = 1
"""The version of the form that is written; a reader knows this one and those before."""


@dataclass(frozen=True, slots=True)
class PluginRecord:
    """One plugin in an epoch's document.

    Attributes:
        plugin: its id.
        version: the version that its manifest names.
        digest: SHA-256 of its artifact, in hexadecimal.
        name: the artifact's name.
        root: the name of its one file; None for a package.
        config: the host's configuration for it.
        grants: the capability patterns that it is granted.
        local: its exports that belong to one process, as `kind name`.
        requires: the ids of the plugins that it requires.
    """

    plugin: str
    version: str
    digest: str
    name: str
    root: str | None
    config: Mapping[str, Any]
    grants: frozenset[str]
    local: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """Its part in an epoch's id."""
        return identity_of(self.digest, self.config, self.grants)


@dataclass(frozen=True, slots=True)
class EpochDocument:
    """An epoch as another process reads it; `read_document` makes one, and has verified it.

    Attributes:
        id: the epoch's id.
        plugins: each plugin, by id.
    """

    id: str
    plugins: Mapping[str, PluginRecord]


def write_document(
    epoch: str, candidates: Iterable[Candidate], local: Mapping[str, Iterable[str]]
) -> str:
    """The document of an epoch.

    Args:
        epoch: its id.
        candidates: its plugins.
        local: by plugin, the exports that belong to one process.
    """
    plugins = {
        candidate.plugin: {
            "version": str(candidate.manifest.version),
            "digest": candidate.artifact.digest,
            "name": candidate.artifact.name,
            "root": None if candidate.artifact.is_package else candidate.artifact.root,
            "config": dict(candidate.config),
            "grants": sorted(candidate.grants),
            "local": list(local.get(candidate.plugin, ())),
            "requires": sorted(required.plugin for required in candidate.manifest.requires),
        }
        for candidate in candidates
    }
    content = {"format": FORMAT, "id": epoch, "plugins": plugins}
    return _text({**content, "sha256": _digest(content)})


def read_document(text: str | bytes) -> EpochDocument:
    """Read an epoch's document (`Epoch.document`), and verify it.

    Args:
        text: the document.

    Raises:
        DocumentError: it is damaged, is not such a document, or is of a later form than this
            version of Epochal reads.
    """
    try:
        content = json.loads(text)
        found = content["format"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DocumentError(f"this is not the document of an epoch: {error!r}") from None
    if not isinstance(found, int) or found > FORMAT:
        raise DocumentError(
            f"the document of the epoch has form {found!r}, and this version of Epochal reads "
            f"forms up to {FORMAT}; install a later version here"
        )
    digest = content.pop("sha256", None)
    if _digest(content) != digest:
        raise DocumentError("the document of the epoch is damaged: its digest differs")
    try:
        document = _read(content)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DocumentError(f"the document of the epoch is damaged: {error!r}") from None
    identities = {plugin: record.identity for plugin, record in document.plugins.items()}
    if (actual := epoch_id(identities)) != document.id:
        raise DocumentError(
            f"the document says that it is epoch {document.id[:12]}, and its content is epoch "
            f"{actual[:12]}"
        )
    return document


def _read(content: Mapping[str, Any]) -> EpochDocument:
    plugins = {
        plugin: PluginRecord(
            plugin,
            record["version"],
            record["digest"],
            record["name"],
            record["root"],
            MappingProxyType(dict(record["config"])),
            frozenset(record["grants"]),
            tuple(record.get("local", ())),
            tuple(record.get("requires", ())),
        )
        for plugin, record in content["plugins"].items()
    }
    return EpochDocument(content["id"], MappingProxyType(plugins))


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(content).encode()).hexdigest()


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))
