"""Programs over `epochal.pluggy`: a host registers objects and makes calls during a change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pluggy

from epochal.errors import ExportError
from epochal.pluggy import PluginManager
from epochal.pluggy import _manager as managers
from tests.interleavings.exploring import Program, every, replaced, sampled
from tests.interleavings.hosting import artifact, changes_in_their_callers, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import SimpleNamespace

    from epochal._core.generation.epoch import Epoch

_MANAGER: Final = "pluggy/_manager.py:PluginManager."
REGISTERING: Final = (
    "_core/generation/epoch.py:EpochStore.publish",
    *(_MANAGER + name for name in ("check", "finish", "_has_altered")),
)
CALLING: Final = (
    "_core/generation/epoch.py:EpochStore.publish",
    *(_MANAGER + name for name in ("check", "finish", "call_historic", "_take_ready", "_catch_up")),
)

received: Final[list[int]] = []
"""The historic calls that the newcomer received in this run."""

_IMPLEMENTS = """
import pluggy
from tests.interleavings.managing import received

@pluggy.HookimplMarker("stepped")
def started(x):
    received.append(x)
"""
NEWCOMER = artifact("geo", 1, _IMPLEMENTS)


class Specs:
    @pluggy.HookspecMarker("stepped")(historic=True)
    def started(self, x: int) -> None: ...


class Object:
    """An object that the host registers."""


def managed(history: int) -> Callable[[], SimpleNamespace]:
    """A setup: a runtime with a manager, and that many historic calls made before."""
    begin = serving()

    def setup() -> SimpleNamespace:
        state = begin()
        received.clear()
        state.pm = PluginManager("stepped", state.rt)
        state.pm.add_hookspecs(Specs)
        for number in range(history):
            state.pm.hook.started.call_historic(kwargs={"x": number})
        return state

    return setup


def loading(state: Any) -> None:
    try:
        state.rt.load(NEWCOMER)
    except ExportError:
        state.refused = True


def registering(state: Any) -> None:
    try:
        state.pm.register(Object(), "geo")
    except ValueError:
        state.seen.append("refused")


def calling(state: Any) -> None:
    state.pm.hook.started.call_historic(kwargs={"x": 7})


def one_has_the_name(state: Any) -> None:
    refused = [*(["the change"] if state.refused else ()), *state.seen]
    assert len(refused) == 1, refused
    (name,) = [name for name, _ in state.pm.list_name_plugin()]
    assert name == "geo"
    assert isinstance(state.pm.get_plugin("geo"), Object) == state.refused


def received_once(history: int) -> Callable[[Any], None]:
    def check(state: Any) -> None:
        assert not state.refused
        assert sorted(received) == [*range(history), 7], received

    return check


_check = PluginManager.check


def check_first(self: PluginManager, epoch: Epoch, newcomers: Any) -> Any:
    """Read the registrations, and announce the change only afterwards."""
    self._make(epoch, self._state, older=None, strict=True)
    return _unchecked(self, epoch, newcomers)


def _unchecked(self: PluginManager, epoch: Epoch, newcomers: Any) -> Any:
    fitting = self._fitting
    view = fitting(epoch, self._state)
    self._fitting = lambda *_: view  # type: ignore[method-assign]
    try:
        return _check(self, epoch, newcomers)
    finally:
        self._fitting = fitting  # type: ignore[method-assign]


def none_ready(self: PluginManager, call: Any) -> list[Any]:
    """Leave pending newcomers to the change, which does not replay the calls again."""
    return []


PROGRAMS = (
    Program(
        "register-against-load",
        "of an object and a plugin with the same name one is registered, and the other refused",
        "a change reads the registrations before it announces itself",
        managed(0),
        (loading, registering),
        one_has_the_name,
        replaced(PluginManager, "check", check_first),
        ci=sampled(60, preemptions=2),
        soak=every(1, at_least=150),
        where=REGISTERING,
        around=changes_in_their_callers,
    ),
    Program(
        "historic-call-against-load",
        "a newcomer receives a historic call once, whenever the call is made",
        "a newcomer that has received all earlier calls misses a later one",
        managed(0),
        (loading, calling),
        received_once(0),
        replaced(managers.PluginManager, "_take_ready", none_ready),
        ci=sampled(60, preemptions=2),
        soak=every(1, at_least=150),
        where=CALLING,
        around=changes_in_their_callers,
    ),
    Program(
        "historic-call-against-replay",
        "a newcomer that is receiving earlier historic calls receives a new one once",
        "a newcomer that has received all earlier calls misses a later one",
        managed(2),
        (loading, calling),
        received_once(2),
        replaced(managers.PluginManager, "_take_ready", none_ready),
        ci=sampled(60, preemptions=2),
        soak=every(1, at_least=150),
        where=CALLING,
        around=changes_in_their_callers,
    ),
)
