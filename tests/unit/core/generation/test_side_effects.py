"""The side effects of a block on the process's tables, and their undoing."""

import sys

import pytest

from epochal._core.generation import process_tables
from epochal._core.generation.side_effects import SideEffects
from epochal._core.generation.watched_table import ListTable


@pytest.fixture
def items(monkeypatch):
    items = []
    monkeypatch.setattr(process_tables, "TABLES", (ListTable("item", lambda: items),))
    monkeypatch.setattr(process_tables, "logger_tables", dict)
    return items


def owns_nothing(_):
    return False


def test_entries_of_the_block_are_taken_out_and_others_stay(items):
    items.append("host's")
    side_effects = SideEffects()
    with side_effects.noting(owns_nothing):
        items.append("plugin's")
    items.append("host's, later")
    assert side_effects.undo(owns_nothing) == (['item "plugin\'s"'], [])
    assert items == ["host's", "host's, later"]


def test_entries_are_taken_out_newest_first(items):
    side_effects = SideEffects()
    for name in ("first", "second"):
        with side_effects.noting(owns_nothing):
            items.append(name)
    assert side_effects.undo(owns_nothing)[0] == ["item 'second'", "item 'first'"]


def test_an_abandoned_block_may_end_within_another(items):
    side_effects = SideEffects()
    abandoned = side_effects.noting(owns_nothing)
    abandoned.__enter__()
    with side_effects.noting(owns_nothing):
        assert abandoned.before is None, "it holds no entries of other plugins any more"
        abandoned.__exit__(None, None, None)
        items.append("plugin's")
    assert side_effects.undo(owns_nothing) == (['item "plugin\'s"'], [])
    assert not items


def test_an_entry_that_was_made_later_is_found_by_its_code(items):
    side_effects = SideEffects()
    items.append("plugin's")
    assert side_effects.undo(lambda value: value == "plugin's")[0] == ['item "plugin\'s"']
    assert not items


def test_an_undo_that_raises_is_reported_and_stops_no_other(monkeypatch):
    items = []

    def altered():
        raise ValueError("no")

    table = ListTable("item", lambda: items, altered)
    monkeypatch.setattr(process_tables, "TABLES", (table,))
    side_effects = SideEffects()
    with side_effects.noting(owns_nothing):
        items += ["a", "b"]
    assert side_effects.undo(owns_nothing) == (
        [],
        ["item 'b' raised ValueError: no", "item 'a' raised ValueError: no"],
    )
    assert not items


def test_the_real_tables_are_as_before():
    before = list(sys.path)
    side_effects = SideEffects()
    with side_effects.noting(owns_nothing):
        sys.path.append("/of/the/plugin")
    cleaned_up, failures = side_effects.undo(owns_nothing)
    assert "sys.path entry '/of/the/plugin'" in cleaned_up
    assert not failures
    assert sys.path == before
