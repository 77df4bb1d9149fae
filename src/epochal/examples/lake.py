"""Events into Parquet files, each of them exactly once.

What is written is gathered in memory; a checkpoint writes it as one file, named by its first and
last position, and gives it its name only when it is whole and on the disk. So the folder says by
itself how far it is, and events that are delivered again are known by their position and dropped.

Positions are whole numbers that grow. Configuration: `folder`.
"""

# /// plugin
# id = "lake"
# version = "1.0.0"
# dependencies = ["pyarrow"]
# capabilities = ["sink"]
# ///
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from epochal.kinds import sink

config = {}


def init(ctx):
    if not isinstance(ctx.config.get("folder"), str):
        raise ValueError("lake needs config={'folder': …}, where its files go")
    config.update(ctx.config)


@sink
class files:
    """Files `<first>-<last>.parquet` with the columns `position` and `event` (JSON)."""

    def __init__(self):
        self.folder = Path(config["folder"])
        self.folder.mkdir(parents=True, exist_ok=True)
        self.position = 0
        self.positions = []
        self.events = []

    def start(self, position):
        """Go on after what is in the folder; a position that is told must be there."""
        for left in self.folder.glob("*.part"):
            left.unlink()
        kept = max(
            (int(p.stem.partition("-")[2]) for p in self.folder.glob("*.parquet")), default=0
        )
        if position is not None and position != kept:
            raise ValueError(f"{self.folder} goes up to {kept}, and should up to {position}")
        self.position = kept

    def write(self, events):
        """Take events; those that it has are dropped."""
        fresh = [(position, event) for position, event in events if position > self.position]
        texts = [json.dumps(event) for _, event in fresh]
        self.positions += [position for position, _ in fresh]
        self.events += texts
        if fresh:
            self.position = fresh[-1][0]

    def checkpoint(self):
        """Write a file of what was gathered; the last position that is on the disk."""
        if self.positions:
            name = f"{self.positions[0]:020}-{self.positions[-1]:020}"
            part = self.folder / f"{name}.part"
            with part.open("wb") as file:
                pq.write_table(pa.table({"position": self.positions, "event": self.events}), file)
                file.flush()
                os.fsync(file.fileno())
            part.rename(self.folder / f"{name}.parquet")
            _sync(self.folder)
            self.positions, self.events = [], []
        return self.position or None


def _sync(folder):
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
