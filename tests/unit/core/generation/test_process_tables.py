"""The tables with rules of their own: modules, loggers, finalizers, builtins."""

import builtins
import logging
import weakref
from types import ModuleType, SimpleNamespace

from epochal._core.generation import process_tables
from epochal._core.generation.process_tables import (
    FinalizerTable,
    LoggerTable,
    ModuleTable,
    host_builtins,
    logger_tables,
    restore_builtins,
)


def module(name):
    made = ModuleType(name)
    made.__spec__ = SimpleNamespace(name=name)
    return made


def test_a_look_at_the_modules_leaves_generations_out():
    modules = {"json": module("json"), "geo__g7_3fa9c1d2": module("geo__g7_3fa9c1d2")}
    table = ModuleTable("module {}", lambda: modules)
    assert list(table.now()) == ["json"]
    modules["geo__g8_3fa9c1d2"] = module("geo__g8_3fa9c1d2")
    modules["csv"] = module("csv")
    assert sorted(table.now()) == ["csv", "json"]
    del modules["json"]
    assert list(table.now()) == ["csv"]


def test_an_import_is_ordinary_and_a_replaced_module_is_not():
    modules = {"json": module("json")}
    table = ModuleTable("module {}", lambda: modules)
    before = table.now()
    modules["csv"] = module("csv")
    modules["json"] = hand_made = module("json")
    [entry] = table.changed(before, table.now())
    assert entry.description == "module json"
    assert modules["json"] is hand_made
    assert entry.undo()
    assert modules["json"] is before["json"]


def test_a_logger_is_ordinary_and_one_of_the_plugins_class_is_taken_out():
    class PluginLogger(logging.Logger): ...

    root = logging.Logger("root")
    manager = logging.Manager(root)
    parent = PluginLogger("a")
    manager.loggerDict["a"] = parent
    parent.parent, parent.manager = root, manager
    child = manager.getLogger("a.b")
    table = LoggerTable("logger {}", lambda: manager.loggerDict)
    assert not list(table.changed({}, table.now()))
    [entry] = table.owned(table.now(), lambda value: value is parent)
    assert entry.undo()
    assert child.parent is root
    assert manager.getLogger("a") is not parent
    assert child.parent is manager.loggerDict["a"]


def test_a_finalizer_of_the_plugins_code_is_run_if_it_would_run_at_exit():
    class Resource: ...

    ran, alive = [], [Resource(), Resource()]
    at_exit = weakref.finalize(alive[0], ran.append, "at exit")
    detached = weakref.finalize(alive[1], ran.append, "detached")
    detached.atexit = False
    table = FinalizerTable("finalizer", lambda: [at_exit, detached])
    assert not list(table.changed([], table.now()))
    entries = list(table.owned(table.now(), lambda value: value == ran.append))
    assert [entry.undo() for entry in entries] == [True, True]
    assert [entry.undo() for entry in entries] == [False, False]
    assert ran == ["at exit"]


def test_builtins_of_plugins_are_not_the_hosts(monkeypatch):
    table = process_tables.BUILTINS
    before = table.now()
    monkeypatch.setattr(builtins, "_geo_builtin", 1, raising=False)
    entries = list(table.changed(before, table.now()))
    assert "_geo_builtin" not in host_builtins()
    assert entries[0].undo()
    assert not hasattr(builtins, "_geo_builtin")
    builtins._geo_builtin = 1  # for monkeypatch to remove


def test_replaced_builtins_are_restored_after_a_failure():
    before = {process_tables.BUILTINS: dict(vars(builtins))}
    original = builtins.callable
    builtins.callable = print
    [entry] = restore_builtins(before)
    assert builtins.callable is original
    assert entry.description == "builtin callable"
    assert entry.undo()


def test_handlers_and_filters_of_loggers_are_tables():
    handler = logging.NullHandler()
    logger = logging.getLogger("tests.process_tables")
    assert "handler tests.process_tables" not in logger_tables()
    logger.addHandler(handler)
    try:
        tables = logger_tables()
        assert handler in tables["handler tests.process_tables"].now()
        assert f"filter {id(handler)}" in tables
    finally:
        logger.removeHandler(handler)
