"""The journal's tables: every statement that writes rows or reads them.

Each function takes the connection; those that write are called inside a transaction.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Final

from epochal.report import Version
from epochal.store.records import AuditRecord, EpochRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from sqlite3 import Connection, Row

    from epochal._core.change.journal import AddedGeneration, Commit
    from epochal.store.records import Keep

_DAY_S: Final = 86_400.0
_MOST_OF_THE_DAYS: Final = 0.1


# --- writing -------------------------------------------------------------------------------------


def write_epoch(db: Connection, commit: Commit, at: float) -> None:
    """Write an epoch and its new generations, and mark the end of those that it removed."""
    reason = storable(commit.reason)
    _insert(db, "epoch", {"number": commit.epoch, "id": commit.id, "at": at, "reason": reason})
    db.executemany(
        "UPDATE generation SET until = ? WHERE plugin = ? AND until IS NULL",
        [(commit.epoch, plugin) for plugin in commit.gone],
    )
    for added in commit.brought:
        _insert(db, "generation", _generation(added, commit.epoch))
    write_numbers(db, {added.candidate.plugin: added.number for added in commit.brought})


def _generation(added: AddedGeneration, since: int) -> dict[str, object]:
    candidate, artifact = added.candidate, added.candidate.artifact
    return {
        "plugin": candidate.plugin,
        "number": added.number,
        "version": str(candidate.manifest.version),
        "identity": candidate.identity,
        "digest": artifact.digest,
        "name": storable(artifact.name),
        "root": None if artifact.is_package else storable(artifact.root),
        "origin": None if artifact.origin is None else os.fsencode(artifact.origin),
        "config": json.dumps(dict(candidate.config)),
        "grants": json.dumps(sorted(candidate.grants)),
        "since": since,
    }


def write_restored(db: Connection, restored: Iterable[AddedGeneration]) -> None:
    """Write the numbers that a restart gave to generations of the last epoch."""
    numbers = {added.candidate.plugin: added.number for added in restored}
    db.executemany(
        "UPDATE generation SET restored = ? WHERE plugin = ? AND until IS NULL",
        [(number, plugin) for plugin, number in numbers.items()],
    )
    write_numbers(db, numbers)


def write_numbers(db: Connection, numbers: Mapping[str, int]) -> None:
    """Write each plugin's newest generation number, so that it is not given out again."""
    db.executemany(
        "INSERT INTO number (plugin, next) VALUES (?, ?)"
        " ON CONFLICT (plugin) DO UPDATE SET next = max(next, excluded.next)",
        [(plugin, number + 1) for plugin, number in numbers.items()],
    )


def skip_numbers(db: Connection, count: int) -> None:
    """Skip `count` numbers of each plugin: lost commits may have given them out."""
    db.execute("UPDATE number SET next = next + ?", [count])


def write_audit(db: Connection, entry: AuditRecord, keep: Keep) -> None:
    """Write an entry of the audit log, and drop the entries that pass its limits."""
    texts = {
        "reason": storable(entry.reason),
        "plugins": json.dumps(entry.plugins),
        "error": None if entry.error is None else storable(entry.error),
    }
    _insert(db, "audit", {**asdict(entry), **texts})
    db.execute(
        "DELETE FROM audit WHERE entry < ? OR entry <= (SELECT max(entry) FROM audit) - ?",
        [_first_in_time(db, "audit", "entry", keep, entry.at), keep.audit],
    )


def drop_old(db: Connection, current: int, keep: Keep, now: float) -> int:
    """Drop the epochs that the policy does not keep; returns how many generations went."""
    # An epoch's age counts from the commit of the next one, which replaced it.
    replaced = _first_in_time(db, "epoch", "number", keep, now) - 1
    oldest = min(current, max(current - keep.epochs + 1, replaced))
    db.execute("DELETE FROM epoch WHERE number < ?", [oldest])
    return db.execute("DELETE FROM generation WHERE until <= ?", [oldest]).rowcount


def _first_in_time(db: Connection, table: str, key: str, keep: Keep, now: float) -> int:
    """The key of the first row that is no older than the policy's days; 0 if all are.

    The time between two rows counts for a tenth of the days at most, or for one day: a clock that
    was wrong once, or for an hour of changes, must not make the whole history old.
    """
    longest_s = keep.days * _DAY_S
    most_s = max(longest_s * _MOST_OF_THE_DAYS, _DAY_S)
    is_any_old = f"SELECT 1 FROM {table} WHERE at < ? LIMIT 1"
    if db.execute(is_any_old, [now - longest_s]).fetchone() is None:
        return 0
    (last_old,) = db.execute(
        f"SELECT coalesce(max({key}), 0) FROM (SELECT {key}, sum(step) OVER (ORDER BY {key} DESC)"
        f" AS age FROM (SELECT {key}, min(max(coalesce(at - lag(at) OVER (ORDER BY {key}), 0), 0),"
        f" ?) AS step FROM {table})) WHERE age > ?",
        [most_s, longest_s],
    ).fetchone()
    return int(last_old)


# --- reading -------------------------------------------------------------------------------------


def last_epoch(db: Connection) -> int:
    """The number of the last committed epoch; 0 before the first."""
    (number,) = db.execute("SELECT coalesce(max(number), 0) FROM epoch").fetchone()
    return int(number)


def generations(db: Connection, epoch: int) -> list[Row]:
    """The generations of one epoch, by plugin."""
    return db.execute(
        "SELECT * FROM generation WHERE since <= ? AND (until IS NULL OR until > ?)"
        " ORDER BY plugin",
        [epoch, epoch],
    ).fetchall()


def generations_of(db: Connection, plugin: str) -> list[Row]:
    """The generations of one plugin in the history, newest first."""
    return db.execute(
        "SELECT * FROM generation WHERE plugin = ? ORDER BY number DESC", [plugin]
    ).fetchall()


def digests(db: Connection) -> list[tuple[str, bool]]:
    """The artifacts in the history: digest, and whether it is a package's."""
    rows = db.execute("SELECT DISTINCT digest, root IS NULL FROM generation").fetchall()
    return [(digest, bool(is_package)) for digest, is_package in rows]


def numbers(db: Connection) -> dict[str, int]:
    """Plugin -> the number of its next generation."""
    return dict(db.execute("SELECT plugin, next FROM number").fetchall())


def epochs(db: Connection, limit: int | None) -> list[EpochRecord]:
    """The epochs in the history, newest first; None for all."""
    rows = db.execute("SELECT * FROM epoch ORDER BY number DESC LIMIT ?", [_limit(limit)])
    return [
        EpochRecord(
            row["number"],
            row["id"],
            row["at"],
            row["reason"],
            tuple(
                Version(part["plugin"], part["number"], part["version"], part["digest"])
                for part in generations(db, row["number"])
            ),
        )
        for row in rows.fetchall()
    ]


def audit(db: Connection, limit: int | None) -> list[AuditRecord]:
    """The entries of the audit log, newest first; None for all."""
    columns = ", ".join(field.name for field in fields(AuditRecord))
    rows = db.execute(f"SELECT {columns} FROM audit ORDER BY entry DESC LIMIT ?", [_limit(limit)])
    return [
        AuditRecord(**{**dict(row), "plugins": tuple(json.loads(row["plugins"]))})
        for row in rows.fetchall()
    ]


def _insert(db: Connection, table: str, row: Mapping[str, object]) -> None:
    columns, values = ", ".join(row), ", ".join("?" for _ in row)
    db.execute(f"INSERT INTO {table} ({columns}) VALUES ({values})", list(row.values()))


def storable(text: str) -> str:
    """The text as SQLite takes it, with escapes for lone surrogates, which are not Unicode."""
    return text.encode("utf-8", "backslashreplace").decode()


def _limit(limit: int | None) -> int:
    return -1 if limit is None else max(0, limit)
