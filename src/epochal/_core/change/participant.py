"""A host that takes part in the changes of a runtime.

Kinds judge exports by themselves, whatever runtime they are loaded into. A host may have rules of
its own about which plugins are active together (the specifications of a plugin manager), and may
have to prepare a newcomer before it can be called. So each change asks the participants of its
runtime, after everything else was staged:

1. `check`: would this epoch do, and which of the newcomers are to be prepared?
2. `prepare`: once for each of these, dependencies first, under the time limit of a phase.
3. `finish`: the epoch is current, or the change was rolled back.

An error of `check` or `prepare` rolls the change back. A change without participants has none of
these steps.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from epochal._core.change.plan import Step
from epochal._core.introspect.tracebacks import without_frames_of_causes, without_variables
from epochal.errors import EpochalError, IncompatibleError, PrepareError, format_error
from epochal.report import StepName

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from epochal._core.change.plan import Deadline
    from epochal._core.change.plugin_calls import StepRunner
    from epochal._core.change.staging import Staging
    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.generation import Generation


class Participant(Protocol):
    """A host that takes part in the changes of a runtime; see `Runtime.join`.

    Every method is called on the thread of the change.
    """

    def check(self, epoch: Epoch, newcomers: Sequence[Generation]) -> Sequence[Generation]:
        """Look at the epoch that a change would publish.

        It must not call the plugins' code, nor keep the epoch other than weakly.

        Args:
            epoch: the epoch.
            newcomers: the generations that are new in it, dependencies first.

        Returns:
            The newcomers that it wants to prepare.

        Raises:
            Exception: the epoch will not do, and the change is rolled back; the caller gets an
                `EpochalError` as it is, and any other within an `IncompatibleError`.
        """
        ...

    def prepare(self, generation: Generation) -> None:
        """Prepare a newcomer. May call its code, as `init` did; no other code can call it yet.

        It must hold no lease and no epoch meanwhile: if the plugin's code does not return, its
        thread is abandoned with all its frames. `generation.exports` has the targets.

        Raises:
            BaseException: the change is rolled back.
        """
        ...

    def finish(self, *, published: bool) -> Sequence[Callable[[], object]]:
        """The change has ended; called once after each `check`, also one that raised.

        It must not raise, nor call foreign code.

        Args:
            published: whether the epoch is current; otherwise the change was rolled back.

        Returns:
            What to call once the next change may run. An error of these undoes nothing, and is
            raised to the caller of the change.
        """
        ...


class Participants:
    """The participants of one change.

    Belongs to the thread that has the change.

    Args:
        staging: the epoch that they are asked about.
        runner: runs the code that prepares newcomers.
        deadline: its time limit.
    """

    __slots__ = ("_asked", "_deadline", "_runner", "_staging")

    def __init__(self, staging: Staging, runner: StepRunner, deadline: Deadline) -> None:
        self._staging: Final = staging
        self._runner: Final = runner
        self._deadline: Final = deadline
        self._asked: Final[list[Participant]] = []

    def check(self, participant: Participant, _: Step) -> list[Step]:
        """Ask one of them; returns the steps that prepare newcomers for it.

        Raises:
            IncompatibleError: it refuses the change.
            EpochalError: it refuses the change by an error of its own.
        """
        # Before the call: `finish` is called also after a check that raised.
        self._asked.append(participant)
        try:
            # No local variable has the epoch: the error that leaves here refers to this frame.
            newcomers = participant.check(self._staging.built, tuple(self._staging.generations))
        except EpochalError as error:
            # Its frames hold the epoch, as those of its causes do.
            raise without_frames_of_causes(error).with_traceback(None) from None
        except Exception as error:  # noqa: BLE001  a host's own, of any type
            refusal = f"a host of this runtime refuses the change: {format_error(error)}"
            raise IncompatibleError(refusal) from without_variables(without_frames_of_causes(error))
        return [
            Step(
                StepName.PREPARE,
                generation.plugin,
                f"for {name_of(participant)}",
                do=partial(self._prepare, participant, generation),
                deadline=self._deadline,
            )
            for generation in newcomers
        ]

    def _prepare(self, participant: Participant, generation: Generation, step: Step) -> None:
        self._runner.call_plugin(step, generation, partial(_prepare, participant, generation))

    def finish(self, *, published: bool) -> list[Callable[[], object]]:
        """Report the change's end to those that were asked; returns what is to be called."""
        asked = self._asked.copy()
        self._asked.clear()
        return [call for participant in asked for call in participant.finish(published=published)]

    def roll_back(self) -> Sequence[str]:
        """Report to all of them that the change was rolled back."""
        self.finish(published=False)
        return ()


class Preparation:
    """Takes part in one change: calls what its caller passed as `prepare=`.

    Args:
        prepare: is called with the epoch that the change would publish.
    """

    __slots__ = ("_prepare",)

    def __init__(self, prepare: Callable[[Epoch], object]) -> None:
        self._prepare: Final = prepare

    def check(self, epoch: Epoch, newcomers: Sequence[Generation]) -> Sequence[Generation]:
        """Call it; its error refuses the change."""
        self._prepare(epoch)
        return ()

    def prepare(self, generation: Generation) -> None:
        """Not called: `check` asks for no newcomer."""

    def finish(self, *, published: bool) -> Sequence[Callable[[], object]]:
        """Nothing is left to do."""
        return ()


def name_of(participant: Participant) -> str:
    """A participant, as a step names it."""
    return type(participant).__name__


def _prepare(participant: Participant, generation: Generation) -> None:
    """Prepare a newcomer; what that leaves in the process is the newcomer's own."""
    try:
        with generation.taking_over():
            participant.prepare(generation)
    except EpochalError:
        raise
    except BaseException as error:
        raise PrepareError(
            f"plugin {generation.plugin!r} raised {format_error(error)} as a host prepared it",
            plugin=generation.plugin,
        ) from error
