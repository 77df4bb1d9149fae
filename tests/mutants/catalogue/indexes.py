"""Indexes and their builds."""

from tests.mutants.mutant import Mutant, delete, replace

INDEX = "tests/integration/test_index.py::"

MUTANTS = (
    Mutant(
        "indexes",
        "what is persisted is not opened by the new version",
        module="epochal.kinds.index",
        where="_take_over.open_",
        at="expr 0",
        edit=delete(),
        shape="bc9420",
        test=INDEX + "test_a_reload_opens_what_was_built_and_builds_nothing",
    ),
    Mutant(
        "indexes",
        "a change while an index is being built is let through",
        module="epochal.kinds.index",
        where="Index.hand_over",
        at="if 0 / test",
        edit=replace("False"),
        shape="2a4095",
        test=INDEX + "test_a_search_goes_on_in_the_old_object_while_another_is_built",
    ),
    Mutant(
        "indexes",
        "a build is written over the one before",
        module="epochal.kinds.toolkit.index_storage",
        where="begin",
        at="assign 2 / value.right",
        edit=replace('f"{_PREFIX}0"'),
        shape="c4175d",
        test=INDEX + "test_no_build_writes_over_another_and_the_one_before_goes",
    ),
    Mutant(
        "indexes",
        "a build goes while somebody searches it",
        module="epochal.kinds.index",
        where="IndexHandle.search",
        at="assign 3",
        edit=replace("pass"),
        shape="28c881",
        test=INDEX + "test_no_build_writes_over_another_and_the_one_before_goes",
    ),
    Mutant(
        "indexes",
        "an object that was replaced is not closed before the generation's end",
        module="epochal.kinds.index",
        where="_unused",
        at="if 1 / test",
        edit=replace("False"),
        shape="707780",
        test=(
            INDEX + "test_an_object_that_a_later_build_has_replaced_is_closed_after_its_last_search"
        ),
    ),
    Mutant(
        "indexes",
        "an object is closed while it is searched",
        module="epochal.kinds.index",
        where="IndexHandle.search",
        at="assign 3",
        edit=replace("search.place = built.place"),
        shape="28c881",
        test=(
            INDEX + "test_an_object_that_a_later_build_has_replaced_is_closed_after_its_last_search"
        ),
    ),
    Mutant(
        "indexes",
        "a fork removes what its parent serves",
        module="epochal.kinds.toolkit.index_storage",
        where="_discard",
        at="if 0",
        edit=delete(),
        shape="26b885",
        test=INDEX + "test_a_fork_removes_nothing_of_its_parents",
    ),
    Mutant(
        "indexes",
        "a build is not held against other processes",
        module="epochal.kinds.toolkit.build_locks",
        where="BuildLock.__init__",
        at="expr 2",
        edit=delete(),
        shape="3a5ee6",
        test=INDEX + "test_processes_that_share_a_folder_leave_each_other_what_they_use",
    ),
    Mutant(
        "indexes",
        "a pointer may name any folder",
        module="epochal.kinds.toolkit.index_storage",
        where="_newest",
        at="if 0 / test",
        edit=replace("False"),
        shape="554bd1",
        test=INDEX + "test_a_damaged_pointer_has_nothing_removed",
    ),
    Mutant(
        "indexes",
        "what a cleaner took away is opened all the same",
        module="epochal.kinds.index",
        where="_take_over",
        at="assign 0 / value",
        edit=replace("$body"),
        shape="0dfad6",
        test=INDEX + "test_what_a_cleaner_took_away_is_persisted_again",
    ),
)
