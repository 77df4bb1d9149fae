"""A party to a runtime's changes: a host that has a say in each, and is told how it went.

Kinds judge exports by themselves, whatever runtime they are loaded into. A host may have rules of
its own about what is active together (the specifications of a plugin manager), and things to say
to whoever comes in, before anybody else can call it. So each change asks the parties of its
runtime, after everything else was staged:

1. `check`: would this epoch do? Who of those that come in is to be met?
2. `welcome`: once for each of these, dependencies first, under the time limit of a phase.
3. `settle`: the epoch is current, or the change went back.

What `check` and `welcome` raise rolls the change back. A change without parties does none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.generation import Generation


class Participant(Protocol):
    """A host that has a say in the changes of a runtime. Every call is on the change's thread."""

    def check(self, epoch: Epoch, newcomers: Sequence[Generation]) -> Sequence[Generation]:
        """Look at the epoch that a change would publish.

        It must not call the plugins' code, nor keep the epoch but weakly.

        Args:
            epoch: the epoch.
            newcomers: the generations that are new in it, dependencies first.

        Returns:
            Those that it wants to welcome.

        Raises:
            Exception: it will not do; an `EpochalError` is the caller's answer as it is.
        """
        ...

    def welcome(self, generation: Generation) -> None:
        """Meet a newcomer. May call its code, as `init` did; nobody else can call it yet.

        It must hold no lease and no epoch meanwhile: what a plugin's code does not return from is
        left behind with its frames (`epochal._core.change.plugin_calls`). `generation.exports` has
        the targets.

        Raises:
            BaseException: the change is rolled back.
        """
        ...

    def settle(self, *, published: bool) -> Sequence[Callable[[], object]]:
        """The change has ended; called once after each `check`, also one that raised.

        It must not raise, nor call foreign code.

        Returns:
            What to call when the change has given its turn back. What these raise undoes nothing,
            and is the answer of whoever asked for the change.
        """
        ...
