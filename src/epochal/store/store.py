"""The store: the journal of one runtime, and its artifacts.

A commit is made durable in this order: the artifacts' bytes, their names, then one transaction with
the epoch, its generations, their configuration and grants, and the entry of the audit log. All that
the journal names is therefore there, and a crash at any instant leaves the epoch before or the
epoch after.

SQLite drops the end of a journal that was cut off, and opens it as if those epochs had never been.
The number of the last committed epoch is therefore in `head`, too, written after each commit and
never ahead of it: a head ahead of the journal proves that the journal lost its end.

Threads: every method takes ``_lock``, and no foreign code runs under it. There is one
connection, used by the thread that has the lock.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from packaging.version import InvalidVersion
from packaging.version import Version as Number

from epochal._core.plugin.candidate import Candidate
from epochal._core.plugin.manifest import read_manifest
from epochal._core.sync.durable_files import make_folder
from epochal.errors import NotKeptError, PluginError, StoreCorruptError, StoreError
from epochal.store import rows
from epochal.store.artifacts import Artifacts
from epochal.store.head import Head
from epochal.store.lock import lock_store
from epochal.store.records import AuditRecord, Keep
from epochal.store.sqlite import JournalFile, store_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from sqlite3 import Connection, Row

    from epochal._core.change.journal import AddedGeneration, Commit, RefusedChange
    from epochal.errors import EpochalError
    from epochal.store.records import EpochRecord

logger: Final = logging.getLogger("epochal.store")

_COLLECT_AFTER: Final = 64
"""Artifacts are collected once so many generations have left the history: it reads the folder."""


class Store:
    """The commits of a runtime, on disk; implements `Journal` of the core.

    `Runtime(store=path)` makes one; without a runtime it reads the history of a store that no
    runtime has open. A context manager: it closes at the end of the block.

    Args:
        folder: of the store; made if it is not there.
        keep: how much history is kept; None for the defaults of `Keep`.
        clock: returns seconds since the Unix epoch.
        warn: called with a line about each fault that stops nothing. It is called under the store's
            lock, so it must neither block nor raise nor call the store. By default it logs.

    Raises:
        StoreInUseError: another runtime or process has it open.
        StoreError: it cannot be opened; the message names the file and the remedy.

    Attributes:
        folder: the store's folder.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        keep: Keep | None = None,
        clock: Callable[[], float] = time.time,
        warn: Callable[[str], object] = logger.warning,
    ) -> None:
        self.folder: Final = Path(folder).absolute()
        self._keep: Final = keep or Keep()
        self._clock: Final = clock
        self._lock: Final = threading.Lock()
        self._dropped = 0
        with ExitStack() as opened:
            with store_errors("open the store", self.folder):
                make_folder(self.folder)
                opened.callback(lock_store(self.folder).release)
            self._journal: Final = JournalFile(self.folder / "journal.db")
            opened.callback(self._journal.close)
            with store_errors("open the store", self.folder):
                self._head: Final = Head(self.folder / "head", warn)
                opened.callback(self._head.close)
                self._artifacts: Final = Artifacts(
                    self.folder / "artifacts", self.folder / "compiled", warn
                )
            self._opened: Final = opened.pop_all()

    # --- written by changes ------------------------------------------------------------------

    def commit(self, commit: Commit, restored: Sequence[AddedGeneration] = ()) -> None:
        """Store an epoch, durably; see `Journal.commit`.

        Args:
            commit: the epoch that is about to be published.
            restored: generations that the last epoch has, too, with their new numbers in this run.

        Raises:
            StoreWriteError: it cannot be stored, and is not.
        """
        with self._access(f"keep epoch {commit.epoch}"):
            if self._dropped >= _COLLECT_AFTER:
                self._collect()
            # Before the transaction: all that the journal names must be on the disk.
            self._artifacts.write(added.candidate.artifact for added in commit.brought)
            dropped = self._write(commit, restored)
            # Durable: from here nothing may fail. `head` comes last, so it is never ahead.
            self._dropped += dropped
            self._head.note(commit.epoch)

    def _write(self, commit: Commit, restored: Sequence[AddedGeneration]) -> int:
        now = self._clock()
        plugins = dict.fromkeys([*(a.candidate.plugin for a in commit.brought), *commit.gone])
        entry = AuditRecord(
            now, commit.change, commit.reason, commit.epoch_before, commit.epoch, tuple(plugins)
        )
        with self._journal.transaction() as db:
            self._check_follows(db, commit)
            rows.write_epoch(db, commit, now)
            rows.write_restored(db, restored)
            rows.write_audit(db, entry, self._keep)
            return rows.drop_old(db, commit.epoch, self._keep, now)

    def restore(self, restored: Sequence[AddedGeneration]) -> None:
        """Store the numbers that a restart gave to the generations of the last epoch.

        Raises:
            StoreWriteError: they cannot be stored.
        """
        with self._access("note the restart"), self._journal.transaction() as db:
            rows.write_restored(db, restored)

    def refuse(self, refusal: RefusedChange) -> None:
        """Store the audit entry of a change that failed; see `Journal.refuse`.

        Raises:
            StoreWriteError: it cannot be stored.
        """
        entry = AuditRecord(
            self._clock(),
            refusal.change,
            refusal.reason,
            refusal.epoch,
            refusal.epoch,
            tuple(refusal.numbers),
            refusal.code,
            refusal.error,
        )
        with self._access("note a refused change"), self._journal.transaction() as db:
            rows.write_numbers(db, refusal.numbers)
            rows.write_audit(db, entry, self._keep)

    # --- read --------------------------------------------------------------------------------

    def candidate(self, plugin: str, to: int | str) -> Candidate:
        """The artifact, configuration and grants of a generation; see `Journal.candidate`."""
        with self._access("read the history") as db:
            history = rows.generations_of(db, plugin)
            for row in history:
                if _matches(row, to):
                    return self._candidate(row)
        kept = ", ".join(f"{row['number']} ({row['version']})" for row in reversed(history))
        wanted = f"version {to!r}" if isinstance(to, str) else f"generation {to}"
        raise NotKeptError(
            f"{wanted} of plugin {plugin!r} is not in the history; kept: {kept or 'none'}"
        )

    def candidates(self, epoch: int) -> Mapping[str, Candidate]:
        """The candidates of a committed epoch, by plugin; see `Journal.candidates`."""
        with self._access("read the history") as db:
            if db.execute("SELECT 1 FROM epoch WHERE number = ?", [epoch]).fetchone():
                return {row["plugin"]: self._candidate(row) for row in rows.generations(db, epoch)}
            first, last = db.execute("SELECT min(number), max(number) FROM epoch").fetchone()
        kept = "none" if first is None else f"{first} to {last}"
        raise NotKeptError(f"epoch {epoch} is not in the history; kept: {kept}")

    def readable(self, epoch: int) -> tuple[dict[str, Candidate], dict[str, EpochalError]]:
        """Like `candidates`, but goes on after a plugin that cannot be read.

        Returns:
            By plugin: the candidates that can be read, and the errors of the others.
        """
        candidates: dict[str, Candidate] = {}
        errors: dict[str, EpochalError] = {}
        with self._access("read the last epoch") as db:
            for row in rows.generations(db, epoch):
                try:
                    candidates[row["plugin"]] = self._candidate(row)
                except (StoreCorruptError, PluginError) as error:
                    errors[row["plugin"]] = error
        return candidates, errors

    def last(self) -> EpochRecord | None:
        """The last committed epoch; None before the first."""
        return next(iter(self.history(1)), None)

    def history(self, limit: int | None = None) -> tuple[EpochRecord, ...]:
        """The committed epochs in the history, newest first; at most `limit`, None for all."""
        with self._access("read the history") as db:
            return tuple(rows.epochs(db, limit))

    def audit(self, limit: int | None = None) -> tuple[AuditRecord, ...]:
        """The audit log, newest first; at most `limit` entries, None for all."""
        with self._access("read the audit log") as db:
            return tuple(rows.audit(db, limit))

    def numbers(self) -> dict[str, int]:
        """Plugin -> the number of its next generation."""
        with self._access("read the history") as db:
            return rows.numbers(db)

    # --- maintenance -------------------------------------------------------------------------

    def lost(self) -> int | None:
        """The number of the last committed epoch if the journal lost it; None if it did not."""
        with self._access("read the history") as db:
            head = self._head.read()
            return head if head is not None and head > rows.last_epoch(db) else None

    def accept_loss(self) -> None:
        """Go on from the journal's last epoch; skips generation numbers that may be lost."""
        lost = self.lost()
        if lost is None:
            return
        with self._access("go on from the last epoch"):
            with self._journal.transaction() as db:
                last = rows.last_epoch(db)
                rows.skip_numbers(db, lost - last)
            self._head.note(last)

    def collect(self) -> None:
        """Remove the artifacts that neither the history nor a running generation needs."""
        with self._access("collect artifacts"):
            self._collect()

    def close(self) -> None:
        """Close the files, so that another runtime can have the store. Idempotent."""
        with self._lock:
            self._opened.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- inside ------------------------------------------------------------------------------

    @contextmanager
    def _access(self, action: str) -> Generator[Connection]:
        """The connection, under the lock; `action` is the block's purpose, for error messages."""
        with self._lock, store_errors(action, self._journal.path):
            yield self._journal.connection

    def _check_follows(self, db: Connection, commit: Commit) -> None:
        last = rows.last_epoch(db)
        if last != commit.epoch_before:
            raise StoreError(
                f"the runtime is at epoch {commit.epoch_before}, its store {self.folder} at "
                f"{last}: something else has written there; restart to go on from the store",
                path=self.folder,
            )

    def _collect(self) -> None:
        self._artifacts.collect(rows.digests(self._journal.connection))
        self._dropped = 0

    def _candidate(self, row: Row) -> Candidate:
        artifact = self._artifacts.read(
            row["digest"],
            name=row["name"],
            root=row["root"],
            origin=None if row["origin"] is None else Path(os.fsdecode(row["origin"])),
            plugin=row["plugin"],
        )
        manifest = read_manifest(artifact)
        try:
            config, grants = json.loads(row["config"]), frozenset(json.loads(row["grants"]))
            candidate = Candidate(artifact, manifest, config, grants)
        except (ValueError, TypeError):
            candidate = None
        if candidate is None or candidate.identity != row["identity"]:
            raise StoreCorruptError(
                f"{self._journal.path} is damaged: the configuration or grants of generation "
                f"{row['number']} of plugin {row['plugin']!r} have changed since they were stored; "
                "put the file back from a backup",
                path=self._journal.path,
                plugin=row["plugin"],
            )
        return candidate


def _matches(row: Row, to: int | str) -> bool:
    if not isinstance(to, str):
        return to in (row["number"], row["restored"])
    try:
        return Number(to) == Number(row["version"])
    except InvalidVersion:
        return False
