"""The store: the journal of one runtime, and its artifacts.

A commit is durable in this order: the artifacts' bytes, their names, then one transaction with the
epoch, its generations, their configuration and grants, and the audit log's entry. So whatever the
journal names is there, and a crash at any instant leaves the epoch before or the epoch after.

SQLite drops the end of a journal that was cut off, and opens it as if those epochs had never been.
So the last committed epoch stands in `head` too, written after each commit and never ahead of it:
a head ahead of the journal says that the journal lost its end.

Who reads, who writes: every method takes ``_lock``; no foreign code runs under it. The connection
is one, used by whatever thread has the lock.
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
from epochal.store.lock import StoreLock
from epochal.store.records import AuditRecord, Keep
from epochal.store.sqlite import Database, told

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from sqlite3 import Connection, Row

    from epochal._core.change.journal import AddedGeneration, Commit, Refusal
    from epochal.errors import EpochalError
    from epochal.store.records import EpochRecord

logger: Final = logging.getLogger("epochal.store")

_COLLECT_AFTER: Final = 64
"""How many generations leave the history before their artifacts are looked for."""


class Store:
    """What a runtime has committed, on disk.

    Made by `Runtime(store=path)`; on its own it reads the history of a store that no runtime has
    open. A context manager: it closes at the end of the block.

    Args:
        folder: of the store; made if it is not there.
        keep: how much history is kept.
        clock: seconds since the Unix epoch.
        tell: is told of what went wrong and stops nothing, under the store's lock: it must neither
            block nor raise nor ask the store. By default a warning is logged.

    Raises:
        StoreInUseError: somebody else has it.
        StoreError: it cannot be opened: the message names the file and says what to do.

    Attributes:
        folder: where it is.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        keep: Keep | None = None,
        clock: Callable[[], float] = time.time,
        tell: Callable[[str], object] = logger.warning,
    ) -> None:
        self.folder: Final = Path(folder).absolute()
        self._keep: Final = keep or Keep()
        self._clock: Final = clock
        self._lock: Final = threading.Lock()
        self._dropped = 0
        with ExitStack() as opened:
            with told("open the store", self.folder):
                make_folder(self.folder)
                self._held: Final = StoreLock(self.folder)
                opened.callback(self._held.release)
            self._database: Final = Database(self.folder / "journal.db")
            opened.callback(self._database.close)
            with told("open the store", self.folder):
                self._head: Final = Head(self.folder / "head", tell)
                opened.callback(self._head.close)
                self._artifacts: Final = Artifacts(self.folder / "artifacts", tell)
            self._opened: Final = opened.pop_all()

    # --- what a change tells -----------------------------------------------------------------

    def commit(self, commit: Commit, restored: Sequence[AddedGeneration] = ()) -> None:
        """Keep an epoch, durably; see `Journal.commit`.

        Args:
            commit: what is about to be published.
            restored: generations that it brings in which the epoch before had, too, under numbers
                of an earlier run.

        Raises:
            StoreWriteError: it cannot be kept, and is not.
        """
        with self._doing(f"keep epoch {commit.epoch}"):
            if self._dropped >= _COLLECT_AFTER:
                self._collect()
            self._artifacts.write(brought.candidate.artifact for brought in commit.brought)
            dropped = self._write(commit, restored)
            # Durable: from here nothing may fail.
            self._dropped += dropped
            self._head.note(commit.epoch)

    def _write(self, commit: Commit, restored: Sequence[AddedGeneration]) -> int:
        now = self._clock()
        touched = dict.fromkeys([*(b.candidate.plugin for b in commit.brought), *commit.gone])
        entry = AuditRecord(
            now, commit.change, commit.reason, commit.epoch_before, commit.epoch, tuple(touched)
        )
        with self._database.transaction() as db:
            self._check_follows(db, commit)
            rows.write_epoch(db, commit, now)
            rows.write_restored(db, restored)
            rows.write_audit(db, entry, self._keep)
            return rows.drop_old(db, commit.epoch, self._keep, now)

    def restore(self, restored: Sequence[AddedGeneration]) -> None:
        """Note the numbers that a restart gave to the generations of the last epoch.

        Raises:
            StoreWriteError: they cannot be noted.
        """
        with self._doing("note the restart"), self._database.transaction() as db:
            rows.write_restored(db, restored)

    def refuse(self, refusal: Refusal) -> None:
        """Note a change that failed; see `Journal.refuse`.

        Raises:
            StoreWriteError: it cannot be noted.
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
        with self._doing("note a refused change"), self._database.transaction() as db:
            rows.write_numbers(db, refusal.numbers)
            rows.write_audit(db, entry, self._keep)

    # --- what it is asked --------------------------------------------------------------------

    def candidate(self, plugin: str, to: int | str) -> Candidate:
        """What a generation was made of; see `Journal.candidate`."""
        with self._doing("read the history") as db:
            kept = rows.generations_of(db, plugin)
            for row in kept:
                if _is_meant(row, to):
                    return self._candidate(row)
        known = ", ".join(f"{row['number']} ({row['version']})" for row in reversed(kept)) or "none"
        what = f"version {to!r}" if isinstance(to, str) else f"generation {to}"
        raise NotKeptError(f"{what} of plugin {plugin!r} is not in the history; kept: {known}")

    def candidates(self, epoch: int) -> Mapping[str, Candidate]:
        """What each plugin of a committed epoch was made of; see `Journal.candidates`."""
        with self._doing("read the history") as db:
            if db.execute("SELECT 1 FROM epoch WHERE number = ?", [epoch]).fetchone():
                return {row["plugin"]: self._candidate(row) for row in rows.generations(db, epoch)}
            first, last = db.execute("SELECT min(number), max(number) FROM epoch").fetchone()
        kept = "none" if first is None else f"{first} to {last}"
        raise NotKeptError(f"epoch {epoch} is not in the history; kept: {kept}")

    def readable(self, epoch: int) -> tuple[dict[str, Candidate], dict[str, EpochalError]]:
        """Like `candidates`, but goes on after a plugin that cannot be read.

        Returns:
            By plugin: what can be read, and what is wrong with the rest.
        """
        found: dict[str, Candidate] = {}
        faults: dict[str, EpochalError] = {}
        with self._doing("read the last epoch") as db:
            for row in rows.generations(db, epoch):
                try:
                    found[row["plugin"]] = self._candidate(row)
                except (StoreCorruptError, PluginError) as error:
                    faults[row["plugin"]] = error
        return found, faults

    def last(self) -> EpochRecord | None:
        """The last committed epoch; None before the first."""
        return next(iter(self.history(1)), None)

    def history(self, limit: int | None = None) -> tuple[EpochRecord, ...]:
        """The committed epochs that are kept, newest first; `limit` of them at most."""
        with self._doing("read the history") as db:
            return tuple(rows.epochs(db, limit))

    def audit(self, limit: int | None = None) -> tuple[AuditRecord, ...]:
        """The audit log, newest first; `limit` entries at most."""
        with self._doing("read the audit log") as db:
            return tuple(rows.audit(db, limit))

    def numbers(self) -> dict[str, int]:
        """Plugin -> the number of its next generation."""
        with self._doing("read the history") as db:
            return rows.numbers(db)

    # --- keeping house -----------------------------------------------------------------------

    def lost(self) -> int | None:
        """The epoch that was committed last, if the journal lost it; else None."""
        with self._doing("read the history") as db:
            head = self._head.read()
            return head if head is not None and head > rows.last_epoch(db) else None

    def accept_loss(self) -> None:
        """Go on from what the journal has, and give no number out again that may be lost."""
        lost = self.lost()
        if lost is None:
            return
        with self._doing("go on from the last epoch"):
            with self._database.transaction() as db:
                last = rows.last_epoch(db)
                rows.skip_numbers(db, lost - last)
            self._head.note(last)

    def collect(self) -> None:
        """Remove the artifacts that nothing kept or running refers to."""
        with self._doing("collect artifacts"):
            self._collect()

    def close(self) -> None:
        """Let the store go; doing so again does nothing."""
        with self._lock:
            self._opened.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- inside ------------------------------------------------------------------------------

    @contextmanager
    def _doing(self, what: str) -> Generator[Connection]:
        with self._lock, told(what, self._database.path):
            yield self._database.connection

    def _check_follows(self, db: Connection, commit: Commit) -> None:
        last = rows.last_epoch(db)
        if last != commit.epoch_before:
            raise StoreError(
                f"the runtime is at epoch {commit.epoch_before}, its store {self.folder} at "
                f"{last}: something else has written there; restart to go on from the store",
                path=self.folder,
            )

    def _collect(self) -> None:
        self._artifacts.collect(rows.digests(self._database.connection))
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
                f"{self._database.path} is damaged: its configuration or grants of generation "
                f"{row['number']} of plugin {row['plugin']!r} are not what was stored; put the "
                "file back from a backup",
                path=self._database.path,
                plugin=row["plugin"],
            )
        return candidate


def _is_meant(row: Row, to: int | str) -> bool:
    if not isinstance(to, str):
        return to in (row["number"], row["restored"])
    try:
        return Number(to) == Number(row["version"])
    except InvalidVersion:
        return False
