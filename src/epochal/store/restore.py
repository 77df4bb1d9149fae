"""Brings the last committed epoch back when a runtime starts on a store.

All of the epoch's plugins come up in one change, from the stored bytes, configuration and grants.
This change commits nothing new: it publishes the very epoch that the journal has, with its number
and its id, and the store records only the new generations' numbers.

If that fails, `restore="strict"` refuses to start and names the cause. `restore="available"` leaves
out the plugins that cannot be restored and those that require them. The rest is another epoch, so
it is committed as one, and the epoch before it stays in the history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NoReturn, TypeAlias, get_args

from epochal._core.change.journal import Commit
from epochal._core.change.plan import PlannedChange, Verb
from epochal.errors import EpochalError, MissingDependencyError, RestoreError, StoreCorruptError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from epochal._core.change.journal import Journal
    from epochal._core.generation.epoch import EpochStore
    from epochal._core.plugin.candidate import Candidate
    from epochal.report import Cutover
    from epochal.store.records import EpochRecord
    from epochal.store.store import Store

    Run: TypeAlias = Callable[[Sequence[PlannedChange], Journal], Cutover]

Restore: TypeAlias = Literal["strict", "available"]
"""The behaviour where a plugin of the last epoch cannot be restored."""


def restore_last(store: Store, mode: Restore, epochs: EpochStore, run: Run) -> None:
    """Restore the last committed epoch of a store.

    Args:
        store: the store.
        mode: whether plugins may be left out.
        epochs: the runtime's; its generation numbers go on from the store's.
        run: runs a change, with a journal of its own.

    Raises:
        ValueError: there is no such mode.
        RestoreError: the epoch cannot be restored; has the cause as its `__cause__`.
        StoreCorruptError: the journal has lost its last commits (strict only).
    """
    if mode not in get_args(Restore):
        raise ValueError(f"restore={mode!r}: expected 'strict' or 'available'")
    _check_end(store, mode)
    epochs.continue_numbers(store.numbers())
    last = store.last()
    if last is None:
        return
    candidates, errors = store.readable(last.number)
    restoration = _Restoration(store, last, candidates)
    for plugin, error in errors.items():
        restoration.leave_out(plugin, error, mode)
    while not restoration.attempt(epochs, run, mode):
        pass  # each attempt that fails leaves out at least one more plugin


def _check_end(store: Store, mode: Restore) -> None:
    """Detect a journal that has lost its last commits."""
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
    """One restart: the plugins that it restores, those that it leaves out, and its journal."""

    def __init__(
        self, store: Store, last: EpochRecord, candidates: Mapping[str, Candidate]
    ) -> None:
        self._store: Final = store
        self._last: Final = last
        self._candidates: Final = dict(candidates)
        self._left_out: Final[dict[str, str]] = {}  # plugin -> reason; set between attempts alone
        # The rest of the journal of its changes is the store's.
        self.refuse, self.candidate = store.refuse, store.candidate
        self.candidates = store.candidates

    def attempt(self, epochs: EpochStore, run: Run, mode: Restore) -> bool:
        """Try to bring up the plugins that are not left out; returns whether that worked."""
        number, whole = self._last.number, not self._left_out
        # The change publishes the successor of this epoch. For a whole epoch that must be the
        # committed one itself, so this is the one before; without plugins there is no change.
        number = number - 1 if whole and self._candidates else number
        epochs.publish(epochs.current.bare(number))
        if whole and not self._candidates:
            return True
        planned = [PlannedChange(Verb.LOAD, *pair) for pair in self._candidates.items()]
        try:
            run(planned, self)
        except EpochalError as error:
            # A plugin's own errors name the plugin; a time limit names the generation.
            plugin = str(getattr(error, "plugin", None) or "").partition("#")[0]
            self.leave_out(plugin, error, mode)
            return False
        return True

    def leave_out(self, plugin: str, error: EpochalError, mode: Restore) -> None:
        """Leave out a plugin, and the plugins that require it.

        Raises:
            RestoreError: the mode is strict, or the error is not about a plugin of the epoch.
        """
        known = {version.plugin for version in self._last.plugins} - self._left_out.keys()
        if mode == "strict" or plugin not in known:
            self._raise(plugin, error)
        self._left_out[plugin] = str(error)
        self._candidates.pop(plugin, None)
        for other, candidate in list(self._candidates.items()):
            required = {requirement.plugin for requirement in candidate.manifest.requires}
            if plugin in required and other in self._candidates:
                missing = MissingDependencyError(f"requires {plugin!r}", plugin=other)
                self.leave_out(other, missing, mode)

    def commit(self, commit: Commit) -> None:
        """Record the generation numbers of a whole epoch; commit one with plugins left out."""
        if self._left_out:
            self._store.commit(self._reduced(commit), commit.brought)
            return
        if (commit.epoch, commit.id) != (self._last.number, self._last.id):
            path = self._store.folder / "journal.db"
            raise StoreCorruptError(
                f"{path} is damaged: epoch {self._last.number} is not what was committed (its id "
                "differs); put the file back from a backup",
                path=path,
            )
        self._store.restore(commit.brought)

    def _reduced(self, commit: Commit) -> Commit:
        """The commit as it follows the last epoch: some plugins are removed, none is added."""
        reasons = "; ".join(f"{plugin}: {error}" for plugin, error in self._left_out.items())
        return Commit(
            commit.change,
            f"restored epoch {self._last.number} without {reasons}",
            self._last.number,
            commit.epoch,
            commit.id,
            gone=tuple(self._left_out),
        )

    def _raise(self, plugin: str, error: EpochalError) -> NoReturn:
        versions = {version.plugin: version for version in self._last.plugins}
        subject = f"plugin {versions[plugin]}: " if plugin in versions else ""
        raise RestoreError(
            f"epoch {self._last.number} cannot be restored from {self._store.folder}: {subject}"
            f"{error}; cure that and start again, or start with restore='available' to go on "
            "without it",
            path=self._store.folder,
            epoch=self._last.number,
            plugin=plugin or None,
        ) from error
