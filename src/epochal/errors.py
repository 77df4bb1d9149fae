"""Every error that Epochal raises on purpose, in one tree.

::

    EpochalError
    ├── HostError                      yours: a call that cannot be right
    │   ├── UnknownPluginError             (also a LookupError)
    │   ├── UnknownExportError             (also a KeyError)
    │   ├── AlreadyLoadedError
    │   ├── ConfigError                    the configuration of a plugin is wrong
    │   │   └── ConfigKeyError                 (also a KeyError) it lacks a key
    │   ├── SourceConflictError            two files or folders say that they are one plugin
    │   ├── NestedChangeError              plugin code that a change runs asked for another change
    │   ├── NoEpochError                   a request that no middleware pinned an epoch for
    │   ├── NoStoreError                   rollback or history without a store
    │   ├── NoShareError                   work for other processes without a share
    │   ├── LocalExportError               an export that belongs to one process is not sent
    │   ├── NotKeptError                   the history does not have the target of the rollback
    │   ├── OperationEndedError
    │   ├── RuntimeClosedError
    │   └── ForkedRuntimeError
    ├── PluginError                    theirs: the plugin is at fault
    │   ├── ArtifactError                  its bytes cannot be read, or are not a plugin
    │   ├── ManifestError                  every fault of its manifest at once
    │   ├── LinkError                      its code raised while it was executed
    │   ├── ExportError                    an export that its kind does not accept
    │   ├── InitError
    │   ├── RegistrationError              its entry's place in a table of the host is taken
    │   ├── HandOverError                  its state could not be exported or imported
    │   ├── PrepareError                   it raised as a host prepared it, before it was published
    │   ├── HookAnswerError                its hook returned a value that the host cannot take
    │   ├── GuestError                     its WebAssembly trapped, or broke the interface
    │   │   └── GuestTimeoutError              (also a TimeoutError) a call of it took too long
    │   └── ShutdownError                  only in reports: a failing shutdown rolls nothing back
    ├── RefusedError                   the change would break a rule
    │   ├── CapabilityError
    │   ├── IncompatibleError
    │   ├── EpochMovedError                another change was published first
    │   └── DependencyError
    │       ├── MissingDependencyError
    │       ├── VersionConflictError
    │       ├── DependencyCycleError
    │       └── RequiredByError
    ├── StoreError                     the durable store
    │   ├── StoreInUseError                another process, or runtime, has it open
    │   ├── StoreSchemaError               a later version of Epochal wrote it
    │   ├── StoreCorruptError              a file differs from what was stored
    │   ├── StoreWriteError                disk full, read-only, …: the change was rolled back
    │   └── RestoreError                   the stored epoch cannot be restored
    ├── ShareError                     the share cannot be read or written
    │   └── ShareTimeoutError              (also a TimeoutError) it did not answer
    ├── EpochUnavailableError          this process cannot have an epoch of another
    ├── DocumentError                  an epoch's document is damaged, or of a later version
    ├── PhaseTimeoutError              time (also a TimeoutError)
    │   ├── PauseTimeoutError              calls would have waited too long; no state was moved
    │   └── StopTimeoutError               a plugin that stops first was in use for too long
    ├── NoThreadError                  the system starts no more threads (also a RuntimeError)
    ├── ChangeCancelledError           the caller gave up before publish
    ├── DrainError
    │   ├── NotActiveError
    │   ├── UnexpectedTransitionError
    │   ├── DrainTimeoutError              (also a TimeoutError)
    │   └── InUseError
    ├── QueryError                     a SQL query
    │   ├── FunctionError                  a plugin's function raised, or broke its promise
    │   ├── QueryTimeoutError              (also a TimeoutError)
    │   ├── QueryCancelledError
    │   └── BusyError                      no room for it now: planning, memory
    └── ToolError                      a call of an agent's tool
        ├── ToolArgumentError              (also a ValueError) its arguments do not fit
        ├── ToolChangedError               it is not what the caller saw
        ├── ToolFailedError                the plugin raised, or broke its promise
        ├── ToolTimeoutError               (also a TimeoutError)
        └── ToolCancelledError             the caller gave up

Each class has one stable `code` that logs, the command line and HTTP share: its name without
`Error`, in lower case with hyphens (`UnknownPluginError`: `unknown-plugin`). A message contains the
event, the plugin and the next thing to do; its facts are attributes, too.
"""

from __future__ import annotations

import re
from contextlib import suppress
from os import fspath
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from os import PathLike
    from types import TracebackType

    from epochal._core.generation.states import LifecycleState
    from epochal.report import Holder, Straggler


_TRACEBACK: Final[Any] = vars(BaseException)["__traceback__"]
_TAGGED: Final = re.compile(r"(.*)@(g\d+\w*)", re.DOTALL)
"""The file name of a plugin's code: its path and its generation's tag."""


class EpochalError(Exception):
    """The root of the tree: catches every error that Epochal raises on purpose.

    A traceback, and a log line with one, ends with a note that has the code and leads to its cause
    and remedy: `epochal explain CODE` prints these.
    """

    code: str = "epochal"

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.add_note(f"[{self.code}] `epochal explain {self.code}` has the cause and the remedy")

    def __reduce__(self) -> tuple[Any, ...]:
        # With its facts, to the process that asked: `__init__` makes the message of them, and is
        # not called again.
        return _unpickled, (type(self), self.args), self.__dict__

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # A subclass in another module keeps the code of its base, which clients know.
        if cls.__module__ == __name__ and "code" not in vars(cls):
            words = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__.removesuffix("Error"))
            cls.code = words.lower()


def _unpickled(cls: type[EpochalError], args: tuple[object, ...]) -> EpochalError:
    error = cls.__new__(cls)
    error.args = args
    return error


# --- yours -------------------------------------------------------------------------------------


class HostError(EpochalError):
    """The host made a call that is wrong in the present state."""


class UnknownPluginError(HostError, LookupError):
    """No plugin of that name is active."""

    def __init__(self, plugin: str, known: Sequence[str] = ()) -> None:
        self.plugin = plugin
        self.known = tuple(known)
        super().__init__(f"no plugin {plugin!r} is active; {_known('active', known)}")


class UnknownExportError(HostError, KeyError):
    """The epoch has no export of that kind and name."""

    def __init__(self, kind: str, name: object, known: Sequence[str] = ()) -> None:
        self.kind = kind
        self.name = name
        self.known = tuple(known)
        super().__init__(f"no {kind} named {name!r} in this epoch; {_known('close', known)}")

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which puts the sentence in quotes.
        return str(self.args[0])


class AlreadyLoadedError(HostError):
    """A plugin of that name is active: reload it, or remove it first."""

    def __init__(self, plugin: str) -> None:
        self.plugin = plugin
        super().__init__(
            f"plugin {plugin!r} is already active; use reload to replace it, or remove it first"
        )


class ConfigError(HostError):
    """The host's configuration of a plugin does not fit the class that its manifest names.

    Attributes:
        plugin: the plugin's id.
        faults: every fault; each begins with its key.
    """

    def __init__(self, plugin: str, faults: Sequence[str]) -> None:
        self.plugin = plugin
        self.faults = tuple(faults)
        super().__init__(f"the configuration of plugin {plugin!r}: {'; '.join(faults)}")


class ConfigKeyError(ConfigError, KeyError):
    """A plugin read a key that its configuration does not have.

    Attributes:
        key: the key.
    """

    def __init__(self, plugin: str, key: object) -> None:
        self.key = key
        fault = (
            f"{key} is missing; give it with config={{{key!r}: …}}, or --config {plugin}.{key}=…"
        )
        super().__init__(plugin, [fault])

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which puts the sentence in quotes.
        return str(self.args[0])


class SourceConflictError(HostError):
    """Several files or folders say that they are one plugin; nothing says which is meant.

    Attributes:
        plugin: the id that they all have.
        sources: their paths.
        serving: the one that the plugin is served from, if it is active and that is still there.
    """

    def __init__(self, plugin: str, sources: Sequence[str], serving: str | None = None) -> None:
        self.plugin = plugin
        self.sources = tuple(sources)
        self.serving = serving
        names = " and ".join(map(repr, sources))
        if serving is None:
            says = f"{names} all say that they are plugin {plugin!r}"
            if len(self.sources) == 2:
                says = f"{names} both say that they are plugin {plugin!r}"
        else:
            says = f"{names} says that it is plugin {plugin!r}, which is served from {serving!r}"
        super().__init__(f"{says}; give one of them another id, or keep only one of them here")


class NestedChangeError(HostError):
    """Code that a change runs (a plugin's link, init or shutdown) asked for another change."""


class NoEpochError(HostError):
    """The request has no epoch: `epochal.asgi.EpochMiddleware` is not in its application."""


class NoStoreError(HostError):
    """The call needs a store, and the runtime was made without one."""

    def __init__(self, call: str) -> None:
        super().__init__(
            f"{call} needs a store: this runtime keeps no history; make it with Runtime(store=path)"
        )


class NoShareError(HostError):
    """The runtime has no share, from which other processes could have its epochs."""

    def __init__(self) -> None:
        super().__init__(
            "other processes get the code of an epoch from a share, and this runtime has none: "
            "make it with Runtime(share='/mnt/epochs') or any address that fsspec reaches"
        )


class LocalExportError(HostError):
    """An export, or one that its plugin has beside it, belongs to one process.

    Attributes:
        exports: those that belong to one process, as `kind name`.
    """

    def __init__(self, name: str, exports: Sequence[str]) -> None:
        self.exports = tuple(exports)
        super().__init__(
            f"{name} is not sent to other processes: its plugin, or one that it requires, has "
            f"{', '.join(self.exports)}, which belongs to one process; if each process may have "
            f"an instance of its own, ask for epoch.remote(local=True)"
        )


class NotKeptError(HostError, LookupError):
    """The generation, version or epoch is not in the store's history."""


class OperationEndedError(HostError):
    """The operation's `with` block is over; its epoch is no longer pinned."""


class RuntimeClosedError(HostError):
    """The runtime was closed; it takes no more changes and serves no more operations."""


class ForkedRuntimeError(HostError):
    """The runtime was made in another process, of which this one is a fork.

    A child inherits the pins of threads that it does not have, so a drain in it would never end.
    Make a new `Runtime` in the child.
    """


# --- theirs ------------------------------------------------------------------------------------


class PluginError(EpochalError):
    """A plugin is at fault; `plugin` is its id (None if the id could not be read)."""

    def __init__(self, message: str, *, plugin: str | None = None) -> None:
        self.plugin = plugin
        super().__init__(message)


class ArtifactError(PluginError):
    """The plugin's bytes cannot be read, or cannot be a plugin."""


class ManifestError(PluginError):
    """The manifest is wrong; `faults` lists every fault, with its place and the expected value."""

    def __init__(self, faults: Sequence[str], *, plugin: str | None = None) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults), plugin=plugin)


class LinkError(PluginError):
    """The plugin's code raised while it was executed or while it registered its exports."""


class ExportError(PluginError):
    """An export does not fit its kind, or a name is exported twice."""


class InitError(PluginError):
    """The plugin's `init` raised."""


class RegistrationError(PluginError):
    """An entry that the plugin registers is in the host's table already, and not its own."""

    def __init__(self, message: str, *, plugin: str | None = None) -> None:
        super().__init__(message, plugin=plugin)


class HandOverError(PluginError):
    """The plugin's state could not be handed over to its next generation."""


class PrepareError(PluginError):
    """The plugin raised as a host of the runtime prepared it, say in a replayed historic call."""

    code = "welcome"


class HookAnswerError(PluginError):
    """A hook's implementation returned a value that the host cannot take, such as a coroutine."""


class GuestError(PluginError):
    """A call into a WebAssembly plugin trapped, failed, or returned data that it may not.

    Attributes:
        function: the function of the module that was called.
        backtrace: the module's functions at a trap, innermost first; empty for no trap.
    """

    def __init__(
        self, message: str, *, plugin: str, function: str, backtrace: Sequence[str] = ()
    ) -> None:
        self.function = function
        self.backtrace = tuple(backtrace)
        trace = "".join(f"\n  in {frame}" for frame in self.backtrace)
        super().__init__(f"{function} of plugin {plugin!r} {message}{trace}", plugin=plugin)


class GuestTimeoutError(GuestError, TimeoutError):
    """A call into a WebAssembly plugin was stopped, at its time limit or by a change."""


class ShutdownError(PluginError):
    """The plugin's `shutdown`, or a deferred resource, raised; the removal continued."""


# --- refused -----------------------------------------------------------------------------------


class RefusedError(EpochalError):
    """The change would break a rule; it changed nothing."""


class CapabilityError(RefusedError):
    """A plugin used or registered something without the capability for it."""

    def __init__(self, message: str, *, plugin: str, capability: str) -> None:
        self.plugin = plugin
        self.capability = capability
        super().__init__(message)


class IncompatibleError(RefusedError):
    """The new version of an export cannot take the place of the old one."""


class EpochMovedError(RefusedError):
    """The current epoch is not the one that the caller expects: another change came first.

    Attributes:
        expected: the id that the caller gave.
        number: the number of the current epoch.
        current: the id of the current epoch.
    """

    def __init__(self, *, expected: str | None, number: int, current: str) -> None:
        self.expected = expected
        self.number = number
        self.current = current
        super().__init__(
            f"the current epoch is {number} ({current[:12]}), not {(expected or '')[:12]}: "
            "another change was published first; look at the active plugins and try again"
        )


class DependencyError(RefusedError):
    """The plugins that the change would leave active do not fit together.

    Attributes:
        plugin: the id of the plugin concerned; None if the message names several.
        distributions: the installed distributions that it lacks, as its manifest names them.
    """

    def __init__(
        self, message: str, *, plugin: str | None = None, distributions: Sequence[str] = ()
    ) -> None:
        self.plugin = plugin
        self.distributions = tuple(distributions)
        super().__init__(message)


class MissingDependencyError(DependencyError):
    """A plugin, or an installed distribution, that a plugin requires is missing."""


class VersionConflictError(DependencyError):
    """A requirement of a plugin is met by name only: the version does not satisfy it."""


class DependencyCycleError(DependencyError):
    """Plugins require each other in a circle; `members` lists them in order."""

    def __init__(self, members: Sequence[str]) -> None:
        self.members = tuple(members)
        circle = " -> ".join((*self.members, self.members[0]))
        super().__init__(f"plugins require each other in a circle: {circle}")


class RequiredByError(DependencyError):
    """A plugin cannot be removed: others require it; `dependents` lists them."""

    def __init__(self, plugin: str, dependents: Sequence[str]) -> None:
        self.dependents = tuple(dependents)
        super().__init__(
            f"plugin {plugin!r} cannot be removed: required by {', '.join(self.dependents)}; "
            "remove those in the same change, or pass cascade=True to take them along",
            plugin=plugin,
        )


# --- the store ---------------------------------------------------------------------------------


class StoreError(EpochalError):
    """The durable store failed; `path` is the file or folder concerned."""

    def __init__(self, message: str, *, path: str | PathLike[str]) -> None:
        self.path = fspath(path)
        super().__init__(message)


class StoreInUseError(StoreError):
    """Another runtime has the store open; `pid` is its process, None if it is unknown."""

    def __init__(self, message: str, *, path: str | PathLike[str], pid: int | None) -> None:
        self.pid = pid
        super().__init__(message, path=path)


class StoreSchemaError(StoreError):
    """The store was written by a later version of Epochal."""


class StoreCorruptError(StoreError):
    """A file of the store has changed; `plugin` is its plugin's id, None for a file of all."""

    def __init__(
        self, message: str, *, path: str | PathLike[str], plugin: str | None = None
    ) -> None:
        self.plugin = plugin
        super().__init__(message, path=path)


class StoreWriteError(StoreError):
    """The store cannot be written; the change was rolled back, and the old epoch serves on."""


class RestoreError(StoreError):
    """The last committed epoch cannot be restored, so the runtime did not start.

    Attributes:
        plugin: the id of the plugin that prevents it; None if no plugin does.
        epoch: the number of the epoch.
    """

    def __init__(
        self, message: str, *, path: str | PathLike[str], epoch: int, plugin: str | None
    ) -> None:
        self.plugin = plugin
        self.epoch = epoch
        super().__init__(message, path=path)


class ShareError(EpochalError):
    """The share cannot be read or written; `path` is the address of the file concerned."""

    def __init__(self, message: str, *, path: str) -> None:
        self.path = path
        super().__init__(message)


class ShareTimeoutError(ShareError, TimeoutError):
    """The share did not answer in time."""


class EpochUnavailableError(EpochalError):
    """This process cannot have an epoch of another process.

    Attributes:
        epoch: the epoch's id.
        worker: this process, `host:pid`.
        plugin: the id of the plugin that prevents it; None if none does.
        distributions: the installed distributions that the plugin needs and this process lacks.
    """

    def __init__(
        self,
        reason: str,
        *,
        epoch: str,
        worker: str,
        plugin: str | None = None,
        distributions: Sequence[str] = (),
    ) -> None:
        self.epoch = epoch
        self.worker = worker
        self.plugin = plugin
        self.distributions = tuple(distributions)
        super().__init__(f"epoch {epoch[:12]} cannot be had on worker {worker}: {reason}")


class DocumentError(EpochalError):
    """A text is not the document of an epoch: damaged, or of a later version of Epochal."""


# --- time --------------------------------------------------------------------------------------


class PhaseTimeoutError(EpochalError, TimeoutError):
    """A phase of a change (plugin code) did not return in time; its thread was abandoned.

    Attributes:
        timeout: the limit, in seconds.
        thread: the name of the abandoned thread.
    """

    def __init__(self, phase: str, plugin: str, timeout: float, thread: str) -> None:
        self.phase = phase
        self.plugin = plugin
        self.timeout = timeout
        self.thread = thread
        super().__init__(
            f"{phase} of plugin {plugin!r} did not return within {timeout:g} s; "
            f"its thread {thread!r} was abandoned and may still run"
        )


class PauseTimeoutError(PhaseTimeoutError):
    """Calls waited for longer than allowed, so no state was handed over.

    Attributes:
        plugins: the ids of the plugins that have state to hand over.
        inside: the calls inside the plugins that did not end in time.
    """

    def __init__(self, plugins: Sequence[str], timeout: float, inside: Sequence[Straggler]) -> None:
        self.phase = "hand over"
        self.plugin = ", ".join(plugins)
        self.timeout = timeout
        self.thread = ""
        self.plugins = tuple(plugins)
        self.inside = tuple(inside)
        waited = f"; it waited for calls: {', '.join(map(str, inside))}" if inside else ""
        EpochalError.__init__(
            self,
            f"hand over of plugin {self.plugin!r} was not done within {timeout:g} s{waited}; "
            "the old version goes on",
        )


class StopTimeoutError(PhaseTimeoutError):
    """A plugin that is stopped before its new version starts was in use for longer than allowed.

    Attributes:
        plugins: the ids of the plugins that were in use.
        holders: what used them, in words.
    """

    def __init__(self, plugins: Sequence[str], timeout: float, holders: Sequence[str]) -> None:
        self.phase = "stop"
        self.plugin = ", ".join(plugins)
        self.timeout = timeout
        self.thread = ""
        self.plugins = tuple(plugins)
        self.holders = tuple(holders)
        uses = "; ".join(holders) or "by a holder that cannot be named"
        EpochalError.__init__(
            self,
            f"plugin {self.plugin!r} is to stop before its new version starts, and was in use for "
            f"longer than {timeout:g} s: {uses}; the old version goes on",
        )


class NoThreadError(EpochalError, RuntimeError):
    """No thread can be started for the call: it has changed nothing, and may be made again."""

    def __init__(self, name: str, reason: object) -> None:
        super().__init__(f"thread {name!r} cannot be started: {reason}; nothing was changed")


class ChangeCancelledError(EpochalError):
    """The change was cancelled before publish; it was rolled back."""


# --- the hand-driven protocol ------------------------------------------------------------------


class DrainError(EpochalError):
    """A generation cannot be drained or finalized."""


class NotActiveError(DrainError):
    """The generation is not in the state that the call needs; `state` is its current state."""

    def __init__(self, message: str, state: LifecycleState) -> None:
        self.state = state
        super().__init__(message)


class UnexpectedTransitionError(DrainError):
    """The call would skip a state; `state` is the current one."""

    def __init__(self, message: str, state: LifecycleState) -> None:
        self.state = state
        super().__init__(message)


class DrainTimeoutError(DrainError, TimeoutError):
    """The drain did not end in time.

    Attributes:
        waited: seconds waited.
        in_flight: the number of leases that are alive.
        holders: what holds the generation in use.
    """

    def __init__(self, waited: float, in_flight: int, holders: Sequence[Holder] = ()) -> None:
        self.waited = waited
        self.in_flight = in_flight
        self.holders = tuple(holders)
        holders_text = "; ".join(map(str, self.holders)) or "holders unknown"
        super().__init__(f"still in use by {in_flight} after {waited:.3f} s: {holders_text}")


class InUseError(DrainError):
    """The generation cannot be finalized: `in_flight` leases are alive."""

    def __init__(self, message: str, in_flight: int) -> None:
        self.in_flight = in_flight
        super().__init__(message)


# --- SQL ---------------------------------------------------------------------------------------


class QueryError(EpochalError):
    """A SQL query could not be planned or run."""


class FunctionError(QueryError):
    """A plugin's function raised inside a query, or returned a value of another type."""

    def __init__(self, message: str, *, function: str) -> None:
        self.function = function
        super().__init__(message)


class QueryTimeoutError(QueryError, TimeoutError):
    """The query did not end within its time limit."""


class QueryCancelledError(QueryError):
    """The query was cancelled before it ended."""


class BusyError(QueryError):
    """No room for a query: too many are being planned, or memory is short. Try again later."""

    def __init__(
        self, message: str = "too many queries are being planned at once; try again in a moment"
    ) -> None:
        super().__init__(message)


# --- calls of tools ----------------------------------------------------------------------------


class ToolError(EpochalError):
    """A call of an agent's tool did not give a result; `tool` is the tool's full name."""

    def __init__(self, message: str, *, tool: str) -> None:
        self.tool = tool
        super().__init__(message)


class ToolArgumentError(ToolError, ValueError):
    """The arguments do not fit the tool: `faults` has a line each, `schema` what fits."""

    def __init__(self, tool: str, faults: Sequence[str], schema: Mapping[str, object]) -> None:
        self.faults = tuple(faults)
        self.schema = schema
        super().__init__(f"the arguments of {tool} do not fit: {'; '.join(faults)}", tool=tool)


class ToolChangedError(ToolError):
    """The tool has changed since its caller saw it, or is gone."""


class ToolFailedError(ToolError):
    """The plugin's code raised, or returned something else than it declares."""


class ToolTimeoutError(ToolError, TimeoutError):
    """The call did not end within its time limit."""


class ToolCancelledError(ToolError):
    """The caller gave the call up."""


def format_error(error: BaseException) -> str:
    """An exception in one line: type, first line of its text, place in the plugin that raised it.

    Never raises, so it is safe for errors of plugins: `KeyError: 'k' (plugins/geo.py, line 7)`. An
    error that passed no plugin's code has no place.
    """
    name = type(error).__name__
    place = place_of_error(error)
    try:
        if isinstance(error, SyntaxError) and _TAGGED.fullmatch(error.filename or ""):
            return f"{name}: {error.msg}{_shown_place(error.filename or '', error.lineno)}"
        text = str(error).strip()
    except BaseException as worse:  # noqa: BLE001  foreign code, and must be reported
        return f"{name} (no text: its str() raised {type(worse).__name__}){place}"
    text = text.splitlines()[0] if text else ""
    if place and text.endswith(place):  # an error that was made of another one
        place = ""
    return f"{name}: {text}{place}" if text else f"{name}{place}"


def reason_of(error: BaseException) -> str:
    """The reason for which a kind refuses: all its words. Another error as `format_error` has it.

    A `TypeError` or `ValueError` is how a kind refuses, so its class says nothing; one that the
    plugin's code raised is a fault there.
    """
    if isinstance(error, (TypeError, ValueError)) and not place_of_error(error):
        with suppress(BaseException):  # foreign code
            return str(error) or format_error(error)
    return format_error(error)


def place_of_error(error: BaseException, *, in_full: bool = True) -> str:
    """` (plugins/geo.py, line 7)`: the innermost frame of the plugin whose code was called first.

    Frames of other plugins, and of distributions that it carries with it in `_vendor`, are passed
    over. Empty if the error passed no plugin's code.

    Args:
        error: the error, with its traceback.
        in_full: whether to show the file's path, and not its name alone.
    """
    entry, plugin, found = traceback_of(error), None, ""
    while entry is not None:
        code = entry.tb_frame.f_code
        tagged = _TAGGED.fullmatch(code.co_filename)
        if tagged and not (found and "/_vendor/" in code.co_filename):
            top = str(entry.tb_frame.f_globals.get("__name__")).partition(".")[0]
            plugin = plugin or (tagged[2], top)
            if plugin == (tagged[2], top):
                found = _shown_place(code.co_filename, entry.tb_lineno, in_full=in_full)
        entry = entry.tb_next
    return found


def traceback_of(error: BaseException) -> TracebackType | None:
    """The traceback of an error, whose class may answer for the attribute, or refuse to."""
    found: TracebackType | None = _TRACEBACK.__get__(error)
    return found


def _shown_place(file: str, line: int | None, *, in_full: bool = True) -> str:
    path = file.rpartition("@")[0]
    return f" ({path if in_full else PurePath(path).name}, line {line})"


def _known(word: str, names: Sequence[str]) -> str:
    return f"{word}: {', '.join(names)}" if names else f"{word}: none"
