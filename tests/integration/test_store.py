"""E8: a restart serves exactly the last committed epoch, from the store. Rollback and history."""

import asyncio
import os
import shutil
import sys
import threading
from importlib.metadata import PackageNotFoundError

import pytest
from tests.conftest import tool
from tests.notes import notes_of

from epochal.errors import (
    EpochalError,
    HostError,
    InitError,
    NoStoreError,
    NotKeptError,
    RestoreError,
    StoreInUseError,
    StoreWriteError,
)
from epochal.store import Keep

GATE = threading.Event()
VERSIONED = "@tool\ndef version(): return {n}\n"


def versioned(plugins, n, plugin="geo", **kw):
    return plugins.write(plugin, VERSIONED.format(n=n), version=f"{n}.0", **kw)


def call(rt, name="geo.version", *args):
    return rt.epoch[tool][name](*args)


def test_e8_a_restart_serves_the_last_committed_epoch_from_the_store(start, plugins):
    rt = start()
    rt.load(versioned(plugins, 1, "units"))
    rt.load(versioned(plugins, 1, requires=["units"]), config={"unit": "km"}, grants={"*", "net:*"})
    rt.reload("geo", versioned(plugins, 2, requires=["units"]))
    number, identity = rt.epoch.number, rt.epoch.id
    versioned(plugins, 3)  # on disk, never committed
    (plugins.root / "units.py").unlink()
    rt.close()

    rt = start()
    assert (rt.epoch.number, rt.epoch.id) == (number, identity)
    assert (call(rt, "geo.version"), call(rt, "units.version")) == (2, 1)
    candidate = rt.generation("geo").candidate
    assert dict(candidate.config) == {"unit": "km"}
    assert candidate.grants == {"*", "net:*"}
    rt.reload("geo")  # an ordinary reload reads the folder again
    assert (call(rt), rt.epoch.number) == (3, number + 1)


def test_e8_an_epoch_is_stored_before_it_is_published(start, plugins, monkeypatch):
    rt = start()
    rt.load(versioned(plugins, 1))
    seen, store = [], rt._store.commit

    def commit(entry):
        seen.append((call(rt), rt.epoch.number, rt._store.last().number))
        store(entry)
        seen.append((call(rt), rt.epoch.number, rt._store.last().number))

    monkeypatch.setattr(type(rt._store), "commit", lambda _, entry: commit(entry))
    rt.reload("geo", versioned(plugins, 2))
    assert seen == [(1, 1, 1), (1, 1, 2)]
    assert (call(rt), rt.epoch.number) == (2, 2)


def test_e5_a_failing_journal_holds_no_lease_of_the_staged_code(start, plugins, monkeypatch):
    rt = start(drain_timeout=5.0)
    rt.load(versioned(plugins, 1))

    def commit(self, entry):
        raise StoreWriteError("the disk is full", path="x")

    monkeypatch.setattr(type(rt._store), "commit", commit)
    with pytest.raises(StoreWriteError) as caught:
        rt.reload("geo", versioned(plugins, 2))
    # The staged generation was shut down at once: the error's frames hold no lease of it.
    assert not notes_of(caught.value)
    assert rt.audit()[0].code == "store-write"


def test_a_restored_package_has_all_its_files(start, tmp_path):
    folder = tmp_path / "geo"
    (folder / "data").mkdir(parents=True)
    (folder / "plugin.toml").write_text('id = "geo"\nversion = "1.0"\n')
    (folder / "__init__.py").write_text(
        "from importlib.resources import files\nfrom tests.conftest import tool\n"
        "from .inner import half\n@tool\ndef text():\n"
        "    return (files(__package__) / 'data/ä b.txt').read_text(), half(4)\n"
    )
    (folder / "inner.py").write_text("def half(x): return x / 2\n")
    (folder / "data" / "ä b.txt").write_text("from the package")
    rt = start()
    rt.load(folder)
    digest = rt.generation("geo").digest
    rt.close()
    shutil.rmtree(folder)
    rt = start()
    assert call(rt, "geo.text") == ("from the package", 2.0)
    assert rt.generation("geo").digest == digest


def test_generation_numbers_go_on_and_never_repeat(start, plugins):
    rt = start()
    rt.load(versioned(plugins, 1))
    with pytest.raises(InitError):
        rt.reload("geo", plugins.write("geo", "def init(ctx): 1/0\n"))
    seen = [rt.generation("geo").number]
    for _ in range(3):
        rt.close()
        rt = start()
        seen.append(rt.generation("geo").number)
    rt.remove("geo")
    rt.load(versioned(plugins, 2))
    seen.append(rt.generation("geo").number)
    assert seen == [0, 2, 3, 4, 5]  # 1 failed, and is in the audit log


def test_a_restart_commits_nothing(start, plugins):
    rt = start()
    rt.load(versioned(plugins, 1), reason="first")
    before = rt.history(), rt.audit()
    rt.close()
    rt = start()
    assert (rt.history(), rt.audit()) == before


def test_removing_everything_is_a_commit_and_closing_is_not(start, plugins):
    rt = start()
    rt.load(versioned(plugins, 1))
    rt.remove("geo")
    rt.close()
    rt = start()
    assert (rt.epoch.number, dict(rt.epoch.generations)) == (2, {})
    rt.load(versioned(plugins, 2))
    assert rt.epoch.number == 3


def test_history_and_audit_record_every_change(start, plugins):
    rt = start()
    rt.load(versioned(plugins, 1), reason="ada: first")
    with pytest.raises(InitError):
        rt.reload("geo", plugins.write("geo", "def init(ctx): 1/0\n"), reason="ada: second")
    rt.reload("geo", versioned(plugins, 2), reason="ada: third")
    with rt.change(dry_run=True, reason="only looking") as change:
        change.remove("geo")
    second, first = rt.history()
    assert (second.number, second.id, second.reason) == (2, rt.epoch.id, "ada: third")
    assert second.plugins == (rt.generation("geo").described,)
    assert first.plugins[0].version == "1.0"
    assert rt.history(1) == (second,)
    third, second, first = rt.audit()
    assert [entry.committed for entry in (first, second, third)] == [True, False, True]
    assert (second.code, second.reason, second.plugins) == ("init", "ada: second", ("geo",))
    assert "ZeroDivisionError" in second.error
    assert (second.epoch_before, second.epoch_after) == (1, 1)
    assert first.at <= second.at <= third.at


def test_one_store_serves_one_runtime_and_the_error_names_the_holder(start, plugins, tmp_path):
    rt = start()
    with pytest.raises(StoreInUseError, match=str(os.getpid())) as caught:
        start()
    assert caught.value.pid == os.getpid()
    rt.close()
    start()


# --- rollback ------------------------------------------------------------------------------------


def test_rollback_restores_code_configuration_and_grants(start, plugins):
    rt = start()
    rt.load(versioned(plugins, 1), config={"n": 1}, grants={"*"})
    rt.reload("geo", versioned(plugins, 2), config={"n": 2}, grants={"*", "net:*"})
    identity = rt.history()[1].id
    cut = rt.rollback("geo", to=0, reason="second is slow")
    assert (call(rt), rt.epoch.number, rt.epoch.id) == (1, 3, identity)
    assert (cut.swaps[0].old.version, cut.swaps[0].new.version) == ("2.0", "1.0")
    assert rt.history(1)[0].reason == "second is slow"
    rt.rollback("geo", to="2.0.0")
    assert call(rt) == 2
    assert dict(rt.generation("geo").candidate.config) == {"n": 2}
    assert rt.generation("geo").candidate.grants == {"*", "net:*"}


def test_rollback_accepts_generation_numbers_of_before_and_after_a_restart(start, plugins):
    rt = start()
    rt.load(versioned(plugins, 1))
    rt.close()
    rt = start()
    assert rt.generation("geo").number == 1
    rt.reload("geo", versioned(plugins, 2))
    for to in (0, 1):
        rt.rollback("geo", to=to)
        assert call(rt) == 1
        rt.rollback("geo", to="2.0")


def test_rollback_restores_a_removed_plugin(start, plugins):
    rt = start()
    rt.load(versioned(plugins, 1))
    rt.remove("geo")
    rt.rollback("geo", to="1.0")
    assert call(rt) == 1


def test_rollback_of_an_epoch_restores_all_its_plugins(start, plugins):
    rt = start()
    rt.load(versioned(plugins, 1, "units"))
    rt.load(versioned(plugins, 1, requires=["units"]))
    wanted = rt.epoch.id
    rt.load(versioned(plugins, 1, "weather"))
    with rt.change() as change:
        change.reload("units", versioned(plugins, 2, "units"))
        change.remove("geo")
    cut = asyncio.run(rt.arollback(epoch=2))
    assert rt.epoch.id == wanted
    assert set(cut.plugins) == {"units", "geo", "weather"}


def test_rollback_joins_other_steps_of_a_change(start, plugins):
    rt = start()
    rt.load(versioned(plugins, 1))
    rt.reload("geo", versioned(plugins, 2))
    with rt.change() as change:
        change.rollback("geo", to=0)
        change.load(versioned(plugins, 1, "units"))
    assert (call(rt), call(rt, "units.version"), rt.epoch.number) == (1, 1, 3)


def test_a_rollback_error_names_the_kept_versions(start, plugins):
    rt = start()
    with pytest.raises(NotKeptError, match="kept: none"):
        rt.rollback(epoch=0)
    rt.load(versioned(plugins, 1))
    rt.load(versioned(plugins, 1, "units"))
    for options, message in (
        ({"plugin": "geo", "to": 7}, r"generation 7 .* kept: 0 \(1\.0\)"),
        ({"plugin": "geo", "to": "2.0"}, r"version '2\.0' .* kept: 0 \(1\.0\)"),
        ({"plugin": "geo", "to": "no version"}, "no version"),
        ({"plugin": "weather", "to": 0}, "kept: none"),
        ({"epoch": 9}, "epoch 9 .* kept: 1 to 2"),
    ):
        with pytest.raises(NotKeptError, match=message):
            rt.rollback(**options)
    for options in ({}, {"plugin": "geo"}, {"to": 1}, {"plugin": "geo", "to": 0, "epoch": 1}):
        with pytest.raises(HostError, match="rollback needs"):
            rt.rollback(**options)
    assert rt.epoch.number == 2


def test_a_failed_rollback_leaves_the_epoch_as_it_was(start, plugins):
    rt = start()
    rt.load(versioned(plugins, 1, "units"))
    rt.reload("units", versioned(plugins, 2, "units"))
    rt.load(versioned(plugins, 1, requires=["units>=2"]))
    epoch = rt.epoch
    with pytest.raises(EpochalError, match="requires units>=2"):
        rt.rollback("units", to=0)
    assert rt.epoch is epoch


def test_without_a_store_rollback_and_history_ask_for_one(rt, plugins):
    rt.load(versioned(plugins, 1))
    for ask in (lambda: rt.rollback("geo", to=0), rt.history, rt.audit):
        with pytest.raises(NoStoreError, match=r"Runtime\(store=path\)"):
            ask()


def test_the_history_is_pruned_by_its_policy(start, plugins):
    rt = start(keep=Keep(epochs=3))
    rt.load(versioned(plugins, 1))
    for n in range(2, 7):
        rt.reload("geo", versioned(plugins, n))
    assert [record.number for record in rt.history()] == [6, 5, 4]
    with pytest.raises(NotKeptError, match=r"kept: 3 \(4\.0\), 4 \(5\.0\), 5 \(6\.0\)"):
        rt.rollback("geo", to=2)
    rt.rollback(epoch=4)
    assert call(rt) == 4


# --- plugins that cannot be restored ------------------------------------------------------------


BROKEN = """
import tests.integration.test_store as world
def init(ctx):
    if world.BROKEN_NOW:
        raise RuntimeError("the world has changed")
@tool
def version(): return 1
"""


@pytest.fixture
def broken(monkeypatch):
    """Plugins written with BROKEN start until this is called."""
    module = sys.modules[__name__]
    monkeypatch.setattr(module, "BROKEN_NOW", False, raising=False)
    return lambda: monkeypatch.setattr(module, "BROKEN_NOW", True)


def test_a_plugin_that_no_longer_starts_stops_a_strict_restore(start, plugins, broken):
    rt = start()
    rt.load(plugins.write("geo", BROKEN))
    rt.load(versioned(plugins, 1, "units"))
    rt.close()
    broken()
    with pytest.raises(RestoreError, match=r"geo#0 1\.0 .*the world has changed") as caught:
        start()
    assert (caught.value.plugin, caught.value.epoch) == ("geo", 2)
    assert isinstance(caught.value.__cause__, InitError)
    assert "restore='available'" in str(caught.value)
    with pytest.raises(RestoreError):
        start()  # the store was released


def test_restore_available_commits_an_epoch_without_broken_plugins(start, plugins, broken):
    rt = start()
    rt.load(plugins.write("geo", BROKEN))
    rt.load(versioned(plugins, 1, "routes", requires=["geo"]))
    rt.load(versioned(plugins, 1, "units"))
    rt.close()
    broken()
    rt = start(restore="available")
    assert set(rt.epoch.generations) == {"units"}
    assert rt.epoch.number == 4
    assert "without geo" in rt.history(1)[0].reason
    assert "routes: requires 'geo'" in rt.history(1)[0].reason
    rt.rollback("units", to=rt.generation("units").number)
    sys.modules[__name__].BROKEN_NOW = False
    rt.rollback(epoch=3)
    assert set(rt.epoch.generations) == {"units", "geo", "routes"}
    identity = rt.epoch.id
    rt.close()
    assert start().epoch.id == identity


def test_restore_available_may_leave_every_plugin_out(start, plugins, broken):
    rt = start()
    rt.load(plugins.write("geo", BROKEN))
    rt.close()
    broken()
    rt = start(restore="available")
    assert (rt.epoch.number, dict(rt.epoch.generations)) == (2, {})
    rt.close()
    assert start().epoch.number == 2


def test_a_missing_distribution_is_named(start, plugins, monkeypatch):
    path = plugins.write("geo", "@tool\ndef version(): return 1\n")
    path.write_text(
        path.read_text().replace("# ///\n", '# dependencies = ["packaging"]\n# ///\n', 1)
    )
    rt = start()
    rt.load(path)
    rt.close()

    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("epochal._core.plugin.dependencies.version", version)
    with pytest.raises(RestoreError, match="not installed: packaging; install them with pip"):
        start()
    assert start(restore="available").epoch.number == 2


def test_code_that_no_longer_returns_is_named(start, plugins, monkeypatch):
    code = """
    import tests.integration.test_store as world
    def init(ctx):
        world.GATE.wait(20)
    @tool
    def version(): return 1
    """
    GATE.set()
    rt = start()
    rt.load(plugins.write("geo", code))
    rt.close()
    GATE.clear()
    try:
        with pytest.raises(RestoreError, match="init of plugin 'geo#1' did not return") as caught:
            start(phase_timeout=0.4)
        assert caught.value.plugin == "geo"
        assert not start(restore="available", phase_timeout=0.4).epoch.generations
    finally:
        GATE.set()


def test_an_unknown_restore_mode_is_refused(start):
    with pytest.raises(ValueError, match="expected 'strict' or 'available'"):
        start(restore="lenient")
    start()  # the store was released
