"""The durable store: a committed epoch is there after a crash.

It is one folder, for one runtime at a time:

``journal.db``
    SQLite in WAL mode (`-wal` and `-shm` beside it): epochs, generations with their configuration
    and grants, the audit log.
``artifacts/``
    The plugins' bytes, each file named by its SHA-256: `sha256sum artifacts/*` checks them.
``head``
    The last committed epoch's number once more, so that a journal which lost its end is noticed.
``lock``, ``holder``
    Held while a runtime has the store; the holder's process id, for people.

Hosts use it through `Runtime(store=path)`; `Store` reads one without a runtime.
"""

from epochal.store.records import AuditRecord, EpochRecord, Keep
from epochal.store.store import Store

__all__ = ["AuditRecord", "EpochRecord", "Keep", "Store"]
