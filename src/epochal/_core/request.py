"""What a host asks of a change, and how it becomes what a change is planned from.

A request names files; a wish holds their bytes. Reading happens once, in the change's turn, so that
a plan, its artifacts and the generations made of them are the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from epochal._core.artifact import Artifact, read_artifact
from epochal._core.candidate import NO_CONFIG, Candidate
from epochal._core.manifest import read_manifest
from epochal._core.plan import Verb, Wish
from epochal.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from os import PathLike

    from epochal._core.epoch import Epoch


@dataclass(frozen=True, slots=True)
class Request:
    """One call on a change.

    Attributes:
        verb: what to do.
        plugin: to which plugin; None for a load, whose manifest says.
        source: file, folder or artifact; None to read again where the active one came from.
        config: None to keep the active one's (for a load: none).
        grants: None to keep the active one's (for a load: the runtime's).
        cascade: for a removal: take along those that require it.
    """

    verb: Verb
    plugin: str | None = None
    source: str | PathLike[str] | Artifact | None = None
    config: Mapping[str, Any] | None = None
    grants: frozenset[str] | None = None
    cascade: bool = False


def resolve(requests: Iterable[Request], epoch: Epoch, grants: frozenset[str]) -> list[Wish]:
    """Read the artifacts and manifests that requests name.

    Args:
        requests: what was asked for.
        epoch: what is active.
        grants: what a plugin is granted when nothing else is said.

    Raises:
        ArtifactError: a source that cannot be read, or is another plugin than was named.
        ManifestError: a manifest with faults.
        UnknownPluginError: a reload of what is not active.
    """
    wishes: list[Wish] = []
    for request in requests:  # a comprehension would be a closure with the epoch: see `ChangeRun`
        wishes.append(_resolve(request, epoch, grants))  # noqa: PERF401
    return wishes


def _resolve(request: Request, epoch: Epoch, grants: frozenset[str]) -> Wish:
    if request.verb is Verb.REMOVE:
        return Wish(Verb.REMOVE, request.plugin or "", cascade=request.cascade)
    config: Mapping[str, Any] = NO_CONFIG
    source = request.source
    if request.verb is Verb.RELOAD:
        active = epoch.generation(request.plugin or "").candidate
        config, grants = active.config, active.grants
        source = active.artifact.origin if source is None else source
    artifact = _read(source, request.plugin)
    manifest = read_manifest(artifact)
    if request.plugin not in {None, manifest.id}:
        raise ArtifactError(
            f"{artifact.origin or artifact.name} is plugin {manifest.id!r}, "
            f"not {request.plugin!r}; a reload keeps the plugin's id",
            plugin=request.plugin,
        )
    candidate = Candidate(
        artifact,
        manifest,
        config if request.config is None else request.config,
        grants if request.grants is None else request.grants,
    )
    return Wish(request.verb, manifest.id, candidate)


def _read(source: str | PathLike[str] | Artifact | None, plugin: str | None) -> Artifact:
    if isinstance(source, Artifact):
        return source
    if source is None:
        raise ArtifactError(
            f"plugin {plugin!r} was not loaded from a path; name the source to reload it from",
            plugin=plugin,
        )
    return read_artifact(source)
