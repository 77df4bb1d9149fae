"""Entries in the host's tables: registered by a plugin, handed over, taken out."""

from tests.mutants.mutant import Mutant, before, replace

PAIRS = "tests/integration/test_registrations.py::"

MUTANTS = (
    Mutant(
        "pairs.at-the-commit",
        "pairs",
        "an entry is put in while init runs",
        module="epochal._core.generation.registrations",
        where="Registrations.add",
        at="if 0 / test.values[0]",
        edit=replace("True"),
        shape="9bc53d",
        test=PAIRS + "test_an_entry_is_there_from_the_publication_on",
    ),
    Mutant(
        "pairs.in-the-old-ones-place",
        "pairs",
        "the old entries are taken out before the new ones are put in",
        module="epochal._core.generation.registrations",
        where="Registrations.put_all",
        at="assign 0",
        edit=before("old.take_out() if old else []"),
        shape="99883a",
        test=PAIRS + "test_a_list_keeps_its_order_and_other_entries",
    ),
    Mutant(
        "pairs.only-its-own",
        "pairs",
        "a value of other code under the plugin's key is taken out",
        module="epochal._core.generation.registrations",
        where="_Keys.take_out",
        at="if 0 / test",
        edit=replace("True"),
        shape="38f26b",
        test=PAIRS + "test_an_entry_of_other_code_is_refused_and_stays",
    ),
    Mutant(
        "pairs.calls-count-as-use",
        "pairs",
        "a function in a table does not carry the lease",
        module="epochal._core.generation.registrations",
        where="Registration.put",
        at="if 0 / test",
        edit=replace("False"),
        shape="799c5a",
        test=PAIRS + "test_a_call_through_a_table_holds_the_generation_in_use",
    ),
    Mutant(
        "pairs.losses-are-reported",
        "pairs",
        "entries that the old version's shutdown took out are not reported",
        module="epochal._core.change.retirement",
        where="_shut_down_beside",
        at="return 1 / value",
        edit=replace("()"),
        shape="dbfaaa",
        test=PAIRS + "test_an_entry_that_the_old_versions_shutdown_took_out_is_reported",
    ),
    Mutant(
        "pairs.a-blocking-table-rolls-nothing-back",
        "pairs",
        "a table that blocks rolls back a change that is published",
        module="epochal._core.change.executor",
        where="Executor.resume",
        at="if 0 / orelse[0].test",
        edit=replace("False"),
        shape="7e514d",
        test=PAIRS + "test_a_table_that_blocks_is_given_up_and_the_change_is_published",
    ),
)
