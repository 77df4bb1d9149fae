"""Watches a folder of plugins: a saved plugin is loaded or reloaded once the folder is quiet.

`watcher` has the `Watcher`, `snapshot` its looks at the folder, `source_choice` the decision which
of several files with one id serves its plugin, `source_events` the events.
"""

from epochal.watch.source_events import (
    NotificationsFailed,
    SourceGone,
    SourceRefused,
    SourceRenamed,
)
from epochal.watch.watcher import Watcher

__all__ = ["NotificationsFailed", "SourceGone", "SourceRefused", "SourceRenamed", "Watcher"]
