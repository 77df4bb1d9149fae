"""Widely used distributions from PyPI as plugins: no call fails, every generation is reclaimed."""

import re

import pytest

from tests.realcode.catalogue import CASES
from tests.realcode.reload_use import HEADING, PAGE
from tests.realcode.run import RELOADS, carry_out
from tests.sizes import IS_LONG, sized

# Half of the time for two of fifteen; the whole size has them.
SLOW = set() if IS_LONG else {"sympy", "sqlglot"}


# A reload of sympy takes two seconds on an idle machine. Deprecation warnings are for the
# distributions' authors.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.distribution not in SLOW],
    ids=lambda case: case.distribution,
)
def test_a_distribution_is_reloaded_under_calls_and_reclaimed(case, tmp_path):
    outcome = carry_out(case, tmp_path, reloads=sized(3, 6, RELOADS))
    assert outcome.faults == []
    assert outcome.calls >= 2 * outcome.reloads
    if case.kept_by:
        assert any(case.kept_by in leak for leak in outcome.leaks), outcome.leaks
    else:
        assert outcome.is_fully_reclaimed, (outcome.reclaimed, outcome.survivors, outcome.leaks)


def test_the_selection_is_broad_and_nearly_all_of_it_is_reclaimed():
    assert len(CASES) >= 15
    assert sum(not case.kept_by for case in CASES) >= 13


def test_the_page_lists_the_same_distributions():
    table = PAGE.read_text().partition(HEADING)[0]
    rows = re.findall(r"^\| ([\w-]+) \| \d", table, re.MULTILINE)
    assert rows == [case.distribution for case in CASES]
