"""A stream whose process is killed at random instants loses nothing, and repeats nothing."""

import sys

import pytest
from tests.integration.test_store_crash import crashes
from tests.sizes import sized


@pytest.mark.timeout(sized(180, 1800))
@pytest.mark.skipif(sys.platform == "win32", reason="kills forks")
def test_every_change_arrives_in_order_and_once():
    kills = sized(15, 60, 300)
    seen = crashes(str(kills), module="tests.crash.stream")
    assert seen["changes"] >= 10 * kills
    assert seen["files"] >= kills // 2
