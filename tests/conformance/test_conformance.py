"""The conformance suite, in a quick size: Epochal passes all of it, and it can be failed."""

import re

import pytest
from conformance.__main__ import PAGE
from conformance.run import apart
from conformance.scenarios import SCENARIOS
from conformance.systems import SYSTEMS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_epochal_passes(scenario):
    outcome = apart("epochal", scenario, quick=True)
    assert outcome.passed, outcome.evidence


@pytest.mark.parametrize(
    ("system", "scenario"),
    [
        ("dict", "two_calls_in_threads"),
        ("lock", "two_calls_in_tasks"),
        ("reload", "a_call_in_flight_ends_on_its_version"),
        ("reload", "a_load_that_fails_leaves_the_old_whole"),
        ("pluggy", "many_holders_hold_nothing_up"),
        ("reimport", "a_save_of_equal_length_within_a_second_counts"),
        ("dict", "what_a_plugin_left_in_the_process_goes_with_it"),
    ],
)
def test_known_failures_of_others_are_seen(system, scenario):
    assert apart(system, scenario, quick=True).passed is False


def test_the_page_lists_every_scenario_and_system():
    text = PAGE.read_text()
    rows = re.findall(r"^\| \[.*?\]\(#([\w-]+)\)((?: \| [^|]+)+) \|$", text, re.MULTILINE)
    assert [name.replace("-", "_") for name, _ in rows] == list(SCENARIOS)
    assert {cells.count("|") for _, cells in rows} == {len(SYSTEMS)}
