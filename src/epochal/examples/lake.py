"""A sink: writes events into Parquet files, each event exactly once.

Events are collected in memory. A checkpoint writes them as one numbered file, which gets its name
only when it is whole and on the disk. The last file contains the position up to which the folder
has the source's events. So the folder itself records its progress, and events that are delivered
again are recognised by their position and dropped.

A position is the source's. The lake returns it unchanged, and requires two things of it: it can be
written as JSON, and a later position is greater. It may be a number, a text, or a list whose last
part grows while the others (the name of a log, for example) stay the same. Events of another log
are refused.

The lake's files are named by twenty digits. It leaves all other files in the folder alone, except
unfinished files of its own, which it removes. Keep the last file. Configuration: `folder`.
"""

# /// plugin
# id = "lake"
# version = "1.0.0"
# dependencies = ["pyarrow"]
# capabilities = ["sink"]
# ///
import json
import os
import re
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from epochal.kinds import sink

config = {}

FILE = re.compile(r"(\d{20})\.parquet")
PART = re.compile(r"\d{20}-[0-9a-f]{32}\.part")
POSITION = "epochal.position"


def init(ctx):
    if not isinstance(ctx.config.get("folder"), str):
        raise ValueError("lake needs config={'folder': …}, the folder of its files")
    config.update(ctx.config)


@sink
class files:
    """Files `<number>.parquet` with the columns `position` and `event`, both JSON."""

    def __init__(self):
        self.folder = Path(config["folder"])
        self.folder.mkdir(parents=True, exist_ok=True)
        self.number = 0
        self.position = None
        self.positions = []
        self.events = []

    def start(self, position):
        """Go on after the events in the folder; refuse a position other than theirs.

        This only reads: if the reload is rolled back, the old object goes on with the folder.
        """
        matches = [FILE.fullmatch(path.name) for path in self.folder.iterdir()]
        self.number = max((int(match[1]) for match in matches if match), default=0)
        durable = self.durable_position()
        if position is not None and _plain(position) != durable:
            raise ValueError(f"{self.folder} goes up to {durable}, and should up to {position}")
        self.position = durable

    def durable_position(self):
        """Return the position up to which the folder has events; None for no events."""
        if not self.number:
            return None
        path = self.file(self.number)
        text = (pq.read_schema(path).metadata or {}).get(POSITION.encode())
        if text is None:
            raise ValueError(f"{path} is not of this lake: it has no position")
        return json.loads(text)

    def write(self, events):
        """Take events; drop those that the lake already has."""
        for position, event in events:
            position_text, event_text = json.dumps(position), json.dumps(event)
            if self.is_new(position):
                self.positions.append(position_text)
                self.events.append(event_text)
                self.position = _plain(position)

    def is_new(self, position):
        """Whether the lake does not have the event of this position."""
        if self.position is None:
            return True
        new = _plain(position)
        if _log(new) != _log(self.position):
            raise ValueError(
                f"{self.folder} has the events of {_log(self.position)}, and these are of "
                f"{_log(new)}: give that source a folder of its own"
            )
        return new > self.position

    def checkpoint(self):
        """Write the collected events as a file; return the last position on the disk."""
        if self.events:
            self.add_file()
            self.positions, self.events = [], []
        return self.position

    def add_file(self):
        """Write the collected events as the next file."""
        path = self.file(self.number + 1)
        if path.exists():
            raise FileExistsError(f"{path}: another process writes to this folder")
        # This object is the one in use, so no other will finish a file that it began.
        for leftover in self.folder.iterdir():
            if PART.fullmatch(leftover.name):
                leftover.unlink(missing_ok=True)
        part = self.folder / f"{path.stem}-{uuid.uuid4().hex}.part"
        table = pa.table({"position": self.positions, "event": self.events})
        table = table.replace_schema_metadata({POSITION: json.dumps(self.position)})
        with part.open("xb") as file:
            pq.write_table(table, file)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)  # after the fsync: a file with a number is whole, also after a crash
        _sync(self.folder)
        self.number += 1

    def file(self, number):
        """Return the path of a file, by its number."""
        return self.folder / f"{number:020}.parquet"


def _plain(position):
    """Return a position as it comes back from JSON."""
    return [_plain(part) for part in position] if isinstance(position, list | tuple) else position


def _log(position):
    """Return the part of a position that is the same for all events of a source."""
    return position[:-1] if isinstance(position, list) else type(position).__name__


def _sync(folder):
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
