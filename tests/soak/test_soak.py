"""The soak's quick profile, and a proof for each of its counts that a violation raises it."""

import pytest
from tests.sizes import sized
from tests.soak.changes import Changer
from tests.soak.operations import Wrong, pair
from tests.soak.run import MODES, Goal, Soak
from tests.soak.world import artifact, tool

from epochal._core.change.retirement import RetiringGeneration

QUICK = Goal(operations=sized(20_000, 200_000, 700_000), reloads=sized(12, 60, 170), limit_s=500.0)
SHORT = Goal(operations=500, reloads=8, limit_s=50.0)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", MODES)
def test_operations_never_notice_a_change(mode):
    """All modes together, in full: two million operations and five hundred reloads."""
    findings = Soak(mode, 20130101, QUICK).run()
    assert not findings.wrong, str(findings)
    assert findings.operations >= QUICK.operations
    assert findings.reloads >= QUICK.reloads


# --- soaks with a guarantee taken out -------------------------------------------------------------


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
    """Removes the old version before it loads the new one."""

    def _base(self):
        def record(change):
            self.rt.remove("top", drain_timeout=0.0)
            change.load(artifact("top", self._stamp))

        return record, (), False


class PrematureFloor(Changer):
    """Reports a pair as published before it is."""

    def draw(self):
        drawn = super().draw()
        self.floor[0] = self._stamp
        return drawn


STORED_TARGETS = []


def storing_a_target(worker):
    if len(STORED_TARGETS) < 10:
        STORED_TARGETS.append(worker.rt.epoch.export(tool, "left.stamp").target)


def calling_the_first_function(worker):
    # The operation `stored` would replace it, and mostly before the generation's shutdown.
    worker.stored()


def raising(worker):
    worker.rt.epoch[tool]["base.fail"]()


def is_detected(violation, **options):
    """Whether one of ten short soaks counts the violation; a single one depends on scheduling."""
    return any(
        violation in Soak("threads", seed, SHORT, **options).run().wrong for seed in range(10)
    )


def test_reading_the_epoch_twice_is_counted_as_mixed():
    assert is_detected("mixed", operations=[with_two_reads])


def test_a_pair_changed_in_two_changes_is_counted_as_mixed():
    assert is_detected("mixed", changer=OneByOne)


def test_removing_before_loading_is_counted_as_missing():
    assert is_detected("missing", changer=RemoveThenLoad)


def test_a_pair_reported_before_its_publishing_is_counted_as_stale():
    assert is_detected("stale", operations=[pair], changer=PrematureFloor)


def test_a_shutdown_in_use_is_counted(monkeypatch):
    monkeypatch.setattr(RetiringGeneration, "is_unused", True)
    assert is_detected("used_after_shutdown", operations=[calling_the_first_function])


def test_a_stored_target_is_counted_as_a_leak():
    try:
        assert is_detected("leaked", operations=[storing_a_target])
    finally:
        STORED_TARGETS.clear()


def test_an_operation_that_raises_is_counted_as_failed():
    assert is_detected("failed", operations=[raising])
