"""A host that refuses changes of tools which break callers that saw the old schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary, ref

from epochal.errors import IncompatibleError
from epochal.kinds.tool import breaking_choice, refusal_of, tool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from epochal import Epoch, Generation
    from epochal.runtime import Runtime


class BreakingChanges:
    """Takes part in the changes of a runtime, and refuses those that break callers of tools.

    Belongs to the thread that has the change: ``_faults`` is written by `check` and read by
    `prepare`, both of one change.

    Args:
        rt: the runtime.
    """

    def __init__(self, rt: Runtime) -> None:
        self._rt: Final = ref(rt)  # which `_joined` would keep otherwise
        self._faults: dict[str, list[str]] = {}

    def check(self, epoch: Epoch, newcomers: Sequence[Generation]) -> Sequence[Generation]:
        """Compare the tools of each newcomer with those that serve."""
        self._faults, rt = {}, self._rt()
        plugins = {generation.plugin for generation in newcomers}
        now = {name: offered.facts for name, offered in epoch[tool].items()}
        was = {} if rt is None else {n: offered.facts for n, offered in rt.epoch[tool].items()}
        for name, facts in was.items():
            if facts.plugin in plugins:
                after = now.get(name)
                faults = ["it is gone"] if after is None else facts.faults_after(after)
                texts = self._faults.setdefault(facts.plugin, [])
                texts.extend(f"{name}: {text}" for text in faults)
        return [one for one in newcomers if self._faults.get(one.plugin)]

    def prepare(self, generation: Generation) -> None:
        """Refuse a newcomer that breaks callers, unless the reload accepts that.

        Raises:
            IncompatibleError: it does; the message has each difference.
        """
        # Here and not in `check`: this runs in the context that the change was asked for in.
        if breaking_choice() != "accept":
            raise IncompatibleError(f"{generation}: {refusal_of(self._faults[generation.plugin])}")

    def finish(self, *, published: bool) -> Sequence[Callable[[], object]]:
        """Forget what was found."""
        self._faults = {}
        return ()


_joined: Final[WeakKeyDictionary[Runtime, BreakingChanges]] = WeakKeyDictionary()


def refuse_breaking(rt: Runtime) -> None:
    """Have a runtime refuse changes of tools that break callers which saw the old schema.

    A reload within `with breaking("accept")` goes through nevertheless. Idempotent.

    Args:
        rt: the runtime.
    """
    if rt not in _joined:
        rt.join(_joined.setdefault(rt, BreakingChanges(rt)))
