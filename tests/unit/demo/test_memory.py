"""Memory readings: the floor of the last ones counts, not a reading in the middle of a query."""

import pytest

from epochal.demo import memory
from epochal.demo.checks import Phase
from epochal.demo.memory import MemoryTrack, resident_mib


@pytest.fixture
def reads(monkeypatch):
    def reads(values, phase, track):
        for value in values:
            monkeypatch.setattr(memory, "resident_mib", lambda value=value: value)
            track.read(phase)

    return reads


def test_growth_is_between_floors(reads):
    track = MemoryTrack()
    reads([100.0, 180.0, 130.0], Phase.QUIET, track)
    reads([170.0, 107.0, 190.0], Phase.CHANGES, track)
    assert track.growth_mib(Phase.QUIET, Phase.CHANGES) == 7.0


def test_only_the_end_of_a_phase_counts(reads):
    track = MemoryTrack()
    reads([1.0] + [100.0] * 30, Phase.QUIET, track)
    reads([2.0] + [150.0] * 30, Phase.CHANGES, track)
    assert track.growth_mib(Phase.QUIET, Phase.CHANGES) == 50.0


def test_without_readings_growth_is_not_known(reads):
    track = MemoryTrack()
    reads([None, None], Phase.QUIET, track)
    reads([None], Phase.CHANGES, track)
    assert track.growth_mib(Phase.QUIET, Phase.CHANGES) is None


def test_this_process_has_some_memory():
    assert 10.0 < resident_mib() < 1_000_000.0
