"""Libraries used inside plugins: each reload drains, and is reclaimed, or names the remedy.

`make test` reloads those that are installed for other reasons; `make reload-libraries` all.
"""

import re

import pytest

from tests.realcode.reload_use import HEADING, PAGE, faults_of, in_a_process
from tests.realcode.used_inside import USES
from tests.sizes import sized

QUICK = sized(("click", "pydantic"), ("click", "httpx", "pydantic", "typer"))
"""Installed for other reasons, and reloaded in a few seconds."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(len(USES)), ids=lambda n: USES[n].library)
def test_a_library_is_used_under_reloads(number):
    use = USES[number]
    if use.library not in QUICK:
        pytest.skip("make reload-libraries")
    assert faults_of(use, in_a_process(number)) == []


def test_the_page_has_a_row_for_each_library():
    table = PAGE.read_text().partition(HEADING)[2]
    rows = re.findall(r"^\| ([^|]+) \| [0-9]", table, re.MULTILINE)
    assert rows == [use.library for use in USES]


def test_a_library_that_keeps_a_plugin_has_a_remedy_that_is_tried():
    for use in USES:
        assert bool(use.kept_by) == bool(use.remedy)
    distributions = {use.distribution for use in USES if not use.kept_by}
    kept = {use.distribution for use in USES if use.kept_by}
    assert kept - distributions == {"numba"}, "its remedy is to keep the functions in the host"
    assert len({use.distribution for use in USES}) >= 16
