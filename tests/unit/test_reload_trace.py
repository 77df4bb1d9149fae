"""A reload of an empty plugin takes a short way, and goes down."""

import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_a_reload_passes_few_files_and_seldom_goes_up():
    # In a process of its own: what other tests have imported takes other ways.
    printed = subprocess.run(
        [sys.executable, "-m", "benchmarks.reload_trace"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    figures = re.search(r"(\d+) files, (\d+) edges, (\d+) of them up", printed)
    assert figures is not None, printed
    files, edges, up = map(int, figures.groups())
    assert 20 <= files <= 45, printed
    assert edges >= files, printed
    assert up <= 5, printed
