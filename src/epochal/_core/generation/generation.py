"""A generation: one loaded instance of a plugin's code, from its bytes to the return of its memory.

A generation is also the record that people look at, so holding one must hold nothing up: it knows
its lease weakly, and it drops everything of the plugin when it is removed. The strong references
are the epoch's (`LeasedGeneration.lease`, `LeasedGeneration.carried`) and those of the callers that
took something out of the epoch.

Which thread reads, which writes
--------------------------------

The life's steps (`prepare`, `link`, `carry`, `init`, `shutdown`, `return_borrowed`, `release`) run
plugin code, and one change calls them in order, on one thread at a time. That thread may be
abandoned inside plugin code; another one then continues with the next step, so each step takes a
part out of its slot *before* it calls into it. All other threads only read: the attributes that
`__init__` sets, the lifecycle's state, and `exports`, which is replaced whole and never altered.
"""

from __future__ import annotations

import weakref
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

from epochal._core.generation import diagnosis
from epochal._core.generation.context import PluginContext, RequiredPlugin
from epochal._core.generation.exports import check_entry_points, collect_exports
from epochal._core.generation.host_tables import EntryWatch, texts_in
from epochal._core.generation.kept_instances import (
    PluginCode,
    classes_in,
    instances_outside,
    tie_instances,
    untie_kept,
)
from epochal._core.generation.kind import Opened
from epochal._core.generation.lifecycle import PluginLifecycle
from epochal._core.generation.orphan_threads import end_threads
from epochal._core.generation.own_state import (
    PluginState,
    check_handover,
    describe,
    translate_errors,
)
from epochal._core.generation.reclaim import Reclaim, empty_typing, reclaim
from epochal._core.generation.settings import read_settings
from epochal._core.generation.side_effects import SideEffects
from epochal._core.introspect.callables import check_ran
from epochal._core.introspect.collector import collect_soon
from epochal._core.introspect.origins import Origin
from epochal._core.introspect.running_code import find_stragglers
from epochal._core.introspect.tracebacks import reported
from epochal._core.plugin.capabilities import missing_grant
from epochal._core.sync.threads import give_way
from epochal._core.use.lease import LeasedCallable, RevocableLease, carry
from epochal._core.use.ties import TIES
from epochal.errors import EpochalError, LinkError, format_error
from epochal.report import Holder, Straggler, Version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from types import ModuleType

    from epochal._core.generation.ambient import Ambient
    from epochal._core.generation.host_tables import HostEntry
    from epochal._core.generation.kind import Export, ExportKey, Handover
    from epochal._core.generation.operation import Operation
    from epochal._core.generation.registrations import Registrations
    from epochal._core.generation.states import LifecycleState
    from epochal._core.generation.table_succession import TableSuccession
    from epochal._core.generation.watched_table import Item, Put
    from epochal._core.plugin.candidate import Candidate
    from epochal._core.sync.weak_registry import WeakRegistry
    from epochal._core.use.lease import Lease

calling: Final[ContextVar[Generation | None]] = ContextVar("epochal_calling", default=None)
"""The generation whose code a change is running."""

NO_EXPORTS: Final[Mapping[ExportKey, Export]] = MappingProxyType({})


class Namespace(Protocol):
    """One generation's modules, as a loader provides them."""

    owner: Callable[[], Generation | None]
    """Returns the generation whose modules these are, for as long as there is one."""

    @property
    def root_name(self) -> str:
        """The private name of the root module."""
        ...

    @property
    def modules(self) -> Mapping[str, ModuleType]:
        """The modules loaded so far, by private name."""
        ...

    def open(self) -> None:
        """Enter the process-wide tables: serve the modules by their names from now on."""

    def execute(self) -> ModuleType:
        """Run the root module's code; raises what the code raises."""
        ...

    def owns(self, obj: object) -> bool:
        """Whether an object was defined by this generation's code."""
        ...

    def run_exit_hooks(self, failures: list[str]) -> list[str]:
        """Run the exit hooks that the code registered; returns a line for each."""
        ...

    def interrupt(self, reason: str) -> None:
        """Stop the calls of its code, where that can be done for certain, and take no more."""

    def close(self) -> None:
        """Leave every process-wide table."""


class Loader(Protocol):
    """Makes the namespaces of plugins in one language."""

    def __call__(self, candidate: Candidate, number: int, *, in_subprocess: bool) -> Namespace:
        """Make the namespace of a generation; runs no plugin code.

        Args:
            candidate: all that determines it.
            number: its number.
            in_subprocess: whether its code had better be compiled in another process, since there
                are operations that compiling could hold up.
        """
        ...


@dataclass(frozen=True, slots=True)
class LeasedGeneration:
    """A generation with its strong references: while this object lives, the generation is in use.

    Attributes:
        generation: the generation.
        lease: its lease.
        carried: the exports that the host may call, by kind and full name; each carries the lease.
    """

    generation: Generation
    lease: Lease
    carried: Mapping[ExportKey, Any]


def _lend(target: Any, borrowed: RevocableLease) -> Any:
    """An export as a dependent gets it: a class as it is, to derive from it, test for it, catch it.

    The dependent's context holds the class's plugin in use for as long as the dependent is there.
    """
    return target if issubclass(type(target), type) else carry(target, borrowed)


class Generation:
    """One loaded instance of a plugin's code.

    Attributes:
        plugin: the plugin's id.
        number: counts the generations of this plugin in this runtime, from 0.
        candidate: the artifact, manifest, configuration and grants that it was made of.
        lifecycle: its state machine.
        exports: its exports, by kind and full name; empty before LINKED and after REMOVED.
        opened: the instances that kinds opened for its exports; empty before INITIALIZED and after
            the shutdown.
        operations: the runtime's labelled operations.
        requires: the ids of the plugins that it requires.
        failures: a line for each error of its shutdown.
        dropped: a line for each export of its predecessor that it lacks, and for each piece of the
            predecessor's state that it did not take over.
        cleaned_up: a line for each thing that it had left in the process's tables and that was
            taken out.
        left_running: a line for each thread and task that its code began and that did not end.
        origin: its code, as that which begins threads and tasks.
        has_leaking_dependent: whether a plugin that requires it leaks: copies of its instances
            count no more.
    """

    __slots__ = (
        "__weakref__",
        "_ambient",
        "_borrowed",
        "_carried",
        "_class_carriers",
        "_context",
        "_host_entries",
        "_lease",
        "_lenders",
        "_namespace",
        "_own_instances",
        "_root",
        "_side_effects",
        "_watch",
        "candidate",
        "cleaned_up",
        "dropped",
        "exports",
        "failures",
        "has_leaking_dependent",
        "left_running",
        "lifecycle",
        "number",
        "opened",
        "opening",
        "operations",
        "origin",
        "plugin",
        "requires",
    )

    def __init__(
        self,
        candidate: Candidate,
        number: int,
        operations: WeakRegistry[Operation],
        ambient: Ambient[Operation] | None = None,
    ) -> None:
        self.plugin: Final = candidate.plugin
        self.number: Final = number
        self.candidate: Final = candidate
        self.requires: Final = tuple(r.plugin for r in candidate.manifest.requires)
        self.lifecycle: Final = PluginLifecycle(str(self))
        self.exports: Mapping[ExportKey, Export] = NO_EXPORTS
        self.operations: Final = operations
        # Written by the change's thread; others read them once the change has ended.
        self.opened: Final[dict[ExportKey, Opened]] = {}
        self.failures: Final[list[str]] = []
        self.dropped: Final[list[str]] = []
        self.cleaned_up: Final[list[str]] = []
        self._ambient: Final = ambient
        self.left_running: Final[list[str]] = []
        self.origin: Final = Origin(str(self), self.globals_ids)
        self._side_effects: Final = SideEffects()
        self._namespace: Namespace | None = None
        self._root: ModuleType | None = None
        self._context: PluginContext | None = None
        self._watch: EntryWatch | None = None
        self._host_entries: list[HostEntry] = []
        self._lease: weakref.ref[Lease] | None = None
        self._borrowed: tuple[weakref.ref[RevocableLease], ...] = ()
        self._carried: Mapping[int, weakref.ref[FunctionType]] = {}
        self._class_carriers: tuple[weakref.ref[LeasedCallable], ...] = ()
        self._own_instances: list[weakref.ref[Any]] = []
        self._lenders: tuple[Generation, ...] = ()
        self.has_leaking_dependent = False
        self.opening = ""  # the export that its kind opens or wraps just now, for errors

    @property
    def state(self) -> LifecycleState:
        """The state of its life."""
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
        """The code that it runs, as a record that holds nothing alive."""
        return Version(self.plugin, self.number, self.version, self.digest)

    # --- diagnosis ---------------------------------------------------------------------------

    def holders(self, *, collect: bool = True) -> tuple[Holder, ...]:
        """What holds this generation in use: twenty are named, the others counted.

        Looks through the whole heap, which takes 0.1 s to a second: for a waiting person, not for a
        hot path.

        Args:
            collect: collect first, so that no garbage is named.
        """
        return diagnosis.holders_of(self, collect=collect)

    def known_holders(self) -> tuple[Holder, ...]:
        """The labelled operations and running calls that hold this generation in use.

        Costs nothing for the size of the heap; `holders` finds the other holders, too.
        """
        return diagnosis.known_holders_of(self)

    def untie_kept(self) -> bool:
        """Let go of instances that only the plugin itself keeps; returns whether to look again."""
        code = self._code() if TIES else None
        return code is not None and untie_kept(self.live_lease, code)

    def tie_handed_on(self) -> bool:
        """Look for instances that the host made of others, and hold this generation in use by them.

        Returns:
            Whether there are any.
        """
        if not self.lifecycle.ledger.has_instances or self.has_leaking_dependent:
            return False
        lease = tie_instances(self._instances_outside, self._own_instances, self._issue)
        self._lease = lease or self._lease
        return lease is not None

    def _instances_outside(self) -> list[weakref.ref[Any]]:
        """The instances of exported classes that others than the plugin refer to."""
        code = self._code()
        classes = classes_in(e.target for e in self.exports.values() if not e.kind.opens)
        if code is None or not classes:
            return []
        carriers = (ref() for ref in self._class_carriers)
        return instances_outside(classes, code, [*self.exports.values(), *carriers])

    def _code(self) -> PluginCode | None:
        namespace = self._namespace
        if namespace is None:
            return None
        return PluginCode(list(namespace.modules.values()), namespace.root_name, self.origin)

    def _issue(self) -> Lease:
        return self.lifecycle.ledger.issue(str(self))

    def stragglers(self) -> tuple[Straggler, ...]:
        """Threads and tasks in this generation's code that carry no lease and are not its own."""
        return find_stragglers(self.globals_ids(), own=self.origin)

    def cancel_holders(self) -> tuple[Holder, ...]:
        """Ask labelled operations, and tasks inside this generation's code, to stop.

        Returns:
            The operations and tasks that were asked.
        """
        return diagnosis.cancel_holders_of(self)

    def interrupt(self) -> None:
        """Stop the calls of its code, where that can be done for certain, and take no more."""
        namespace = self._namespace
        if namespace is not None:
            namespace.interrupt(f"was stopped: {self} is being removed")

    def live_lease(self) -> Lease | None:
        """The lease while it is alive. The caller must drop it soon: it holds up the drain."""
        lease = self._lease() if self._lease is not None else None
        return lease if lease is not None else self.lifecycle.ledger.revived()

    def globals_ids(self) -> frozenset[int]:
        """The `id` of each module dictionary of its code."""
        namespace = self._namespace
        if namespace is None:
            return frozenset()
        return frozenset(id(vars(module)) for module in list(namespace.modules.values()))

    def is_own_module(self, name: str) -> bool:
        """Whether a name is the private one of a module of its code."""
        return self._namespace is not None and name in self._namespace.modules

    # --- the life's steps, for one change ----------------------------------------------------

    def prepare(
        self,
        make_namespace: Callable[[Candidate, int], Namespace],
        required: Mapping[str, LeasedGeneration],
    ) -> None:
        """Make the namespace and the context. Runs no plugin code.

        Args:
            make_namespace: the loader.
            required: the linked generation of each plugin that this one requires.
        """
        manifest, grants = self.candidate.manifest, self.candidate.grants
        # Ours before others find it: what fails from here on is closed with this generation.
        self._namespace = make_namespace(self.candidate, self.number)
        self._namespace.owner = weakref.ref(self)
        self._namespace.open()
        give_way()
        self._context = PluginContext(
            self.plugin,
            self.number,
            self.version,
            self.candidate.config,
            lambda capability: missing_grant(manifest.capabilities, grants, capability),
            {
                plugin: linked.generation.exports_for(linked.lease, str(self))
                for plugin, linked in required.items()
            },
            self.origin,
            {
                plugin: f"{linked.generation.version}#{linked.generation.number}"
                for plugin, linked in required.items()
            },
        )
        self._borrowed = self._context.borrowed()
        self._lenders = tuple(linked.generation for linked in required.values())

    def succeed(self, succession: TableSuccession | None) -> None:
        """Take over what generations that retire in this change have replaced; None at its end."""
        self._side_effects.succession = succession

    def table_puts(self) -> list[Put]:
        """The values that it has put under names of the process and the host."""
        return self._side_effects.puts()

    def table_items(self) -> list[Item]:
        """The items that it has put into lists of the process."""
        return self._side_effects.items()

    def link(self) -> None:
        """Execute the code and collect its exports.

        Raises:
            LinkError: the code raised.
            ConfigError: the configuration does not fit the class that the manifest names.
            ExportError: an export that cannot be one.
            CapabilityError: an export of a kind that was not granted.
        """
        assert self._namespace is not None  # prepared
        assert self._context is not None
        with self.origin.running(), self._noting():
            try:
                self._root = self._namespace.execute()
                give_way()
                check_entry_points(self.plugin, self._root, self._namespace)
                if schema := self.candidate.manifest.config:
                    config = self.candidate.config
                    self._context.settings = read_settings(self.plugin, self._root, schema, config)
                self._call("register", self._context)
            except EpochalError:
                raise
            except BaseException as error:
                raise LinkError(
                    f"plugin {self.plugin!r} failed to load: {format_error(error)}",
                    plugin=self.plugin,
                ) from error
            registered = self._context.take_exports()
            self.exports = collect_exports(self.candidate, self._namespace, registered)

    def carry(self) -> LeasedGeneration:
        """Make the lease, and the exports that carry it: LOADED -> LINKED. Runs no plugin code."""
        leased = self.carry_again()
        self.lifecycle.advance()
        return leased

    def carry_again(self) -> LeasedGeneration:
        """Make another lease, and exports that carry it, for a generation that goes on."""
        lease = self._issue()
        self._lease = weakref.ref(lease)
        if self._context is not None:
            self._context.registrations.lease = self._lease
        carried: dict[ExportKey, Any] = {}
        # A loop: on CPython 3.11 an error within a comprehension that names the lease keeps it, by
        # the function that a comprehension is, and the drain of what failed would wait for that.
        for key, export in self.exports.items():
            if not export.kind.opens:
                carried[key] = carry(export.target, lease)
        self._carried = {
            id(self.exports[key].target): weakref.ref(one)
            for key, one in carried.items()
            if type(one) is FunctionType
        }
        self._class_carriers = tuple(
            weakref.ref(one) for one in carried.values() if type(one) is LeasedCallable
        )
        return LeasedGeneration(self, lease, carried)

    def carried_export(self, key: ExportKey) -> Any:
        """An export that carries the lease, while that is alive; None otherwise."""
        lease, export = self.live_lease(), self.exports.get(key)
        return carry(export.target, lease) if lease is not None and export is not None else None

    def register_again(self) -> list[str]:
        """Put its entries into the host's tables, all of them; returns the failures."""
        if self.registrations is None:
            return []
        self.registrations.activate()
        return self.registrations.put_all(None)

    @property
    def is_active(self) -> bool:
        """Whether it is in the current epoch."""
        return self.lifecycle.is_active

    def is_in_ambient_operation(self) -> bool:
        """Whether the operation that the calling code belongs to uses this generation."""
        operation = self._ambient.operation() if self._ambient is not None else None
        lease = self.live_lease() if operation is not None else None
        return operation is not None and lease is not None and operation.holds(lease, self.plugin)

    def export_of(self, function: FunctionType) -> FunctionType:
        """What the host has in place of an exported function; any other function itself."""
        carried = self._carried.get(id(function))
        return (carried and carried()) or function

    def init(self, old: Generation | None = None) -> None:
        """Call the plugin's `init(ctx)`, then `Kind.open` for its exports: LINKED -> INITIALIZED.

        Passes on every exception of either.

        Args:
            old: the generation that this one is to replace.

        Raises:
            RegistrationError: other code than `old` has the place of an entry that it registered.
        """
        if self._watch is not None and self._namespace is not None:
            self._watch.look(self._namespace.modules.values())
        runs_code = self.entry_point("init") or any(key[0].opens for key in self.exports)
        # Two looks at the process's tables, a quarter of a small plugin's load, are for code that
        # could change them.
        with self.origin.running(), self._noting() if runs_code else nullcontext():
            self._call("init", self._context)
            for key, export in self.exports.items():
                if export.kind.opens:
                    self.opening = describe(key, self.plugin)
                    instance = export.kind.open(export)
                    self.opened[key] = Opened(export, instance, self.version, self.number)
            self.opening = ""
            if self._context is not None:
                self._context.registrations.check(old.registrations if old is not None else None)
        watch, self._watch = self._watch, None
        if watch is not None:
            texts = texts_in(self._root) if self._root is not None else set[str]()
            assert old is not None  # watched
            self._host_entries = watch.made(texts, old.owns)
        if self._class_carriers:
            self._own_instances = self._instances_outside()
        self.lifecycle.advance()

    def owns(self, obj: object) -> bool:
        """Whether an object was defined by its code."""
        return self._namespace is not None and self._namespace.owns(obj)

    def watch_entries(self, old: Generation) -> None:
        """Watch the host's tables, if the shutdown of an older one may take entries out of them.

        Called before `link`. Runs no foreign code.
        """
        if old._namespace is None or old._context is None:
            return
        if old.entry_point("shutdown") is not None or not old._context.resources.is_empty:
            self._watch = EntryWatch()
            self._watch.look(old._namespace.modules.values())

    @property
    def registrations(self) -> Registrations | None:
        """The entries that it registered with `ctx.register`; None before LINKED and after it."""
        return self._context.registrations if self._context is not None else None

    def note_entries(self) -> None:
        """Note which entries that its `init` made in the host's tables are there."""
        for entry in self._host_entries:
            entry.is_in = entry.look()

    def lost_entries(self) -> list[str]:
        """A line for each entry in the host's tables that is not there any more. Once."""
        entries, self._host_entries = self._host_entries, []
        lost = [str(entry) for entry in entries if entry.is_in and not entry.look()]
        return lost + (self.registrations.lost() if self.registrations is not None else [])

    def wrap(self, lease: Lease | RevocableLease) -> dict[ExportKey, Any]:
        """The opened instances as an epoch, or a plugin that requires this one, offers them."""
        wrapped: dict[ExportKey, Any] = {}
        for key, opened in self.opened.items():  # a comprehension's cell would hold the lease
            self.opening = describe(key, self.plugin)
            wrapped[key] = key[0].wrap(opened.instance, lease)
        return wrapped

    def exports_for(self, lease: Lease, borrower: str) -> RequiredPlugin:
        """The exports as a generation that requires this one gets them.

        Args:
            lease: the lease of this generation.
            borrower: `plugin#number` of the generation that requires it.
        """
        borrowed = RevocableLease(lease, borrower)
        exports = self.wrap(borrowed)
        for key, export in self.exports.items():
            if key not in exports:
                exports[key] = _lend(export.target, borrowed)
        return RequiredPlugin(self.plugin, exports, borrowed)

    def handovers(self, old: Generation) -> Iterator[tuple[ExportKey | None, Handover]]:
        """The transfers of state from an older generation to this one. Moves nothing yet.

        Yields:
            The key of the export whose state moves, or None for the plugin's own state; and the
            transfer.
        """
        for key, opened in self.opened.items():
            if key not in old.opened:
                continue
            message = f"{describe(key, self.plugin)} cannot be handed over"
            with translate_errors(message, self.plugin):
                handover = key[0].hand_over(old.opened[key], opened)
                check_handover(handover)
            if handover is not None:
                yield key, handover
        export_state = old.entry_point("export_state")
        import_state = self.entry_point("import_state")
        if export_state is not None and import_state is not None:
            yield None, PluginState(export_state, import_state, old.version)

    @contextmanager
    def taking_over(self) -> Iterator[None]:
        """Around the import of state: its threads and side effects are this generation's."""
        with self.origin.running(), self._noting():
            yield

    @property
    def module(self) -> ModuleType | None:
        """The plugin's root module; None before it is linked and after it is shut down."""
        return self._root

    def entry_point(self, name: str) -> Callable[..., Any] | None:
        """A function that the plugin defines for Epochal to call; None if there is none."""
        function = vars(self._root).get(name) if self._root is not None else None
        return function if callable(function) else None

    @property
    def keeps_state(self) -> bool:
        """Whether it has state that the next generation may take over."""
        return bool(self.opened) or self.entry_point("export_state") is not None

    def local_exports(self) -> list[str]:
        """The exports that belong to one process, as `kind name`: see `Kind.crosses`."""
        return sorted(f"{kind.name} {name}" for kind, name in self.exports if not kind.crosses)

    def shutdown(self, *, initialized: bool) -> None:
        """Close instances, call `shutdown()`, close the context's resources, clean up side effects.

        Called again after an abandoned call, it continues with the next part. Each exception is
        added to `failures`, each thing taken out of the process's tables to `cleaned_up`.

        Args:
            initialized: whether `init` succeeded. If not, `shutdown()` is not called, but the
                resources that `init` acquired before it failed are closed all the same.
        """
        with self.origin.running(), self._noting():
            if self._context is not None:
                self._context.resources.stopping.set()
            self._close_opened()
            # Out of its slot before the call: a thread that continues must not call it again.
            root, self._root = self._root, None
            function = vars(root).get("shutdown") if root is not None else None
            if initialized and callable(function):
                try:
                    check_ran("shutdown", function())
                except BaseException as error:  # noqa: BLE001  reported; the rest goes on
                    self.failures.append(f"shutdown() of {self} raised {format_error(error)}")
            self._close_resources()
        self._clean_up()

    def _close_opened(self) -> None:
        while self.opened:
            # Out of the dictionary before the call: see `shutdown`.
            (kind, name), opened = self.opened.popitem()
            try:
                kind.close(opened.instance)
            except BaseException as error:  # noqa: BLE001  reported; the rest goes on
                self.failures.append(
                    f"closing {kind.name} {name} of {self} raised {reported(error)}"
                )

    def _close_resources(self) -> None:
        if self._context is None:
            return
        errors: list[BaseException] = []
        try:
            self._context.resources.close(errors)
        finally:
            self.failures.extend(f"a resource of {self}: {format_error(error)}" for error in errors)

    def _clean_up(self) -> None:
        """Take out of the process what the plugin left there: hooks, table entries, threads."""
        if self.registrations is not None:
            self.failures.extend(self.registrations.take_out())
        namespace = self._namespace
        if namespace is None:
            return
        self.cleaned_up.extend(namespace.run_exit_hooks(self.failures))
        cleaned_up, failures = self._side_effects.undo(namespace.owns)
        self.cleaned_up.extend(cleaned_up)
        self.failures.extend(failures)
        ended, alive = end_threads(self.origin, self.globals_ids(), namespace.owns)
        self.cleaned_up.extend(ended)
        self.failures.extend(alive)
        self.left_running.extend(alive)

    def return_borrowed(self) -> None:
        """Drop the exports of every plugin that this one requires; runs even after a failure.

        Those that it handed on still count, unless `revoke_borrowed` follows.
        """
        if self._context is not None:
            self._context.return_borrowed()
        if self._borrowed:
            # An annotation made of a borrowed export was not handed on to anybody.
            empty_typing()

    def revoke_borrowed(self, *, leaks: bool) -> None:
        """Take back the leases of every plugin that this one requires.

        Args:
            leaks: whether its memory stays, perhaps: then no instance that it has is a use of them.
        """
        for lender in self._lenders:
            lender.has_leaking_dependent |= leaks
        for ref in self._borrowed:
            if (borrowed := ref()) is not None:
                borrowed.release()

    def release(self, error: BaseException | None = None) -> Reclaim:
        """Drop everything of the plugin and take its memory apart.

        Args:
            error: the error that it was undone for, if it never served.
        """
        namespace = self._namespace
        self._root = self._context = None
        self._watch, self._host_entries = None, []
        self.exports = NO_EXPORTS
        self._carried = {}
        if namespace is None:
            return Reclaim()
        modules = dict(namespace.modules)
        namespace.close()
        self._namespace = None  # only now: one that was interrupted is closed by the next call
        root_name = namespace.root_name
        # `reclaim` counts references: none of this frame's may be among them.
        del namespace
        reclaimed = reclaim(modules, root_name=root_name, error=error)
        if any(ref() is not None for ref in self._borrowed):
            # What it borrowed was handed on, or is in garbage, which must not keep it in use.
            collect_soon()
        return reclaimed

    def _noting(self) -> AbstractContextManager[None]:
        if self._namespace is None:  # it ends before it was prepared: none of its code has run
            return nullcontext()
        return self._side_effects.noting(self._namespace.owns)

    def _call(self, name: str, context: PluginContext | None) -> None:
        function = self.entry_point(name)
        if function is not None:
            check_ran(name, function(context))

    def __str__(self) -> str:
        return f"{self.plugin}#{self.number}"

    def __repr__(self) -> str:
        return f"<generation {self} {self.version} {self.state.name}>"
