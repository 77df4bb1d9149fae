"""No text ends the service, or keeps it from others; `make test-hours` sends a thousand."""

from pathlib import Path

import pytest
from tests.server.sql_texts import Texts, attack
from tests.sizes import sized


@pytest.mark.skipif(not Path("/proc").exists(), reason="memory is read from /proc")
@pytest.mark.timeout(sized(180, 1200, 7200))
def test_the_service_outlives_generated_texts():
    report = attack(seed=20261128, texts=sized(15, 40, 1000))
    print(report)
    assert report.statuses[200]
    assert set(report.easy) <= {200, 503}
    assert report.easy[200]


def test_a_seed_makes_the_same_texts():
    first, second = Texts(7), Texts(7)
    assert [first.text() for _ in range(20)] == [second.text() for _ in range(20)]
