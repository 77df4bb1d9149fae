"""A plugin that is saved in a watched folder is loaded once it has settled, or refused."""

import shutil
from queue import Queue

import pytest
from tests.conftest import tool

from epochal.errors import HostError
from epochal.events import ChangeCommitted
from epochal.watch import SourceGone, SourceRefused, Watcher

VERSIONED = "@tool\ndef version(): return {n}\n"
SHOWN = (ChangeCommitted, SourceGone, SourceRefused)


@pytest.fixture
def next_event(rt):
    """Waits for the next event that a person would see."""
    queue = Queue()
    rt.events.subscribe(lambda event: queue.put(event) if isinstance(event, SHOWN) else None)
    return lambda: queue.get(timeout=20)


@pytest.fixture
def watch(rt, plugins):
    """Watches the plugins' folder."""
    watchers = []

    def watch(**options):
        watchers.append(Watcher(rt, plugins.root, **{"settle_s": 0.05, "scan_s": 1.0, **options}))

    yield watch
    for watcher in watchers:
        watcher.close()


def save(plugins, n, plugin="geo", **kw):
    return plugins.write(plugin, VERSIONED.format(n=n), version=f"{n}.0", **kw)


def call(rt, name="geo.version"):
    return rt.epoch[tool][name]()


def test_a_saved_plugin_is_loaded_and_then_reloaded(rt, plugins, watch, next_event):
    watch()
    save(plugins, 1)
    assert next_event().plugins == ("geo",)
    assert call(rt) == 1
    save(plugins, 2)
    assert next_event().plugins == ("geo",)
    assert call(rt) == 2


def test_a_file_without_a_manifest_causes_no_event(rt, plugins, watch, next_event):
    watch()
    (plugins.root / "test_geo.py").write_text("def test(): raise AssertionError\n")
    save(plugins, 1)
    assert next_event().plugins == ("geo",)


def test_a_plugin_that_loses_its_manifest_is_refused(rt, plugins, watch, next_event):
    path = save(plugins, 1)
    rt.load(path)
    next_event()
    watch()
    path.write_text("# to be written anew\n")
    assert "has no manifest" in next_event().error
    assert call(rt) == 1


def test_a_broken_plugin_is_refused_and_the_old_version_stays(rt, plugins, watch, next_event):
    rt.load(save(plugins, 1))
    next_event()
    watch()
    for code, reason in (("1/0\n", "link"), ("def init(ctx): 1/0\n", "init")):
        path = plugins.write("geo", code)
        event = next_event()
        assert (event.path, event.code) == (str(path), reason)
        assert "ZeroDivisionError" in event.error
        assert call(rt) == 1
    path.write_text("no manifest")
    assert next_event().code == "manifest"
    assert call(rt) == 1
    save(plugins, 2)
    next_event()
    assert call(rt) == 2


def test_an_editors_temporary_file_and_rename_make_one_change(rt, plugins, watch, next_event):
    rt.load(save(plugins, 1))
    next_event()
    watch(settle_s=0.3)
    text = (plugins.root / "geo.py").read_text()
    (plugins.root / ".geo.py.swp").write_text("no plugin")
    (plugins.root / "geo.py").write_text("")  # truncated first
    aside = plugins.root / "geo.py~"
    aside.write_text(text.replace("return 1", "return 2"))
    aside.replace(plugins.root / "geo.py")
    next_event()
    assert (call(rt), rt.epoch.number) == (2, 2)


def test_a_package_is_reloaded_when_any_of_its_files_is_saved(rt, plugins, watch, next_event):
    folder = plugins.root / "geo"
    folder.mkdir()
    (folder / "plugin.toml").write_text('id = "geo"\nversion = "1.0"\n')
    (folder / "inner.py").write_text("N = 1\n")
    (folder / "__init__.py").write_text(
        "from tests.conftest import tool\nfrom .inner import N\n@tool\ndef version(): return N\n"
    )
    rt.load(folder)
    next_event()
    watch()
    (folder / "inner.py").write_text("N = 2\n")
    next_event()
    assert call(rt) == 2


def test_plugins_saved_together_change_together(rt, plugins, watch, next_event):
    rt.load(save(plugins, 1, "units"))
    rt.load(save(plugins, 1, requires=["units<2"]))
    next_event(), next_event()
    watch(settle_s=0.3)
    save(plugins, 2, "units")  # refused on its own: geo requires units<2
    save(plugins, 2, requires=["units>=2"])
    assert set(next_event().plugins) == {"units", "geo"}
    assert (call(rt), call(rt, "units.version"), rt.epoch.number) == (2, 2, 3)


def test_a_broken_plugin_keeps_no_other_from_its_new_version(rt, plugins, watch, next_event):
    rt.load(save(plugins, 1))
    rt.load(save(plugins, 1, "units"))
    next_event(), next_event()
    watch(settle_s=0.3)
    broken = plugins.write("geo", "1/0\n")
    save(plugins, 2, "units")
    events = {type(event): event for event in (next_event(), next_event())}
    assert events[SourceRefused].path == str(broken)
    assert events[ChangeCommitted].plugins == ("units",)
    assert (call(rt), call(rt, "units.version")) == (1, 2)


def test_a_deleted_plugin_stays_active_by_default(rt, plugins, watch, next_event):
    path = save(plugins, 1)
    rt.load(path)
    next_event()
    watch()
    path.unlink()
    event = next_event()
    assert (type(event), event.plugin, event.path) == (SourceGone, "geo", str(path))
    assert call(rt) == 1


def test_a_deleted_plugin_is_removed_on_request_and_a_renamed_one_stays(
    rt, plugins, watch, next_event
):
    path = save(plugins, 1)
    rt.load(path)
    rt.load(save(plugins, 1, "units"))
    next_event(), next_event()
    watch(remove=True, settle_s=0.3)
    path.rename(plugins.root / "geo_new.py")
    (plugins.root / "units.py").unlink()
    assert set(next_event().plugins) == {"geo", "units"}
    assert set(rt.epoch.generations) == {"geo"}
    assert rt.generation("geo").candidate.artifact.origin.name == "geo_new.py"


def test_a_save_of_the_same_bytes_makes_no_change(rt, plugins, watch, next_event):
    path = save(plugins, 1)
    rt.load(path)
    next_event()
    watch()
    path.write_bytes(path.read_bytes())
    save(plugins, 1, "units")  # causes the next event
    assert next_event().plugins == ("units",)
    assert rt.generation("geo").number == 0


@pytest.mark.parametrize("notified", [{"geo.py"}, set()], ids=["notified", "scan"])
def test_a_file_that_is_still_written_is_not_looked_at(
    rt, plugins, next_event, monkeypatch, notified
):
    """Also if no other name is written, of which `watchfiles` would wait for the end."""
    from epochal.watch import watcher

    path = plugins.root / "geo.py"
    whole = save(plugins, 1).read_text()
    notifications, cut, snapshots = Queue(), 8, []
    monkeypatch.setattr("watchfiles.watch", lambda *_, **__: iter(notifications.get, None))
    take = watcher.snapshot

    def written_meanwhile(folder):
        taken = take(folder)
        snapshots.append(path.read_text() == whole)
        if len(snapshots) < cut:
            path.write_text(whole[: len(whole) * len(snapshots) // (cut - 1)])
        return taken

    path.write_text("")
    with Watcher(rt, plugins.root, settle_s=0.001):
        path.write_text("#")
        monkeypatch.setattr(watcher, "snapshot", written_meanwhile)
        notifications.put(notified)
        assert isinstance(next_event(), ChangeCommitted)
        notifications.put(None)
    assert call(rt) == 1
    assert len(snapshots) > cut


def test_a_folder_that_is_never_quiet_is_looked_at_and_one_that_is_closed_is_not(
    rt, plugins, next_event, monkeypatch
):
    from epochal.watch import watcher

    notifications, count, take = Queue(), iter(range(1_000_000)), watcher.snapshot
    monkeypatch.setattr("watchfiles.watch", lambda *_, **__: iter(notifications.get, None))
    monkeypatch.setattr(watcher, "_LONGEST_S", 0.05)

    def noisy(folder):
        (folder / "noise.py").write_text(str(next(count)))
        return take(folder)

    def closing(folder):
        watched._stop.set()
        return take(folder)

    with Watcher(rt, plugins.root, settle_s=0.001) as watched:
        monkeypatch.setattr(watcher, "snapshot", noisy)
        save(plugins, 1)
        notifications.put({"geo.py"})
        assert next_event().plugins == ("geo",)
        monkeypatch.setattr(watcher, "snapshot", closing)
        save(plugins, 2)
        notifications.put({"geo.py"})
        notifications.put(None)
    assert call(rt) == 1


def test_a_missed_notification_loses_no_change(rt, plugins, next_event, monkeypatch):
    notifications = Queue()
    monkeypatch.setattr("watchfiles.watch", lambda *_, **__: iter(notifications.get, None))
    with Watcher(rt, plugins.root):
        save(plugins, 1)
        notifications.put(set())  # the time-out alone: no path
        next_event()
        assert call(rt) == 1
        notifications.put(None)


def test_a_closed_runtime_ends_the_watcher(rt, plugins, watch):
    watch()
    rt.close()
    save(plugins, 1)  # the fixture's close must not hang


def test_a_missing_folder_is_refused(rt, plugins):
    with pytest.raises(HostError, match="is not a folder"):
        Watcher(rt, plugins.root / "nowhere")
    shutil.rmtree(plugins.root)
    with pytest.raises(HostError, match="is not a folder"):
        Watcher(rt, plugins.root)
