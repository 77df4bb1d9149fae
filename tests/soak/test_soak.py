"""The soak's quick profile, and that each of its zeros can be something else."""

import pytest
from tests.soak.changes import Changer
from tests.soak.operations import Wrong, pair
from tests.soak.run import MODES, Goal, Soak
from tests.soak.world import artifact, tool

from epochal._core.change.retirement import RetiringGeneration

QUICK = Goal(operations=700_000, reloads=170, limit_s=500.0)
SHORT = Goal(operations=2_000, reloads=20, limit_s=50.0)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", MODES)
def test_operations_see_nothing_of_the_changes(mode):
    """All modes together: over two million operations and five hundred reloads."""
    findings = Soak(mode, 20130101, QUICK).run()
    assert not findings.wrong, str(findings)
    assert findings.operations >= QUICK.operations
    assert findings.reloads >= QUICK.reloads


# --- the same, with a guarantee taken out ---------------------------------------------------------


def with_two_reads(worker):
    left = worker.rt.epoch[tool]["left.stamp"]()
    right = worker.rt.epoch[tool]["right.stamp"]()
    if left != right:
        raise Wrong("mixed", f"left {left}, right {right}")


class OneByOne(Changer):
    """Changes the pair in two changes."""

    def _pair(self):
        def record(change):
            self.rt.reload("left", artifact("left", self._stamp), drain_timeout=0.0)
            change.reload("right", artifact("right", self._stamp))

        return record, (), False


class RemoveThenLoad(Changer):
    """Takes the old version out before the new one is in."""

    def _base(self):
        def record(change):
            self.rt.remove("top", drain_timeout=0.0)
            change.load(artifact("top", self._stamp))

        return record, (), False


class WithoutADeferredEnd(Changer):
    """Says that a pair is published before it is."""

    def draw(self):
        drawn = super().draw()
        self.floor[0] = self._stamp
        return drawn


KEPT = []


def keeping_its_target(worker):
    if len(KEPT) < 10:
        KEPT.append(worker.rt.epoch.export(tool, "left.stamp").target)


def calling_what_it_began_with(worker):
    worker.stored()  # which `stored` would replace, before a shutdown more often than not


def raising(worker):
    worker.rt.epoch[tool]["base.fail"]()


def is_found(kind, **what):
    """Whether a few short soaks see it: which instants a run hits is the scheduler's."""
    return any(kind in Soak("threads", seed, SHORT, **what).run().wrong for seed in range(10))


def test_an_operation_that_reads_the_epoch_twice_is_seen_to_mix():
    assert is_found("mixed", operations=[with_two_reads])


def test_a_pair_changed_one_by_one_is_seen_to_be_mixed():
    assert is_found("mixed", changer=OneByOne)


def test_a_version_removed_before_the_new_one_is_in_is_seen_to_be_missing():
    assert is_found("missing", changer=RemoveThenLoad)


def test_what_is_said_to_be_published_before_it_is_is_seen_to_be_stale():
    assert is_found("stale", operations=[pair], changer=WithoutADeferredEnd)


def test_a_shutdown_in_use_is_seen(monkeypatch):
    monkeypatch.setattr(RetiringGeneration, "is_unused", True)
    assert is_found("used_after_shutdown", operations=[calling_what_it_began_with])


def test_what_keeps_a_generations_code_is_seen_to_leak():
    try:
        assert is_found("leaked", operations=[keeping_its_target])
    finally:
        KEPT.clear()


def test_an_operation_that_raises_is_seen_to_fail():
    assert is_found("failed", operations=[raising])
