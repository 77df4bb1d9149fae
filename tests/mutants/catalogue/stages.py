"""Epochs aside: staged, held and dropped."""

from tests.mutants.mutant import Mutant, delete, replace

STAGE = "tests/integration/test_stage.py::"

MUTANTS = (
    Mutant(
        "stage.moves-no-state",
        "a stage",
        "a stage takes the state of what serves",
        module="epochal._core.change.sequence",
        where="ChangeSpec.stops_before",
        at="return 0 / value",
        edit=replace("COMMITS"),
        shape="451ad9",
        test=STAGE + "test_a_compared_stage_moves_no_state",
    ),
    Mutant(
        "stage.stands-alone",
        "a stage",
        "a stage is compared with what serves though that was not asked for",
        module="epochal._core.change.staging",
        where="Staging.begin",
        at="assign 0 / value",
        edit=replace("self._epochs.current"),
        shape="9eb93d",
        test=STAGE + "test_a_stage_is_compared_with_nothing_unless_asked",
    ),
    Mutant(
        "stage.promoted-at-the-end",
        "a stage",
        "a stage that is being promoted as its runtime ends stays for good",
        module="epochal._core.change.stage",
        where="Stage._end_promotion",
        at="if 0",
        edit=delete(),
        shape="e25c1b",
        test=STAGE + "test_the_end_of_the_runtime_waits_for_a_promotion_and_drops_every_stage",
    ),
    Mutant(
        "stage.dropped-at-the-end",
        "a stage",
        "a stage that its maker forgot is never shut down",
        module="epochal._core.change.stage",
        where="Stages.close",
        at="for 0",
        edit=delete(),
        shape="516e49",
        test=STAGE + "test_a_stage_that_its_maker_forgot_is_dropped_at_the_end",
    ),
    Mutant(
        "document.digest-of-the-text",
        "an epoch's document",
        "a document with a flipped byte is read",
        module="epochal._core.plugin.document",
        where="read_document",
        at="if 1 / test",
        edit=replace("False"),
        shape="a78f4c",
        test="tests/unit/core/plugin/test_document.py::test_every_flipped_byte_is_found",
    ),
    Mutant(
        "document.id-of-the-content",
        "an epoch's document",
        "a document is taken for the epoch that it says it is",
        module="epochal._core.plugin.document",
        where="read_document",
        at="if 2 / test",
        edit=replace("False"),
        shape="a13c5a",
        test="tests/unit/core/plugin/test_document.py::test_a_document_of_another_epoch_is_refused",
    ),
)
