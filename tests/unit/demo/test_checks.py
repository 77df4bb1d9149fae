"""The demonstration's checks find what they look for: each is shown a fault and must count it."""

import pyarrow as pa
import pytest

from epochal.demo.checks import Absence, Comparison, History, Lane, Phase, Scene
from epochal.demo.questions import DELAYS
from epochal.demo.questions import LONGEST_ROUTES as LENGTHS_OF_A_DAY
from epochal.demo.report import Report, percentile
from epochal.demo.witness import UsedTooLateError, Witness
from epochal.errors import FunctionError, QueryError
from epochal.report import Cutover, Swap, Version
from epochal.sql import EpochRef, Provenance


def rows(**columns):
    return pa.RecordBatch.from_pydict(
        {"flights": [1] * len(next(iter(columns.values())))} | columns
    )


def version(plugin, generation, text="1.0.0"):
    return Version(plugin, generation, text, "0" * 64)


@pytest.fixture
def stage(rt):
    return Scene(rt)


@pytest.fixture
def lane(stage):
    return Lane("thread 1", stage)


class Planned:
    """As much of a result as an operation reads: geo 1.0.0#1 in epoch 3."""

    epoch = EpochRef(3, "0" * 64)
    provenance = (Provenance("geo.distance", "scalar", "geo", "1.0.0", "0" * 64, 1),)


# --- one result --------------------------------------------------------------------------------


def test_rows_by_the_planned_generation_are_whole():
    seen = Comparison({"geo": "1.0.0#1"})
    seen.add(rows(by_geo=["1.0.0#1", "1.0.0#1"]))
    assert seen.faults == []
    assert seen.flights == 2


@pytest.mark.parametrize(
    "batch",
    [
        rows(by_geo=["1.0.0#1", "1.0.0#2"]),
        rows(by_geo=["1.0.0#1"], by_units_via_geo=["2.0.0#3"]),
        rows(by_geo=[None]),
        rows(gap=[0.0, 0.2]),
    ],
    ids=["another generation", "linked to another", "no stamp", "other units"],
)
def test_one_row_that_disagrees_is_a_fault(batch):
    seen = Comparison({"geo": "1.0.0#1", "units": "1.0.0#2"})
    seen.add(batch)
    assert len(seen.faults) == 1


def test_a_plugin_that_the_plan_does_not_name_is_a_fault():
    seen = Comparison({})
    seen.add(rows(by_geo=["1.0.0#1"]))
    assert len(seen.faults) == 1


# --- one operation -----------------------------------------------------------------------------


def test_a_whole_operation_counts_as_nothing_else(lane):
    with lane.operation(DELAYS) as operation:
        operation.planned(Planned)
        operation.seen.add(rows(by_geo=["1.0.0#1"]))
    assert (lane.counts["operations"], lane.counts["flights"]) == (1, 1)
    assert (lane.counts["failed"], lane.counts["mixed"], lane.counts["used_after_shutdown"]) == (
        0,
        0,
        0,
    )
    assert lane.claims == {(3, frozenset({("geo", "1.0.0#1")}))}
    assert len(lane.took_ms[Phase.QUIET]) == 1


@pytest.mark.parametrize(("version", "is_wasm"), [("3.0.0", True), ("1.0.0", False)])
def test_queries_on_webassembly_and_on_python_are_timed_apart(stage, lane, version, is_wasm):
    class Result:
        epoch = Planned.epoch
        provenance = (Provenance("geo.distance", "scalar", "geo", version, "0" * 64, 1),)

    for question, phase in ((LENGTHS_OF_A_DAY, Phase.QUIET), (DELAYS, Phase.CHANGES)):
        stage.phase = phase
        with lane.operation(question) as operation:
            operation.planned(Result)
    assert lane.lengths_ms == {True: [], False: []}
    with lane.operation(LENGTHS_OF_A_DAY) as operation:
        operation.planned(Result)
    assert [len(lane.lengths_ms[each]) for each in (is_wasm, not is_wasm)] == [1, 0]


def test_a_mixed_operation_is_counted_and_named(lane):
    with lane.operation(DELAYS) as operation:
        operation.planned(Planned)
        operation.seen.add(rows(by_geo=["1.0.0#1"]))
        operation.seen.add(rows(by_geo=["1.1.0#2"]))
    assert lane.counts["mixed"] == 1
    assert "1.1.0#2" in lane.faults[0]


def test_an_operation_that_raises_is_counted_and_named(lane):
    with lane.operation(DELAYS):
        raise QueryError("out of luck")
    assert (
        lane.counts["operations"],
        lane.counts["failed"],
        lane.counts["used_after_shutdown"],
    ) == (1, 1, 0)
    assert "out of luck" in lane.faults[0]


def test_a_use_after_shutdown_is_counted_as_one(lane):
    with lane.operation(DELAYS):
        error = FunctionError("geo.distance raised", function="geo.distance")
        raise error from UsedTooLateError("geo 1.0.0#1")
    assert (lane.counts["failed"], lane.counts["used_after_shutdown"]) == (1, 1)


def test_cancellation_and_interruption_pass_through(lane):
    with pytest.raises(KeyboardInterrupt), lane.operation(DELAYS):
        raise KeyboardInterrupt
    assert lane.counts["operations"] == 0


def test_a_witness_refuses_every_use_after_its_end():
    witness = Witness()
    with witness:
        assert len(witness.stamps(3)) == 3
    with pytest.raises(UsedTooLateError), witness:
        witness.end()
    for use in (witness.check, witness.__enter__, lambda: witness.stamps(1)):
        with pytest.raises(UsedTooLateError):
            use()


# --- against history ---------------------------------------------------------------------------

CUTOVERS = [
    Cutover(2, True, 1, 2, (Swap("geo", version("geo", 0), version("geo", 1, "1.1.0")),)),
    Cutover(1, True, 0, 1, (Swap("geo", None, version("geo", 0)),)),
    Cutover(3, True, 2, 3, (Swap("geo", version("geo", 1, "1.1.0"), None),)),
]


def test_history_is_put_together_in_the_order_of_epochs():
    assert History(CUTOVERS).epochs == {0: {}, 1: {"geo": "1.0.0#0"}, 2: {"geo": "1.1.0#1"}, 3: {}}


@pytest.mark.parametrize(
    ("epoch", "stamp", "true"),
    [(1, "1.0.0#0", True), (2, "1.1.0#1", True), (2, "1.0.0#0", False), (9, "1.0.0#0", False)],
)
def test_a_claim_is_true_only_of_the_epoch_that_had_it(epoch, stamp, true):
    assert History(CUTOVERS).is_true((epoch, frozenset({("geo", stamp)}))) is true


@pytest.mark.parametrize(
    ("earliest", "latest", "rightful"),
    [(3, 3, True), (2, 3, True), (1, 2, False), (2, 2, False)],
)
def test_a_function_may_be_missing_only_where_its_plugin_was_away(earliest, latest, rightful):
    absence = Absence(earliest, latest, frozenset({"geo"}), "no function 'geo.distance'")
    assert absence.is_rightful(History(CUTOVERS).epochs) is rightful


def test_an_absence_of_another_plugin_excuses_nothing():
    absence = Absence(3, 3, frozenset({"geo"}), "no function 'units.length'")
    assert not absence.is_rightful(History(CUTOVERS).epochs)


def test_a_missing_function_is_recorded_not_failed(lane):
    with lane.operation(DELAYS):
        raise QueryError("no function 'geo.distance'")
    assert lane.counts["failed"] == 0
    assert [absence.message for absence in lane.absences] == ["no function 'geo.distance'"]


# --- the report --------------------------------------------------------------------------------

FINE = {
    "seconds": 1.0,
    "finished": True,
    "operations": 10,
    "flights": 100,
    "overtaken": 2,
    "away": 1,
    "failed": 0,
    "mixed": 0,
    "used_after_shutdown": 0,
    "missing": 0,
    "reloads": 3,
    "refused": 1,
    "cutover_ms": [1.0, 2.0],
    "idle_cutover_ms": [1.0],
    "quiet_ms": [1.0],
    "reload_ms": [2.0],
    "python_ms": [],
    "wasm_ms": [],
    "wakeup_us": [],
    "reclaimed": 3,
    "leaked": 0,
    "rss_growth_mib": None,
    "faults": [],
}


def test_a_report_of_zeros_passes():
    assert Report(**FINE).passed


@pytest.mark.parametrize("count", ["failed", "mixed", "used_after_shutdown", "missing", "leaked"])
def test_each_count_alone_fails_the_demonstration(count):
    assert not Report(**FINE | {count: 1}).passed


def test_any_fault_fails_the_demonstration():
    assert not Report(**FINE | {"faults": ["a release failed"]}).passed


def test_a_run_without_operations_proves_nothing_and_fails():
    assert not Report(**FINE | {"operations": 0}).passed


def test_percentiles_are_by_nearest_rank():
    values = list(range(1, 101))
    assert percentile(values, 50) == 50
    assert percentile(values, 99) == 99
    assert percentile([7.0], 99) == 7.0
    assert percentile([], 99) is None
