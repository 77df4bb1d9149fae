"""Bringing the last committed epoch back, when a runtime starts on a store.

All of the epoch's plugins come up in one change, from the stored bytes, configuration and grants.
It is a change like any other but that it is not committed again: it publishes the very epoch that
the journal has, with its number and its id. Only the new generations' numbers are noted.

Where that cannot be done, `restore="strict"` refuses to start and says what is in the way.
`restore="available"` goes on without the plugins in the way and those that require them; what is
left is another epoch, so it is committed as one, and the one before stays in the history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NoReturn, TypeAlias, get_args

from epochal._core.change.journal import Commit
from epochal._core.change.plan import PlannedChange, Verb
from epochal._core.generation.epoch import Epoch
from epochal.errors import EpochalError, MissingDependencyError, RestoreError, StoreCorruptError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from epochal._core.change.journal import Journal, Refusal
    from epochal._core.change.transaction import RunningChange
    from epochal._core.generation.epoch import EpochStore
    from epochal._core.plugin.candidate import Candidate
    from epochal.store.records import EpochRecord
    from epochal.store.store import Store

    Begin: TypeAlias = Callable[[Sequence[PlannedChange], Journal], RunningChange]

Restore: TypeAlias = Literal["strict", "available"]
"""What to do where the last epoch cannot be brought back whole."""


def restore_last(
    store: Store,
    mode: Restore,
    epochs: EpochStore,
    begin: Begin,
) -> None:
    """Bring the last committed epoch of a store back.

    Args:
        store: where it is.
        mode: what to do where it cannot be brought back whole.
        epochs: the runtime's; its numbers go on from the store's.
        begin: begins a change, with a journal of its own.

    Raises:
        RestoreError: it cannot be brought back; the cause is its cause.
        StoreCorruptError: the journal has lost its last commits (strict only).
    """
    if mode not in get_args(Restore):
        raise ValueError(f"restore={mode!r}: expected 'strict' or 'available'")
    _check_end(store, mode)
    epochs.continue_numbers(store.numbers())
    last = store.last()
    if last is None:
        return
    found, faults = store.readable(last.number)
    run = _Restoration(store, last, found)
    for plugin, error in faults.items():
        run.leave_out(plugin, error, mode)
    while not run.attempt(epochs, begin, mode):
        pass  # each round leaves out at least one more


def _check_end(store: Store, mode: Restore) -> None:
    """Notice a journal that has lost its last commits."""
    lost = store.lost()
    if lost is None:
        return
    if mode == "available":
        store.accept_loss()
        return
    last = store.last()
    journal = store.folder / "journal.db"
    raise StoreCorruptError(
        f"{journal} or its -wal file has lost its end: epoch {lost} was committed, the last that "
        f"is there is {last.number if last else 0}; put both back from a backup, or start with "
        "restore='available' to go on from what is there",
        path=journal,
    )


class _Restoration:
    """One restart: what comes back, and what is left out."""

    def __init__(self, store: Store, last: EpochRecord, found: Mapping[str, Candidate]) -> None:
        self._store: Final = store
        self._last: Final = last
        self._plugins: Final = dict(found)
        self._left_out: Final[dict[str, str]] = {}

    def attempt(self, epochs: EpochStore, begin: Begin, mode: Restore) -> bool:
        """Try to bring up what is not left out; returns whether that worked."""
        number, whole = self._last.number, not self._left_out
        # The change publishes the successor: the very epoch that was committed, if it is whole.
        epochs.publish(Epoch(number - 1 if whole and self._plugins else number))
        if whole and not self._plugins:
            return True
        journal = _Unchanged(self._store, self._last) if whole else _Reduced(self._store, self)
        planned = [
            PlannedChange(Verb.LOAD, plugin, candidate)
            for plugin, candidate in self._plugins.items()
        ]
        try:
            begin(planned, journal).wait()
        except EpochalError as error:
            # A plugin's own errors name it; a time limit names the generation.
            plugin = str(getattr(error, "plugin", None) or "").partition("#")[0]
            self.leave_out(plugin, error, mode)
            return False
        return True

    def leave_out(self, plugin: str, error: EpochalError, mode: Restore) -> None:
        """Go on without a plugin and whoever requires it, if that is allowed and helps."""
        known = {version.plugin for version in self._last.plugins} - self._left_out.keys()
        if mode == "strict" or plugin not in known:
            self._refuse(plugin, error)
        self._left_out[plugin] = str(error)
        self._plugins.pop(plugin, None)
        for other, candidate in list(self._plugins.items()):
            required = {requirement.plugin for requirement in candidate.manifest.requires}
            if plugin in required and other in self._plugins:
                missing = MissingDependencyError(f"requires {plugin!r}", plugin=other)
                self.leave_out(other, missing, mode)

    def reduced(self, commit: Commit) -> Commit:
        """The commit of what is left: the plugins that are left out go, nothing else changes."""
        why = "; ".join(f"{plugin}: {error}" for plugin, error in self._left_out.items())
        return Commit(
            commit.change,
            f"restored epoch {self._last.number} without {why}",
            self._last.number,
            commit.epoch,
            commit.id,
            gone=tuple(self._left_out),
        )

    def _refuse(self, plugin: str, error: EpochalError) -> NoReturn:
        versions = {version.plugin: version for version in self._last.plugins}
        who = f"plugin {versions[plugin]}: " if plugin in versions else ""
        raise RestoreError(
            f"epoch {self._last.number} cannot be restored from {self._store.folder}: {who}{error}"
            "; cure that and start again, or start with restore='available' to go on without it",
            path=self._store.folder,
            epoch=self._last.number,
            plugin=plugin or None,
        ) from error


class _Numbered:
    """The parts of a restart's journal that both kinds share."""

    def __init__(self, store: Store) -> None:
        self._store: Final = store

    def refuse(self, refusal: Refusal) -> None:
        self._store.refuse(refusal)

    def candidate(self, plugin: str, to: int | str) -> Candidate:
        return self._store.candidate(plugin, to)

    def candidates(self, epoch: int) -> Mapping[str, Candidate]:
        return self._store.candidates(epoch)


class _Unchanged(_Numbered):
    """The journal of a restart that brings all of it back."""

    def __init__(self, store: Store, last: EpochRecord) -> None:
        super().__init__(store)
        self._last: Final = last

    def commit(self, commit: Commit) -> None:
        if (commit.epoch, commit.id) != (self._last.number, self._last.id):
            path = self._store.folder / "journal.db"
            raise StoreCorruptError(
                f"{path} is damaged: epoch {self._last.number} is not what was committed (its id "
                "differs); put the file back from a backup",
                path=path,
            )
        self._store.restore(commit.brought)


class _Reduced(_Numbered):
    """The journal of a restart that leaves plugins out."""

    def __init__(self, store: Store, restoration: _Restoration) -> None:
        super().__init__(store)
        self._restoration: Final = restoration

    def commit(self, commit: Commit) -> None:
        self._store.commit(self._restoration.reduced(commit), commit.brought)
