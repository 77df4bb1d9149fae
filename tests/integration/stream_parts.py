"""A source of numbers and a sink that stores them, as plugins into which tests put faults.

`WORLD` is their state outside of the plugins: `last` is the last number so far, `durable` the
numbers that the sink has saved. Each method has a place for a line of the test's.
"""

import threading

from epochal.jobs import RetryPolicy

WORLD: dict = {}
QUICK = RetryPolicy(first_s=0.01, most_s=0.02, after=1_000_000)

SOURCE = """
from epochal.kinds import source
from tests.integration.stream_parts import WORLD

@source
class numbers:
    def __init__(self):
        self.at = 0
    def start(self, position):
        {start}
        self.at = position or 0
    def read(self, limit):
        {read}
        first, self.at = self.at, max(self.at, min(self.at + limit, WORLD["last"]))
        return [(n, n) for n in range(first + 1, self.at + 1)]
    def checkpoint(self):
        {checkpoint}
        return self.at
"""
SINK = """
from epochal.kinds import sink
from tests.integration.stream_parts import WORLD
import threading

@sink
class keeper:
    def __init__(self):
        self.held = []
        self.at = 0
    def start(self, position):
        {start}
        self.at = WORLD["durable"][-1] if WORLD["durable"] else 0
    def write(self, events):
        {write}
        self.held += [event for position, event in events if position > self.at]
        self.at = max(self.at, events[-1][0])
    def checkpoint(self):
        {checkpoint}
        WORLD["durable"] += self.held
        self.held = []
        return self.at
"""
# It writes the events that it has as it begins: a batch that enters meanwhile would be lost.
SLOW = """
        WORLD["callers"].append(threading.current_thread())
        taken, at = list(self.held), self.at
        if WORLD.pop("hold", False):
            WORLD["gate"].wait(60)
        WORLD["durable"] += taken
        self.held = []
        return at
"""


def new_world():
    """Forget the last test."""
    WORLD.clear()
    WORLD.update(last=0, durable=[], fail=0, gate=threading.Event(), entered=threading.Event())


def write_source(plugins, version="1.0", **at):
    blocks = {"start": "pass", "read": "pass", "checkpoint": "pass", **at}
    return plugins.write("numbers", SOURCE.format(**blocks), version=version)


def write_sink(plugins, version="1.0", requires=(), **at):
    blocks = {"start": "pass", "write": "pass", "checkpoint": "pass", **at}
    return plugins.write("keeper", SINK.format(**blocks), version=version, requires=requires)


def connect(streams, **options):
    return streams.connect(
        "numbers.numbers", "keeper.keeper", **{"idle_s": 0.002, "checkpoint_s": 0.02, **options}
    )


def arrived(flow, last=None):
    assert flow.wait_idle(60)
    assert WORLD["durable"] == list(range(1, (last or WORLD["last"]) + 1))
