"""The requests of a change: recorded by its caller, and read in its turn.

`Change` is a change as its caller holds it: it records requests, and begins the change that runs on
a thread of its own (`executor`). A request names files; a planned change holds their bytes. They
are read once, in the change's turn, so that a plan, its artifacts and the generations made of them
are the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any, Final, TypeAlias, overload

from epochal._core.change.plan import PlannedChange, Verb
from epochal._core.plugin.artifact import Artifact, read_artifact
from epochal._core.plugin.candidate import NO_CONFIG, Candidate
from epochal._core.plugin.capabilities import checked_grants
from epochal._core.plugin.manifest import read_manifest
from epochal.errors import ArtifactError, EpochMovedError, HostError, NoStoreError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from types import TracebackType

    from epochal._core.change.journal import Journal
    from epochal._core.change.queue import ChangeQueue, QueuedChange
    from epochal._core.change.sequence import ChangeSpec
    from epochal._core.generation.epoch import Epoch
    from epochal.report import Cutover

Source: TypeAlias = str | PathLike[str] | Artifact
"""Where a plugin is: a file, a package's folder, or an artifact that was read before."""

_SHOWN: Final = 12
"""So many digits of an epoch's id are shown, and name it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a change: load, reload or remove a plugin.

    Attributes:
        verb: what to do; None for a load or a reload, as the plugin is active or not when the
            change has its turn.
        plugin: the plugin's id; None to take it from the source's manifest.
        source: file, folder or artifact; None to read the path of the active version again.
        config: None to keep the active version's (for a load: none).
        grants: None to keep the active version's (for a load: the runtime's).
        cascade: for a removal: take along the plugins that require it.
        restart: for a reload without a source, of a plugin that came from no path: start the same
            artifact again.
    """

    verb: Verb | None
    plugin: str | None = None
    source: Source | None = None
    config: Mapping[str, Any] | None = None
    grants: frozenset[str] | None = None
    cascade: bool = False
    restart: bool = False


@dataclass(frozen=True, slots=True)
class RollbackRequest:
    """A request to bring back what served before: one plugin, or the whole set of an epoch.

    Attributes:
        plugin: the plugin's id; None for all of an epoch.
        to: the generation's number, or a version: its newest generation.
        epoch: the number of the epoch; None for one plugin.
    """

    plugin: str | None
    to: int | str | None = None
    epoch: int | None = None

    def __post_init__(self) -> None:
        of_plugin, of_epoch = self.plugin is not None, self.epoch is not None
        if of_plugin == of_epoch or of_plugin != (self.to is not None):
            raise HostError(
                "rollback needs a plugin and what to go back to, rollback('geo', to=3) or "
                "to='1.2.0', or an epoch, rollback(epoch=12)"
            )


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests of one change, and what it takes to read them.

    Attributes:
        grants: what a plugin is granted if its request does not say otherwise.
        journal: has what served before; None for no history.
        seen: the ids of the epochs, or their beginnings, of which one must be current;
            None for any epoch.
        recorded: the requests, in order.
    """

    grants: frozenset[str]
    journal: Journal | None = None
    seen: Collection[str] | None = None
    recorded: list[Request | RollbackRequest] = field(
        default_factory=list["Request | RollbackRequest"]
    )

    def read(self, epoch: Epoch) -> list[PlannedChange]:
        """Read the artifacts and manifests that the requests name.

        Args:
            epoch: the epoch that is current in the change's turn.

        Raises:
            EpochMovedError: another epoch is current than the caller has seen.
            ArtifactError: a source that cannot be read, or is another plugin than was named.
            ManifestError: a manifest with faults.
            UnknownPluginError: a reload of a plugin that is not active.
            NoStoreError: a rollback without a journal.
            NotKeptError: a rollback to what is not in it.
            StoreCorruptError: a rollback to what was damaged.
        """
        if self.seen is not None and not _is_seen(epoch.id, self.seen):
            raise EpochMovedError(
                expected=", ".join(self.seen), number=epoch.number, current=epoch.id
            )
        planned: list[PlannedChange] = []
        for request in self.recorded:  # a comprehension would be a closure with the epoch
            if isinstance(request, RollbackRequest):
                planned.extend(_earlier(request, epoch, self.journal))
            else:
                planned.append(_resolve(request, epoch, self.grants))
        return planned


class Change:
    """Several changes of plugins as one transaction: all become visible at once, or none.

    Made by `Runtime.change` and `Runtime.achange`; record your requests inside the `with` block.
    Leaving the block runs the change; leaving it by an exception throws it away.

    Attributes:
        cutover: the report, after the block.
    """

    __slots__ = ("_queue", "_requests", "_spec", "_started", "cutover")

    def __init__(self, queue: ChangeQueue, spec: ChangeSpec, requests: Requests) -> None:
        self._queue: Final = queue
        self._spec: Final = spec
        self._requests: Final = requests.recorded  # which the spec reads
        self._started = False
        self.cutover: Cutover | None = None

    def load(
        self,
        source: Source,
        *,
        config: Mapping[str, Any] | None = None,
        grants: Collection[str] | None = None,
    ) -> Change:
        """Add a plugin that is not active; see `Runtime.load`."""
        return self.request(Request(Verb.LOAD, None, source, config, _checked(grants)))

    def reload(
        self,
        plugin: str,
        source: Source | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        grants: Collection[str] | None = None,
        restart: bool = False,
    ) -> Change:
        """Replace an active plugin; see `Runtime.reload`.

        With `restart` a plugin that was not loaded from a path starts anew from the artifact that
        is active when the change has its turn.
        """
        granted = _checked(grants)
        return self.request(Request(Verb.RELOAD, plugin, source, config, granted, restart=restart))

    def put(
        self,
        source: Source,
        *,
        config: Mapping[str, Any] | None = None,
        grants: Collection[str] | None = None,
    ) -> Change:
        """Add a plugin, or replace the active one of that id, as things are in the change's turn.

        In the report the `old` of its swap is None if the plugin was added.
        """
        return self.request(Request(None, None, source, config, _checked(grants)))

    def remove(self, plugin: str, *, cascade: bool = False) -> Change:
        """Take an active plugin out; see `Runtime.remove`."""
        return self.request(Request(Verb.REMOVE, plugin, cascade=cascade))

    @overload
    def rollback(self, plugin: str, *, to: int | str) -> Change: ...
    @overload
    def rollback(self, *, epoch: int) -> Change: ...
    def rollback(
        self, plugin: str | None = None, *, to: int | str | None = None, epoch: int | None = None
    ) -> Change:
        """Bring back a plugin, or a whole epoch, that served before; see `Runtime.rollback`."""
        return self.request(RollbackRequest(plugin, to, epoch))

    def request(self, request: Request | RollbackRequest) -> Change:
        """Record a request as it is; returns this change, as the other calls do."""
        self._requests.append(request)
        return self

    def run(self) -> Cutover:
        """Run it now, as leaving the `with` block does.

        Raises:
            HostError: it has run already.
        """
        self.cutover = cutover = self._prepare().wait()
        return cutover

    async def run_async(self) -> Cutover:
        """`run` for event loops."""
        self.cutover = cutover = await self._prepare().wait_async()
        return cutover

    def _prepare(self) -> QueuedChange:
        if self._started:
            raise HostError("this change has run already; make a new one with rt.change()")
        self._started = True
        return self._queue.prepare(self._spec)

    def __enter__(self) -> Change:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.run()

    async def __aenter__(self) -> Change:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            await self.run_async()


def _is_seen(epoch_id: str, seen: Collection[str]) -> bool:
    return any(len(digits) >= _SHOWN and epoch_id.startswith(digits) for digits in seen)


def remove_all(epoch: Epoch) -> list[PlannedChange]:
    """The removal of every active plugin."""
    return [PlannedChange(Verb.REMOVE, plugin) for plugin in epoch.generations]


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
    yield from become(journal.candidates(request.epoch), active)


def become(wanted: Mapping[str, Candidate], active: Epoch) -> Iterator[PlannedChange]:
    """What it takes to have these plugins active, and no others."""
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
            # With a new configuration alone, what came from no path keeps its bytes.
            is_same = request.restart or request.config is not None
            source = active if active.origin is None and is_same else active.origin
    if isinstance(source, Artifact):
        return source
    if source is None:
        raise ArtifactError(
            f"plugin {request.plugin!r} was not loaded from a path; name the source to reload it "
            "from",
            plugin=request.plugin,
        )
    return read_artifact(source)


def _checked(grants: Collection[str] | None) -> frozenset[str] | None:
    return None if grants is None else checked_grants(grants)
