"""A generation: one loaded instance of a plugin's code, from its bytes to the return of its memory.

A generation is also the record that people look at, so holding one must hold nothing up: it knows
its lease weakly, and everything of the plugin that it refers to is let go when it is removed. The
strong ends are the epoch's (`LeasedGeneration.lease`, `LeasedGeneration.carried`) and those of
whoever took something out of it.

Each step here runs plugin code and is called by one change, in order, on one thread at a time:
`link`, `init`, then, when the last lease is gone, `shutdown` and `release`. Other threads only
read: the
attributes set in `__init__`, the lifecycle's state, and `exports`, which is replaced whole.
"""

from __future__ import annotations

import threading
import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

from epochal._core.generation.context import PluginContext, Required
from epochal._core.generation.exports import check_entry_points, collect_exports
from epochal._core.generation.kind import Opened
from epochal._core.generation.lifecycle import PluginLifecycle
from epochal._core.generation.orphan_threads import end_threads
from epochal._core.generation.own_state import PluginState, describe, translate_errors
from epochal._core.generation.reclaim import Reclaim, reclaim
from epochal._core.generation.side_effects import Footprint
from epochal._core.introspect.running_code import cancel_tasks, find_stragglers
from epochal._core.introspect.tracebacks import format_error
from epochal._core.plugin.capabilities import allows
from epochal._core.use.holders import describe_holders, described, first_of
from epochal._core.use.lease import RevocableLease
from epochal._core.use.lease_carrier import carry
from epochal.errors import EpochalError, LinkError
from epochal.report import Version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import ModuleType

    from epochal._core.generation.kind import Export, Handover, Kind
    from epochal._core.generation.operation import Operation
    from epochal._core.generation.states import LifecycleState
    from epochal._core.plugin.artifact import Artifact
    from epochal._core.plugin.candidate import Candidate
    from epochal._core.sync.weak_registry import WeakRegistry
    from epochal._core.use.lease import Lease

ExportKey = "tuple[Kind[Any], str]"

NO_EXPORTS: Final[Mapping[tuple[Any, str], Export]] = MappingProxyType({})


class Namespace(Protocol):
    """One generation's modules, as a loader provides them."""

    @property
    def root_name(self) -> str:
        """The private name of the root module."""
        ...

    @property
    def modules(self) -> Mapping[str, ModuleType]:
        """The modules loaded so far, by private name."""
        ...

    def execute(self) -> ModuleType:
        """Run the root module's code; raises whatever it raises."""
        ...

    def owns(self, obj: object) -> bool:
        """Whether an object was defined by this generation's code."""
        ...

    def run_exit_hooks(self, failures: list[str]) -> list[str]:
        """Run what the code registered to run at its exit; returns what was run."""
        ...

    def close(self) -> None:
        """Leave every process-wide table."""


@dataclass(frozen=True, slots=True)
class LeasedGeneration:
    """The strong ends of a generation: whoever holds this holds the generation in use.

    Attributes:
        generation: which.
        lease: its lease.
        carried: what the host may call, by kind and full name; each carries the lease.
    """

    generation: Generation
    lease: Lease
    carried: Mapping[tuple[Kind[Any], str], Any]


class Generation:
    """One loaded instance of a plugin's code.

    Attributes:
        plugin: the plugin's id.
        number: counts the generations of this plugin in this runtime, from 0.
        candidate: what it was made of.
        lifecycle: where it stands.
        exports: what it offers, by kind and full name; empty before LINKED and after REMOVED.
        opened: what kinds opened for its exports; empty before INITIALIZED, and once it is shut
            down. Written by the thread of the change that has it.
        requires: the ids of the plugins that it requires.
        failures: what raised while it was shut down.
        cleaned_up: what it had left in the process's tables, and was taken out.
    """

    __slots__ = (
        "__weakref__",
        "_context",
        "_footprint",
        "_inside",
        "_lease",
        "_namespace",
        "_operations",
        "_own_threads",
        "_root",
        "candidate",
        "cleaned_up",
        "dropped",
        "exports",
        "failures",
        "lifecycle",
        "number",
        "opened",
        "plugin",
        "requires",
    )

    def __init__(
        self, candidate: Candidate, number: int, operations: WeakRegistry[Operation]
    ) -> None:
        self.plugin: Final = candidate.plugin
        self.number: Final = number
        self.candidate: Final = candidate
        self.requires: Final = tuple(r.plugin for r in candidate.manifest.requires)
        self.lifecycle: Final = PluginLifecycle(str(self))
        self.exports: Mapping[tuple[Kind[Any], str], Export] = NO_EXPORTS
        self.opened: Final[dict[tuple[Kind[Any], str], Opened]] = {}
        self._operations: Final = operations
        # Belong to the change's thread; read by others once it has ended.
        self.failures: Final[list[str]] = []
        self.dropped: Final[list[str]] = []
        self.cleaned_up: Final[list[str]] = []
        self._footprint: Final = Footprint()
        # Idents of the threads that the plugin's code started while it linked, began or ended, and
        # of the changes' threads that are in its code, or were abandoned there.
        self._own_threads: set[int] = set()
        self._inside: Final[set[int]] = set()
        self._namespace: Namespace | None = None
        self._root: ModuleType | None = None
        self._context: PluginContext | None = None
        self._lease: weakref.ref[Lease] | None = None

    # --- what people ask ---------------------------------------------------------------------

    @property
    def state(self) -> LifecycleState:
        """Where it stands in its life."""
        return self.lifecycle.state

    @property
    def version(self) -> str:
        """The version that its manifest names."""
        return str(self.candidate.manifest.version)

    @property
    def digest(self) -> str:
        """SHA-256 of its artifact, in hexadecimal."""
        return self.candidate.artifact.digest

    @property
    def identity(self) -> str:
        """Its part in an epoch's id."""
        return self.candidate.identity

    @property
    def described(self) -> Version:
        """Which code this is, as a record that holds nothing."""
        return Version(self.plugin, self.number, self.version, self.digest)

    def holders(self) -> tuple[str, ...]:
        """Who holds this generation in use, each in a person's words.

        Looks through the heap: for a person who waits, not for a hot path.
        """
        lease = self._lease() if self._lease is not None else None
        if lease is None:
            return self.stragglers()
        pinning = self._operations_with(lease)
        return describe_holders(lease, globals_ids=self._globals_ids(), operations=pinning)

    def known_holders(self) -> tuple[str, ...]:
        """Who holds this generation in use and says so: labelled operations, and running calls.

        Costs what there is of these, whatever the heap's size; `holders` finds the others too.
        """
        lease = self._lease() if self._lease is not None else None
        pinning = self._operations_with(lease) if lease is not None else ()
        del lease
        return first_of((*described(pinning), *self.stragglers()))

    def _operations_with(self, lease: Lease) -> list[Operation]:
        pinning: list[Operation] = []
        for operation in self._operations.live():  # a nested function's cell would be a holder
            if operation.holds(lease, self.plugin):
                pinning.append(operation)  # noqa: PERF401
        return pinning

    def cancel_holders(self) -> tuple[str, ...]:
        """Ask who uses this generation to stop: labelled operations, and tasks inside its code.

        Returns:
            Who was asked, in a person's words.
        """
        lease = self._lease() if self._lease is not None else None
        asked: list[str] = []
        for operation in self._operations.live():
            if lease is not None and operation.holds(lease, self.plugin):
                asked.append(f"operation {operation.label!r}")
                try:
                    operation.cancel()
                except ExceptionGroup as errors:
                    self.failures.append(format_error(errors))
        del lease
        return (*asked, *cancel_tasks(self._globals_ids()))

    def stragglers(self) -> tuple[str, ...]:
        """Threads and tasks in this generation's code that carry no lease and are not its own."""
        resources = self._context.resources if self._context is not None else None
        own = frozenset(self._own_threads | self._inside)
        found = find_stragglers(
            self._globals_ids(),
            own_threads=own if resources is None else own | resources.thread_idents(),
            own_loops=frozenset() if resources is None else resources.loop_ids(),
        )
        return tuple(str(straggler) for straggler in found)

    # --- what a change does with it ----------------------------------------------------------

    def prepare(
        self,
        open_namespace: Callable[[Artifact, str, int, str], Namespace],
        required: Mapping[str, LeasedGeneration],
    ) -> None:
        """Get ready to run, without running anything.

        Args:
            open_namespace: the loader.
            required: the linked generation of each plugin that this one requires.
        """
        candidate = self.candidate
        self._namespace = open_namespace(
            candidate.artifact, self.plugin, self.number, candidate.manifest.vendored
        )
        self._context = self._make_context(required)

    def link(self) -> None:
        """Execute the code and collect what it exports.

        Raises:
            LinkError: the code raised.
            ExportError: an export that cannot be one.
            CapabilityError: an export of a kind that was not granted.
        """
        assert self._namespace is not None  # prepared
        assert self._context is not None
        with _threads_noted(self._own_threads, self._inside), self._footprint:
            try:
                self._root = self._namespace.execute()
                check_entry_points(self.plugin, self._root, self._namespace)
                self._call(self._root, "register", self._context)
            except EpochalError:
                raise
            except BaseException as error:
                raise LinkError(
                    f"plugin {self.plugin!r} failed to load: {format_error(error)}",
                    plugin=self.plugin,
                ) from error
            asked = self._context.take_exports()
            self.exports = collect_exports(self.candidate, self._namespace, asked)

    def carry(self) -> LeasedGeneration:
        """Make the lease and what carries it: LOADED -> LINKED. Runs no plugin code."""
        lease = self.lifecycle.ledger.issue(str(self))
        self._lease = weakref.ref(lease)
        carried = {
            key: carry(export.target, lease)
            for key, export in self.exports.items()
            if not export.kind.opens
        }
        self.lifecycle.advance()
        return LeasedGeneration(self, lease, carried)

    def init(self) -> None:
        """Call the plugin's `init(ctx)`, then open what kinds open: LINKED -> INITIALIZED.

        Whatever either raises goes through.
        """
        with _threads_noted(self._own_threads, self._inside), self._footprint:
            self._call(self._root, "init", self._context)
            for key, export in self.exports.items():
                if export.kind.opens:
                    instance = export.kind.open(export)
                    self.opened[key] = Opened(export, instance, self.version, self.number)
        self.lifecycle.advance()

    def wrap(self, lease: Lease | RevocableLease) -> dict[tuple[Kind[Any], str], Any]:
        """What was opened, as an epoch offers it or a plugin that requires this one gets it."""
        offered: dict[tuple[Kind[Any], str], Any] = {}
        for key, opened in self.opened.items():  # a nested function's cell would hold the lease
            offered[key] = key[0].wrap(opened.instance, lease)
        return offered

    def handovers(self, old: Generation) -> Iterator[tuple[tuple[Kind[Any], str] | None, Handover]]:
        """The moves of state from an older generation to this one; nothing is moved yet.

        Yields:
            The export whose state it is, or None for the plugin's own, and the move.
        """
        for key, opened in self.opened.items():
            if key not in old.opened:
                continue
            with translate_errors(
                f"{describe(key, self.plugin)} cannot be handed over", self.plugin
            ):
                handover = key[0].hand_over(old.opened[key], opened)
            if handover is not None:
                yield key, handover
        export_state = old.entry_point("export_state")
        import_state = self.entry_point("import_state")
        if export_state is not None and import_state is not None:
            yield None, PluginState(export_state, import_state, old.version)

    @contextmanager
    def taking_over(self) -> Iterator[None]:
        """Around the import of state: the thread and what it leaves are this generation's own."""
        with _threads_noted(self._own_threads, self._inside), self._footprint:
            yield

    def entry_point(self, name: str) -> Callable[..., Any] | None:
        """A function that the plugin defines for Epochal to call, if it does."""
        function = vars(self._root).get(name) if self._root is not None else None
        return function if callable(function) else None

    @property
    def keeps_state(self) -> bool:
        """Whether it has something that the next generation may take over."""
        return bool(self.opened) or self.entry_point("export_state") is not None

    def exports_for(self, lease: Lease, to: str) -> Required:
        """What a generation that requires this one gets: its exports, carrying what it borrowed."""
        borrow = RevocableLease(lease, to)
        offered = self.wrap(borrow)
        for key, export in self.exports.items():
            if key not in offered:
                offered[key] = carry(export.target, borrow)
        return Required(self.plugin, offered, borrow)

    @property
    def has_init(self) -> bool:
        """Whether there is an `init` to call."""
        return "init" in vars(self._root)

    def shutdown(self, *, initialized: bool) -> None:
        """Close what was opened, call `shutdown()`, close what it acquired, undo its footprint.

        Called again after it was given up, it goes on with what comes next. What raises is added to
        `failures`, what is taken out of the process's tables to `cleaned_up`.

        Args:
            initialized: whether `init` succeeded; what never began is not shut down, but what it
                acquired before it failed is closed all the same.
        """
        with _threads_noted(self._own_threads, self._inside), self._footprint:
            if self._context is not None:
                self._context.resources.stopping.set()
            self._close_opened()
            root, self._root = self._root, None
            if initialized and root is not None:
                try:
                    self._call(root, "shutdown")
                except BaseException as error:  # noqa: BLE001  reported; the rest goes on
                    self.failures.append(f"shutdown() of {self} raised {format_error(error)}")
            self._close_resources()
        self._undo_footprint()

    def _close_opened(self) -> None:
        while self.opened:
            (kind, name), opened = self.opened.popitem()
            try:
                kind.close(opened.instance)
            except BaseException as error:  # noqa: BLE001  reported; the rest goes on
                self.failures.append(
                    f"closing {kind.name} {name} of {self} raised {format_error(error)}"
                )

    def _close_resources(self) -> None:
        if self._context is None:
            return
        errors: list[BaseException] = []
        try:
            self._context.resources.close(errors)
        finally:
            self.failures.extend(f"a resource of {self}: {format_error(error)}" for error in errors)

    def _undo_footprint(self) -> None:
        namespace = self._namespace
        if namespace is None:
            return
        self.cleaned_up.extend(namespace.run_exit_hooks(self.failures))
        cleaned_up, failures = self._footprint.undo(namespace.owns)
        self.cleaned_up.extend(cleaned_up)
        self.failures.extend(failures)
        # Taken first: whoever goes on after this was given up must not begin with it again.
        own, self._own_threads = frozenset(self._own_threads), set()
        ended, alive = end_threads(own, self._globals_ids(), namespace.owns)
        self.cleaned_up.extend(ended)
        self.failures.extend(alive)

    def return_borrowed(self) -> None:
        """Let go of every plugin that this one requires, whatever else went wrong."""
        if self._context is not None:
            self._context.return_borrowed()

    def release(self, *, thorough: bool = True) -> Reclaim:
        """Let go of everything of the plugin and take its memory apart.

        Args:
            thorough: find out what keeps it, if anything does; that looks through the whole heap.
        """
        namespace, self._namespace = self._namespace, None
        self._root = self._context = None
        self.exports = NO_EXPORTS
        if namespace is None:
            return Reclaim()
        modules = dict(namespace.modules)
        namespace.close()
        root_name = namespace.root_name
        del namespace
        return reclaim(modules, root_name=root_name, thorough=thorough)

    # --- inside ------------------------------------------------------------------------------

    def _make_context(self, required: Mapping[str, LeasedGeneration]) -> PluginContext:
        manifest, grants = self.candidate.manifest, self.candidate.grants
        return PluginContext(
            self.plugin,
            self.number,
            self.version,
            self.candidate.config,
            lambda capability: allows(manifest.capabilities, grants, capability),
            {
                plugin: linked.generation.exports_for(linked.lease, str(self))
                for plugin, linked in required.items()
            },
        )

    def _call(self, root: ModuleType | None, name: str, *args: object) -> None:
        function = vars(root).get(name) if root is not None else None
        if callable(function):
            function(*args)

    def _globals_ids(self) -> frozenset[int]:
        namespace = self._namespace
        if namespace is None:
            return frozenset()
        return frozenset(id(vars(module)) for module in list(namespace.modules.values()))

    def __str__(self) -> str:
        return f"{self.plugin}#{self.number}"

    def __repr__(self) -> str:
        return f"<generation {self} {self.version} {self.state.name}>"


class _threads_noted:  # noqa: N801  reads as a phrase: `with _threads_noted(own, inside)`
    """Note the threads that begin inside the block: those are the plugin's own to end.

    The thread that runs the block is noted as inside until it leaves it: if it never does, it was
    abandoned there.
    """

    __slots__ = ("_before", "_inside", "_own")

    def __init__(self, own: set[int], inside: set[int]) -> None:
        self._own = own
        self._inside = inside
        self._before: set[int | None] = set()

    def __enter__(self) -> None:
        self._before = {thread.ident for thread in threading.enumerate()}
        self._inside.add(threading.get_ident())

    def __exit__(self, *exc: object) -> None:
        after = {thread.ident for thread in threading.enumerate()}
        self._own.update(ident for ident in after - self._before if ident is not None)
        self._inside.discard(threading.get_ident())
