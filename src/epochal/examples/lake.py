"""Events into Parquet files, each of them exactly once.

What is written is gathered in memory; a checkpoint writes it as one file, numbered, and gives it
its name only when it is whole and on the disk. The last file says up to which position the folder
has its source's events. So the folder says by itself how far it is, and events that are delivered
again are known by their position and dropped.

A position is the source's. The lake gives it back as it was, and asks two things of it: it can be
JSON, and the later one is the greater: a number, a text, or a list whose last part grows, while the
others, the name of a log say, stay as they are. Events of another log are refused.

The files are those named by twenty digits; all else in the folder is left alone, but what is left
of a file that was not finished. Keep the last one. Configuration: `folder`.
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
        raise ValueError("lake needs config={'folder': …}, where its files go")
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
        """Go on after what is in the folder; a position that is told must be there.

        It only looks: the one before may still be at work, if this one does not take over.
        """
        found = [FILE.fullmatch(path.name) for path in self.folder.iterdir()]
        self.number = max((int(match[1]) for match in found if match), default=0)
        kept = self.kept()
        if position is not None and _plain(position) != kept:
            raise ValueError(f"{self.folder} goes up to {kept}, and should up to {position}")
        self.position = kept

    def kept(self):
        """Up to which position the folder has what the source gave; None for nothing."""
        if not self.number:
            return None
        path = self.file(self.number)
        text = (pq.read_schema(path).metadata or {}).get(POSITION.encode())
        if text is None:
            raise ValueError(f"{path} is not of this lake: it says no position")
        return json.loads(text)

    def write(self, events):
        """Take events; those that it has are dropped."""
        for position, event in events:
            told, text = json.dumps(position), json.dumps(event)
            if self.is_new(position):
                self.positions.append(told)
                self.events.append(text)
                self.position = _plain(position)

    def is_new(self, position):
        """Whether it does not have this one."""
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
        """Write a file of what was gathered; the last position that is on the disk."""
        if self.events:
            self.add_file()
            self.positions, self.events = [], []
        return self.position

    def add_file(self):
        """Write what was gathered as the next file."""
        path = self.file(self.number + 1)
        if path.exists():
            raise FileExistsError(f"{path}: somebody else writes to this folder")
        # Whoever comes here is the one that is in use: what others began, they will not finish.
        for left in self.folder.iterdir():
            if PART.fullmatch(left.name):
                left.unlink(missing_ok=True)
        part = self.folder / f"{path.stem}-{uuid.uuid4().hex}.part"
        table = pa.table({"position": self.positions, "event": self.events})
        table = table.replace_schema_metadata({POSITION: json.dumps(self.position)})
        with part.open("xb") as file:
            pq.write_table(table, file)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
        _sync(self.folder)
        self.number += 1

    def file(self, number):
        """The path of a file."""
        return self.folder / f"{number:020}.parquet"


def _plain(position):
    """A position as it comes back from JSON."""
    return [_plain(part) for part in position] if isinstance(position, list | tuple) else position


def _log(position):
    """What has to stay as it is in a position."""
    return position[:-1] if isinstance(position, list) else type(position).__name__


def _sync(folder):
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
