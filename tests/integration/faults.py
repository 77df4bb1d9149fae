"""Raises one exception between two chosen bytecodes of the core, and checks what it leaves.

The bytecodes are those that an action really runs, of the files in `CORE`, in the thread of its
caller or on the threads of its change. `places` lists them; `Fault` raises before one of them, the
first time that it is reached. A place in a callback of a weak reference or in `__del__` is one too:
there the interpreter prints the exception and goes on.
"""

from __future__ import annotations

import dis
import faulthandler
import gc
import sys
import threading
from contextlib import contextmanager, suppress
from functools import cache
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.conftest import tool
from tests.notes import notes_of

from epochal import LifecycleState, Runtime
from epochal.errors import EpochalError, InitError, RuntimeClosedError
from epochal.loaders import _module_registry as registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType, TracebackType

CORE = ("epochal/_core/", "epochal/runtime.py")
LIMIT_S = 30
FOR_EVER_S = 120
"""No change that goes on takes so long, also where other programs have most of the machine."""
CALLER, CHANGE = "caller", "change"

GEO = """
@tool
def f(): return 1

def init(ctx): pass
def shutdown(): pass
def export_state(): return 1
def import_state(state, from_version): pass
"""
UNITS = "@tool\ndef f(): return 1\n"
BAD = "def init(ctx): 1 / 0\n"


class Place(NamedTuple):
    """A bytecode."""

    file: str
    function: str
    first_line: int
    source_line: int
    offset: int

    def __str__(self) -> str:
        return f"{self.file.rpartition('epochal/')[2]}:{self.function}+{self.offset}"


class World:
    """A runtime with two plugins, and the actions that faults meet."""

    def __init__(self, plugins: Any) -> None:
        self.geo = plugins.write("geo", GEO)
        self.units = plugins.write("units", UNITS, requires=["geo"])
        self.bad = plugins.write("bad", BAD)
        self.threads = change_threads()
        self.others = set(registry._namespaces.values())
        self.rt = self.begin()

    def begin(self) -> Runtime:
        rt = Runtime(drain_timeout=LIMIT_S, phase_timeout=LIMIT_S)
        rt.load(self.geo)
        return rt

    def load(self) -> None:
        self.rt.load(self.units)

    def reload(self) -> None:
        self.rt.reload("geo")

    def remove(self) -> None:
        self.rt.remove("units")

    def close(self) -> None:
        self.rt.close()

    def change(self) -> None:
        with self.rt.change() as change:
            change.reload("geo")
            change.load(self.units)

    def refused(self) -> None:
        with suppress(InitError), self.rt.change() as change:
            change.reload("geo")
            change.load(self.bad)

    def collected(self) -> None:
        """Reload what only garbage uses: its drain waits for the collector."""
        gc.disable()
        try:
            cycle = [self.rt.epoch]
            cycle.append(cycle)
            del cycle
            self.rt.reload("geo")
        finally:
            gc.enable()

    def operation(self) -> None:
        with self.rt.operation("work") as operation:
            operation[tool]["geo.f"]()

    def lease(self) -> None:
        with self.rt.generation("geo").lifecycle.lease("work"):
            pass

    # --- what an action needs, and what it must leave ---------------------------------------------

    def prepare(self, action: str) -> None:
        """Have "units" loaded for an action that removes it, and for no other."""
        try:
            self.rt._queue.check_open()
        except RuntimeClosedError:
            self.rt = self.begin()
        loaded = "units" in self.rt.epoch.generations
        if loaded and action != "remove":
            self.rt.remove("units")
        elif not loaded and action == "remove":
            self.rt.load(self.units)

    def check(self, seen: int | None) -> None:
        """No lost turn, no half epoch, no thread left, and the next change works.

        Args:
            seen: the epoch's number when the caller had the exception, if it had no note on it.
        """
        rt = self.rt
        within_limit(lambda: rt._queue.wait(None))
        assert not rt._epochs.turn._queue, "the turn is lost"
        assert seen is None or rt.epoch.number == seen, "it committed behind the caller's back"
        for generation in rt.epoch.generations.values():
            assert generation.state is LifecycleState.ACTIVE
        for plugin in rt.epoch.generations:
            assert rt.epoch[tool][f"{plugin}.f"]() == 1
        if rt._queue._closings:
            assert not rt.epoch.generations, "it is closed, and nobody can shut its plugins down"
        else:
            cut = within_limit(lambda: rt.reload("geo"))
            assert cut.published
            assert cut.drained, cut
        within_limit(lambda: rt._queue.wait(None))
        serving = set(rt.epoch.generations.values())
        left = [g for g in rt._epochs.generations.live() if g not in serving]
        left = [g for g in left if g.state is not LifecycleState.REMOVED]
        assert not left, left
        served = [n.owner() for n in registry._namespaces.copy().values() if n not in self.others]
        assert len(served) == len(set(served)), served
        assert set(served) == serving, served
        for thread in change_threads() - self.threads:
            thread.join(FOR_EVER_S)
        running = change_threads() - self.threads
        assert not running, running


def change_threads() -> set[threading.Thread]:
    """The threads of changes that run."""
    return {
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("epochal change") and thread.is_alive()
    }


def call_failing(world: World, action: str, *expected: type[BaseException]) -> int | None:
    """Run an action that fails; returns the epoch's number at that time, if no note is on it."""
    try:
        getattr(world, action)()
    except expected as error:
        # A note says that the change commits all the same.
        return None if notes_of(error) else world.rt.epoch.number
    return None


def within_limit(work: Callable[[], Any]) -> Any:
    """Call on a thread of its own: a turn that is lost would be waited for, for ever."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append((work(), None))
        except BaseException as error:  # noqa: BLE001  raised below
            result.append((None, error))

    thread = threading.Thread(target=run, daemon=True, name="test")
    thread.start()
    thread.join(FOR_EVER_S)
    if not result:
        faulthandler.dump_traceback()
    assert result, "it waits for ever"
    value, error = result.pop()
    if error is not None:
        raise error
    return value


class _Fault(BaseException):
    """Has a traceback without the tracer's own frame, which refers to the core's frames.

    No error that comes from the core, and no signal's, has such a frame.
    """

    @property
    def __traceback__(self) -> TracebackType | None:  # type: ignore[override]
        first = traceback = BaseException.__traceback__.__get__(self)
        while traceback is not None and (following := traceback.tb_next) is not None:
            if following.tb_frame.f_code is Tracer.step.__code__:
                traceback.tb_next = None
            traceback = traceback.tb_next
        return first

    @__traceback__.setter
    def __traceback__(self, traceback: TracebackType | None) -> None:
        BaseException.__traceback__.__set__(self, traceback)


class Interruption(_Fault, KeyboardInterrupt):
    """As a signal handler raises it."""


class NoMemoryError(_Fault, MemoryError):
    """As the interpreter raises it."""


class Tracer:
    """Sees the bytecodes of the core in the threads of one role.

    Args:
        role: CALLER or CHANGE.
        target: the place to raise at; None to list the places.
        error: the exception.
    """

    def __init__(self, role: str, target: Place | None = None, error: type = NoMemoryError) -> None:
        self.role, self.target, self.error = role, target, error
        self.seen: dict[Place, None] = {}
        self.raised = False
        self._caller = threading.get_ident()

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        code = frame.f_code
        if not any(part in code.co_filename for part in CORE) or self.raised:
            return None
        if self.target is not None and (self.target.function, self.target.first_line) != (
            code.co_qualname,
            code.co_firstlineno,
        ):
            return None
        if not self._is_of_role():
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self.step

    def _is_of_role(self) -> bool:
        if self.role == CALLER:
            return threading.get_ident() == self._caller
        return threading.current_thread().name.startswith("epochal change")

    def step(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "opcode":
            code = frame.f_code
            place = Place(
                code.co_filename,
                code.co_qualname,
                code.co_firstlineno,
                frame.f_lineno or 0,
                frame.f_lasti,
            )
            if self.target is None:
                if place.offset not in _leaving_with(code):
                    self.seen[place] = None
            elif place == self.target and not self.raised:
                self.raised = True
                del frame  # the error's traceback keeps this one
                raise self.error("a fault")
        return self.step

    @contextmanager
    def tracing(self) -> Iterator[None]:
        hook, unraisable = threading.excepthook, sys.unraisablehook
        threading.excepthook = sys.unraisablehook = lambda _: None
        sys._getframe().f_trace_opcodes = True  # CPython 3.12 asks for it before the first trace
        threading.settrace(self)
        if self.role == CALLER:
            sys.settrace(self)
        try:
            yield
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            threading.excepthook, sys.unraisablehook = hook, unraisable


@cache
def _leaving_with(code: CodeType) -> frozenset[int]:
    """The bytecodes between the end of a `with` block and the call of its `__exit__`.

    The interpreter raises nothing there, neither an error nor what a signal handler raises.
    """
    found: set[int] = set()
    run: list[dis.Instruction] = []
    for one in dis.get_instructions(code):
        if one.opname == "NOP":  # the line of a `try`, which no handler covers: nothing fails there
            found.add(one.offset)
        if one.opname in {"SWAP", "LOAD_CONST", "PRECALL", "NOP"}:
            run.append(one)
            continue
        nones = [i for i in run if i.opname == "LOAD_CONST" and i.argval is None]
        if one.opname == "CALL" and one.arg == 2 and len(nones) >= 3:
            found.update(i.offset for i in (*run, one))
        run.clear()
    return frozenset(found)


ACTIONS = ("load", "reload", "remove", "change", "refused", "close", "operation", "lease")
CASES = [
    (action, role)
    for action in ACTIONS
    for role in (CALLER, CHANGE)
    if role == CALLER or action not in {"operation", "lease"}
]


def places(world: World, action: str, role: str) -> list[Place]:
    """The bytecodes of the core that an action runs in that role."""
    world.prepare(action)
    tracer = Tracer(role)
    with tracer.tracing():
        getattr(world, action)()
        world.rt._queue.wait(LIMIT_S)
    return list(tracer.seen)


def fail_at(world: World, action: str, role: str, place: Place) -> bool:
    """Run an action with one fault and check what it leaves; returns whether it was raised."""
    world.prepare(action)
    error = Interruption if role == CALLER else NoMemoryError
    tracer = Tracer(role, place, error)
    with tracer.tracing():
        begun = monotonic()
        seen = call_failing(world, action, error, EpochalError)
        spent_s = monotonic() - begun
    assert spent_s < LIMIT_S, "it waited until the end of its limit"
    world.check(seen)
    return tracer.raised
