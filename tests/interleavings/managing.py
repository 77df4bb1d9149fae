"""Programs over `epochal.pluggy`: registrations of a host while a change is under way."""

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
TELLING: Final = (
    "_core/generation/epoch.py:EpochStore.publish",
    *(_MANAGER + name for name in ("check", "finish", "call_historic", "_take_ready", "_catch_up")),
)

received: Final[list[int]] = []
"""The historic calls that the newcomer received in this run."""

_TAKES_PART = """
import pluggy
from tests.interleavings.managing import received

@pluggy.HookimplMarker("stepped")
def started(x):
    received.append(x)
"""
NEWCOMER = artifact("geo", 1, _TAKES_PART)


class Specs:
    @pluggy.HookspecMarker("stepped")(historic=True)
    def started(self, x: int) -> None: ...


class Object:
    """An object that the host registers."""


def managed(history: int) -> Callable[[], SimpleNamespace]:
    """A runtime with a manager that has made so many historic calls."""
    begin = serving()

    def setup() -> SimpleNamespace:
        at = begin()
        received.clear()
        at.pm = PluginManager("stepped", at.rt)
        at.pm.add_hookspecs(Specs)
        for number in range(history):
            at.pm.hook.started.call_historic(kwargs={"x": number})
        return at

    return setup


def loading(at: Any) -> None:
    try:
        at.rt.load(NEWCOMER)
    except ExportError:
        at.refused = True


def registering(at: Any) -> None:
    try:
        at.pm.register(Object(), "geo")
    except ValueError:
        at.seen.append("refused")


def calling(at: Any) -> None:
    at.pm.hook.started.call_historic(kwargs={"x": 7})


def one_has_the_name(at: Any) -> None:
    refused = [*(["the change"] if at.refused else ()), *at.seen]
    assert len(refused) == 1, refused
    (name,) = [name for name, _ in at.pm.list_name_plugin()]
    assert name == "geo"
    assert isinstance(at.pm.get_plugin("geo"), Object) == at.refused


def told_once(history: int) -> Callable[[Any], None]:
    def check(at: Any) -> None:
        assert not at.refused
        assert sorted(received) == [*range(history), 7], received

    return check


_check = PluginManager.check


def looked_first(self: PluginManager, epoch: Epoch, newcomers: Any) -> Any:
    """Read the state, and only then announce the change."""
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


def nobody_ready(self: PluginManager, call: Any) -> list[Any]:
    """Leave the newcomers to the change, which reads the history no more."""
    return []


PROGRAMS = (
    Program(
        "register-against-load",
        "of an object and a plugin of one name one comes in, and the other is refused",
        "a change reads the registrations, and announces itself afterwards",
        managed(0),
        (loading, registering),
        one_has_the_name,
        replaced(PluginManager, "check", looked_first),
        ci=sampled(60, preemptions=2),
        soak=every(1, at_least=150),
        where=REGISTERING,
        around=changes_in_their_callers,
    ),
    Program(
        "historic-call-against-load",
        "a newcomer receives a historic call once, whenever it is made",
        "a newcomer that has received the history does not receive later calls",
        managed(0),
        (loading, calling),
        told_once(0),
        replaced(managers.PluginManager, "_take_ready", nobody_ready),
        ci=sampled(60, preemptions=2),
        soak=every(1, at_least=150),
        where=TELLING,
        around=changes_in_their_callers,
    ),
    Program(
        "historic-call-against-telling",
        "also a newcomer that is receiving the history at that time",
        "a newcomer that has received the history does not receive later calls",
        managed(2),
        (loading, calling),
        told_once(2),
        replaced(managers.PluginManager, "_take_ready", nobody_ready),
        ci=sampled(60, preemptions=2),
        soak=every(1, at_least=150),
        where=TELLING,
        around=changes_in_their_callers,
    ),
)
