"""Tables that plugin code may alter: the difference of two looks, and its undoing."""

from epochal._core.generation.watched_table import ListTable, NamedTable


def changes(table, before):
    return list(table.changed(before, table.now()))


def test_a_replaced_value_is_put_back():
    names = {"a": 1}
    table = NamedTable("name {}", lambda: names)
    before = table.now()
    names["a"] = 2
    [entry] = changes(table, before)
    assert entry.description == "name a"
    assert entry.undo()
    assert names == {"a": 1}


def test_a_removed_value_is_put_back():
    names = {"a": 1}
    table = NamedTable("name {}", lambda: names)
    before = table.now()
    del names["a"]
    [entry] = changes(table, before)
    assert entry.undo()
    assert names == {"a": 1}


def test_a_value_that_other_code_replaced_stays():
    names = {}
    table = NamedTable("name {}", lambda: names)
    before = table.now()
    names["a"] = "the plugin's"
    [entry] = changes(table, before)
    names["a"] = "other code's"
    assert not entry.undo()
    assert names == {"a": "other code's"}


def test_the_second_of_two_replacements_restores_the_value_before_the_first():
    names = {"a": "host's"}
    table = NamedTable("name {}", lambda: names)
    entries = []
    for value in ("first", "second"):
        before = table.now()
        names["a"] = value
        entries += changes(table, before)
    assert not entries[0].undo()
    assert entries[1].undo()
    assert names == {"a": "host's"}


def test_a_copy_without_puts_has_the_hosts_values():
    names = {"a": "host's"}
    table = NamedTable("name {}", lambda: names)
    before = table.now()
    names |= {"a": "plugin's", "b": "plugin's"}
    entries = changes(table, before)
    assert table.without_puts() == {"a": "host's"}
    assert names == {"a": "plugin's", "b": "plugin's"}
    assert len(entries) == 2


def test_only_the_listed_names_count():
    names = {"a": 1, "b": 1}
    table = NamedTable("name {}", lambda: names, frozenset({"a"}))
    assert table.now() == {"a": 1}


def test_a_value_whose_replacement_was_not_seen_is_restored_to_the_original():
    names = {"a": "plugin's"}
    table = NamedTable("name {}", lambda: names, original={"a": "interpreter's"})
    [entry] = table.owned(table.now(), lambda value: value == "plugin's")
    assert entry.undo()
    assert names == {"a": "interpreter's"}


def test_a_list_entry_is_found_by_identity_and_taken_out():
    first, second = [1], [1]
    items, altered = [first], []
    table = ListTable("item", lambda: items, lambda: altered.append(True))
    before = table.now()
    items.insert(0, second)
    [entry] = changes(table, before)
    assert entry.undo()
    assert not entry.undo()
    assert len(items) == 1
    assert items[0] is first
    assert altered == [True]


def test_an_entry_is_described_without_its_repr():
    class Hostile:
        def __repr__(self):
            raise RuntimeError

    assert ListTable("item", list).describe(Hostile()).startswith("item <")
