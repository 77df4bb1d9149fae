"""What a host asks of a change, and how it becomes what a change is planned from.

A request names files; a wish holds their bytes. Reading happens once, in the change's turn, so that
a plan, its artifacts and the generations made of them are the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from epochal._core.change.plan import PlannedChange, Verb
from epochal._core.plugin.artifact import Artifact, read_artifact
from epochal._core.plugin.candidate import NO_CONFIG, Candidate
from epochal._core.plugin.manifest import read_manifest
from epochal.errors import ArtifactError, HostError, NoStoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from os import PathLike

    from epochal._core.change.journal import Journal
    from epochal._core.generation.epoch import Epoch


@dataclass(frozen=True, slots=True)
class Request:
    """One call on a change.

    Attributes:
        verb: what to do; None for a load or a reload, as the plugin is active or not when the
            change has its turn.
        plugin: to which plugin; None where the source's manifest says.
        source: file, folder or artifact; None to read again where the active one came from.
        anew: for a reload without a source: what came from no path starts anew as it is.
        config: None to keep the active one's (for a load: none).
        grants: None to keep the active one's (for a load: the runtime's).
        cascade: for a removal: take along those that require it.
    """

    verb: Verb | None
    plugin: str | None = None
    source: str | PathLike[str] | Artifact | None = None
    config: Mapping[str, Any] | None = None
    grants: frozenset[str] | None = None
    cascade: bool = False
    anew: bool = False


@dataclass(frozen=True, slots=True)
class RollbackRequest:
    """A call that asks for what served before.

    Attributes:
        plugin: which plugin; None for all of an epoch.
        to: the generation's number, or a version: its newest generation.
        epoch: whose set of plugins; None for one plugin.
    """

    plugin: str | None
    to: int | str | None = None
    epoch: int | None = None

    def __post_init__(self) -> None:
        one, all_of_it = self.plugin is not None, self.epoch is not None
        if one == all_of_it or one != (self.to is not None):
            raise HostError(
                "rollback needs a plugin and what to go back to, rollback('geo', to=3) or "
                "to='1.2.0', or an epoch, rollback(epoch=12)"
            )


def resolve(
    requests: Iterable[Request | RollbackRequest],
    epoch: Epoch,
    grants: frozenset[str],
    journal: Journal | None = None,
) -> list[PlannedChange]:
    """Read the artifacts and manifests that requests name.

    Args:
        requests: what was asked for.
        epoch: what is active.
        grants: what a plugin is granted when nothing else is said.
        journal: where rollbacks find what served before.

    Raises:
        ArtifactError: a source that cannot be read, or is another plugin than was named.
        ManifestError: a manifest with faults.
        UnknownPluginError: a reload of what is not active.
        NoStoreError: a rollback without a journal.
        NotKeptError: a rollback to what is not in it.
        StoreCorruptError: a rollback to what was damaged.
    """
    wishes: list[PlannedChange] = []
    for request in requests:  # a comprehension would be a closure with the epoch: see `ChangeRun`
        if isinstance(request, RollbackRequest):
            wishes.extend(_earlier(request, epoch, journal))
        else:
            wishes.append(_resolve(request, epoch, grants))
    return wishes


def _earlier(
    request: RollbackRequest, active: Epoch, journal: Journal | None
) -> Iterator[PlannedChange]:
    if journal is None:
        raise NoStoreError("rollback")
    if request.epoch is None:
        assert request.plugin is not None
        assert request.to is not None
        yield _bring_back(journal.candidate(request.plugin, request.to), active)
        return
    wanted = journal.candidates(request.epoch)
    for plugin, candidate in wanted.items():
        serving = active.generations.get(plugin)
        if serving is None or serving.identity != candidate.identity:
            yield _bring_back(candidate, active)
    for plugin in active.generations.keys() - wanted.keys():
        yield PlannedChange(Verb.REMOVE, plugin)


def _bring_back(candidate: Candidate, active: Epoch) -> PlannedChange:
    verb = Verb.RELOAD if candidate.plugin in active.generations else Verb.LOAD
    return PlannedChange(verb, candidate.plugin, candidate)


def _resolve(request: Request, epoch: Epoch, grants: frozenset[str]) -> PlannedChange:
    if request.verb is Verb.REMOVE:
        return PlannedChange(Verb.REMOVE, request.plugin or "", cascade=request.cascade)
    artifact = _read(request, epoch)
    manifest = read_manifest(artifact)
    if request.plugin not in {None, manifest.id}:
        raise ArtifactError(
            f"{artifact.origin or artifact.name} is plugin {manifest.id!r}, "
            f"not {request.plugin!r}; a reload keeps the plugin's id",
            plugin=request.plugin,
        )
    verb = request.verb or (Verb.RELOAD if manifest.id in epoch.generations else Verb.LOAD)
    config: Mapping[str, Any] = NO_CONFIG
    if verb is Verb.RELOAD:
        active = epoch.generation(manifest.id).candidate
        config, grants = active.config, active.grants
    candidate = Candidate(
        artifact,
        manifest,
        config if request.config is None else request.config,
        grants if request.grants is None else request.grants,
    )
    return PlannedChange(verb, manifest.id, candidate)


def _read(request: Request, epoch: Epoch) -> Artifact:
    source = request.source
    if request.verb is Verb.RELOAD:
        active = epoch.generation(request.plugin or "").candidate.artifact
        if source is None:
            source = active if active.origin is None and request.anew else active.origin
    if isinstance(source, Artifact):
        return source
    if source is None:
        raise ArtifactError(
            f"plugin {request.plugin!r} was not loaded from a path; name the source to reload it "
            "from",
            plugin=request.plugin,
        )
    return read_artifact(source)
