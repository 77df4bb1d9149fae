"""Several processes build indexes into one folder, and are killed: a reader finds a whole one."""

import gc
import os
import random
import signal
import subprocess
import sys

import pytest
from tests.sizes import sized

from epochal.errors import HostError
from epochal.kinds.toolkit import index_storage

KILLS = sized(12, 60, 300)

BUILDER = """
import sys
from epochal.kinds.toolkit import index_storage
number = 0
while True:
    number += 1
    build = index_storage.begin(sys.argv[1], "i")
    for part in range(4):
        (build.path / f"part-{part}").write_bytes(b"%d %d" % (int(sys.argv[2]), number) * 500)
    index_storage.publish(build, "i")
    del build
    print(number, flush=True)
"""


def read(folder):
    """The one content of all parts of the newest build."""
    build = index_storage.find(folder)
    parts = [(build.path / f"part-{part}").read_bytes() for part in range(4)]
    assert len(set(parts)) == 1
    assert len(parts[0]) > 1000
    return parts[0]


@pytest.mark.timeout(1800 if KILLS > 100 else 120)
def test_whatever_is_killed_the_newest_whole_build_is_found(tmp_path):
    folder, chance, builders = tmp_path / "index", random.Random(19), []

    def start():
        builders.append(
            subprocess.Popen(
                [sys.executable, "-c", BUILDER, str(folder), str(len(builders))],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        assert builders[-1].stdout.readline() == b"1\n", builders[-1].stderr.read()

    try:
        for _ in range(3):
            start()
        for _ in range(KILLS):
            alive = [builder for builder in builders if builder.poll() is None]
            assert len(alive) == 3, builders[-1].stderr.read()
            victim = chance.choice(alive)
            for _ in range(chance.randrange(1, 60)):
                assert read(folder)
            victim.send_signal(signal.SIGKILL)
            victim.communicate()
            assert read(folder)
            start()
    finally:
        for builder in builders:
            builder.kill()
            builder.communicate()
    whole = read(folder)
    index_storage.begin(folder, "i")  # cleans up, and goes
    gc.collect()
    assert read(folder) == whole
    kept = [path.name for path in folder.glob("build-*") if path.is_dir()]
    assert len(kept) == 1, "what the dead left is gone"


def test_a_cleaner_that_knows_an_older_newest_removes_no_newer_one(tmp_path):
    build = index_storage.begin(tmp_path, "i")
    old = index_storage._newest(tmp_path)
    index_storage.publish(build, "i")
    path = build.path
    del build
    gc.collect()
    index_storage._clean(tmp_path, old)
    assert index_storage.find(tmp_path).path == path


def test_an_unfinished_file_is_removed_once_it_is_old(tmp_path):
    young, old = (tmp_path / f"epochal-index.json.{c * 32}.unfinished" for c in "ab")
    for path in (young, old):
        path.write_text("")
    os.utime(old, (0, 0))
    index_storage.begin(tmp_path, "i")
    assert young.exists()
    assert not old.exists()
    with pytest.raises(HostError, match="build one into it first"):
        index_storage.find(tmp_path)
