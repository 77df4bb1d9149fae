"""The conformance suite in its quick size: Epochal passes, and known failures are detected."""

import re

import pytest
from conformance.__main__ import PAGE
from conformance.run import run_in_subprocess
from conformance.scenarios import SCENARIOS
from conformance.systems import SYSTEMS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_epochal_passes(scenario):
    outcome = run_in_subprocess("epochal", scenario, quick=True)
    assert outcome.passed, outcome.evidence


@pytest.mark.parametrize(
    ("system", "scenario"),
    [
        ("dict", "two_calls_in_threads"),
        ("lock", "two_calls_in_tasks"),
        ("reload", "a_call_in_flight_ends_on_its_version"),
        ("reload", "a_failed_load_leaves_the_old_version_whole"),
        ("pluggy", "many_holders_do_not_delay_a_swap"),
        ("reimport", "a_save_of_equal_length_takes_effect"),
        ("dict", "old_versions_leave_nothing_in_the_process"),
    ],
)
def test_known_failures_of_other_systems_are_detected(system, scenario):
    assert run_in_subprocess(system, scenario, quick=True).passed is False


def test_the_page_lists_every_scenario_and_system():
    text = PAGE.read_text()
    rows = re.findall(r"^\| \[.*?\]\(#([\w-]+)\)((?: \| [^|]+)+) \|$", text, re.MULTILINE)
    assert [name.replace("-", "_") for name, _ in rows] == list(SCENARIOS)
    assert {cells.count("|") for _, cells in rows} == {len(SYSTEMS)}
