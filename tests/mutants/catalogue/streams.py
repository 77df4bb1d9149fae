"""Sources, sinks and the flows between them."""

from tests.mutants.mutant import Mutant, delete, replace

STREAMS = "tests/integration/test_streams.py::"
EXAMPLES = "tests/integration/test_stream_examples.py::"
FLOWS = "tests/integration/test_flows.py::"
FEED = "tests/integration/test_feed.py::"
LAKE = "tests/integration/test_lake.py::"

MUTANTS = (
    Mutant(
        "streams",
        "after a failure the source goes on where it was",
        module="epochal.jobs.flow",
        where="Flow._failed",
        at="assign 0",
        edit=delete(),
        shape="ba40fb",
        test=STREAMS + "test_a_step_that_fails_is_tried_again_and_nothing_is_lost",
    ),
    Mutant(
        "streams",
        "a new flow takes ends that stand for another's for its own",
        module="epochal.jobs.flow",
        where="Flow._stand",
        at="if 0 / test",
        edit=replace("$left is $comparators[0] is not None"),
        shape="6f16b1",
        test=STREAMS + "test_what_a_closed_flow_could_not_deliver_comes_to_who_connects_next",
    ),
    Mutant(
        "streams",
        "a sink that says less than it was given loses the rest on its reload",
        module="epochal.kinds.stream",
        where="sink",
        at="definition / value.keywords[1].value",
        edit=replace("True"),
        shape="da6545",
        test=STREAMS + "test_a_sink_that_says_less_than_it_was_given_is_given_the_rest_again",
    ),
    Mutant(
        "streams",
        "a batch enters an object that a hand-over is still in that was given up",
        module="epochal.jobs.endpoints",
        where="engaged",
        at="if 0",
        edit=replace(
            "if $test:\n"
            "    $body\n"
            "elif end.kept.busy.locked() is not None:\n"
            "    pass\n"
            "else:\n"
            "    $orelse[0].orelse"
        ),
        shape="f08321",
        test=STREAMS + "test_while_a_checkpoint_goes_on_that_was_given_up_no_batch_enters",
    ),
    Mutant(
        "streams",
        "a hand-over that was given up while it waited calls the object",
        module="epochal.kinds.stream",
        where="_take",
        at="if 0 / test",
        edit=replace("$values[1]"),
        shape="4168b8",
        test=STREAMS + "test_while_a_checkpoint_goes_on_that_was_given_up_no_batch_enters",
    ),
    Mutant(
        "streams",
        "a bug in checkpoint refuses the version that mends it",
        module="epochal.kinds.stream",
        where="_take",
        at="return 2",
        edit=replace("raise"),
        shape="091e42",
        test=STREAMS + "test_a_bug_in_checkpoint_is_mended_by_a_reload_and_nothing_is_lost",
    ),
    Mutant(
        "streams",
        "what a sink holds waits for its source to come back",
        module="epochal.jobs.flow",
        where="Flow._flow",
        at="expr 0",
        edit=delete(),
        shape="de1da3",
        test=FLOWS + "test_without_its_source_a_sink_saves_what_it_holds",
    ),
    Mutant(
        "streams",
        "a source and a sink have more than one flow",
        module="epochal.jobs.ownership",
        where="claim",
        at="if 0 / test",
        edit=replace("False"),
        shape="570b14",
        test=FLOWS + "test_an_end_is_connected_once_on_a_runtime",
    ),
    Mutant(
        "streams",
        "a batch holds all plugins in use",
        module="epochal.jobs.endpoints",
        where="_looked_up",
        at="expr 1",
        edit=delete(),
        shape="00f611",
        test=FLOWS + "test_a_batch_holds_no_plugin_but_its_own",
    ),
    Mutant(
        "streams",
        "a flow is taken for idle by a look that began before the question",
        module="epochal.jobs.flow",
        where="Flow._move",
        at="assign 5 / value",
        edit=replace("self._asked"),
        shape="1dd1dd",
        test=FLOWS + "test_a_look_that_began_before_the_question_does_not_answer_it",
    ),
    Mutant(
        "streams",
        "a source that leaves events out is taken for one at its end",
        module="epochal.jobs.flow",
        where="Flow._move",
        at="assign 4 / value",
        edit=replace("$values[0]"),
        shape="b6a2c6",
        test=FLOWS + "test_a_source_that_leaves_events_out_is_idle_at_its_end",
    ),
    Mutant(
        "streams",
        "a reload leaves an open breaker to its rest",
        module="epochal.jobs.streams",
        where="Streams._follow",
        at="expr 1",
        edit=delete(),
        shape="f00511",
        test=STREAMS + "test_a_reload_closes_the_breaker_at_once",
    ),
    Mutant(
        "streams",
        "the feed takes a position of another log for its own",
        module="epochal.examples.feed",
        where="changes.number_of",
        at="if 0 / test",
        edit=replace("False"),
        shape="849a3f",
        test=FEED + "test_a_position_that_the_log_did_not_give_is_refused",
    ),
    Mutant(
        "streams",
        "the feed bridges a gap without a word",
        module="epochal.examples.feed",
        where="changes.note",
        at="if 0 / test",
        edit=replace("False"),
        shape="d3e777",
        test=EXAMPLES + "test_what_a_rebuilt_table_did_not_note_is_told_until_it_is_accepted",
    ),
    Mutant(
        "streams",
        "the lake keeps what it has already",
        module="epochal.examples.lake",
        where="files.is_new",
        at="return 1 / value",
        edit=replace("True"),
        shape="2706d9",
        test=LAKE + "test_what_is_delivered_again_is_dropped",
    ),
)
