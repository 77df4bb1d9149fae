"""What is saved in a watched folder is served once it has settled, or refused and told."""

import shutil
from queue import Queue

import pytest
from tests.conftest import tool

from epochal.errors import HostError
from epochal.events import ChangeCommitted
from epochal.watch import SourceGone, SourceRefused, Watcher

VERSIONED = "@tool\ndef version(): return {n}\n"
TOLD = (ChangeCommitted, SourceGone, SourceRefused)


@pytest.fixture
def told(rt):
    """The events that a person would see, one at a time."""
    queue = Queue()
    rt.events.subscribe(lambda event: queue.put(event) if isinstance(event, TOLD) else None)
    return lambda: queue.get(timeout=20)


@pytest.fixture
def watch(rt, plugins):
    """Watch the plugins' folder."""
    watchers = []

    def watch(**options):
        watchers.append(Watcher(rt, plugins.root, **{"settle": 0.05, "look": 1.0, **options}))

    yield watch
    for watcher in watchers:
        watcher.close()


def save(plugins, n, plugin="geo", **kw):
    return plugins.write(plugin, VERSIONED.format(n=n), version=f"{n}.0", **kw)


def call(rt, name="geo.version"):
    return rt.epoch[tool][name]()


def test_a_saved_plugin_is_loaded_and_then_reloaded(rt, plugins, watch, told):
    watch()
    save(plugins, 1)
    assert told().plugins == ("geo",)
    assert call(rt) == 1
    save(plugins, 2)
    assert told().plugins == ("geo",)
    assert call(rt) == 2


def test_a_file_without_a_manifest_is_none_and_not_told(rt, plugins, watch, told):
    watch()
    (plugins.root / "test_geo.py").write_text("def test(): raise AssertionError\n")
    save(plugins, 1)
    assert told().plugins == ("geo",)


def test_a_plugin_that_loses_its_manifest_is_refused(rt, plugins, watch, told):
    path = save(plugins, 1)
    rt.load(path)
    told()
    watch()
    path.write_text("# to be written anew\n")
    assert "has no manifest" in told().error
    assert call(rt) == 1


def test_a_broken_one_is_refused_and_told_while_the_old_one_serves(rt, plugins, watch, told):
    rt.load(save(plugins, 1))
    told()
    watch()
    for code, said in (("1/0\n", "link"), ("def init(ctx): 1/0\n", "init")):
        path = plugins.write("geo", code)
        event = told()
        assert (event.path, event.code) == (str(path), said)
        assert "ZeroDivisionError" in event.error
        assert call(rt) == 1
    path.write_text("no manifest")
    assert told().code == "manifest"
    assert call(rt) == 1
    save(plugins, 2)
    told()
    assert call(rt) == 2


def test_an_editor_that_writes_aside_and_renames_makes_one_change(rt, plugins, watch, told):
    rt.load(save(plugins, 1))
    told()
    watch(settle=0.3)
    text = (plugins.root / "geo.py").read_text()
    (plugins.root / ".geo.py.swp").write_text("no plugin")
    (plugins.root / "geo.py").write_text("")  # truncated first
    aside = plugins.root / "geo.py~"
    aside.write_text(text.replace("return 1", "return 2"))
    aside.replace(plugins.root / "geo.py")
    told()
    assert (call(rt), rt.epoch.number) == (2, 2)


def test_a_package_is_reloaded_when_any_of_its_files_is_saved(rt, plugins, watch, told):
    folder = plugins.root / "geo"
    folder.mkdir()
    (folder / "plugin.toml").write_text('id = "geo"\nversion = "1.0"\n')
    (folder / "inner.py").write_text("N = 1\n")
    (folder / "__init__.py").write_text(
        "from tests.conftest import tool\nfrom .inner import N\n@tool\ndef version(): return N\n"
    )
    rt.load(folder)
    told()
    watch()
    (folder / "inner.py").write_text("N = 2\n")
    told()
    assert call(rt) == 2


def test_what_is_saved_together_changes_together(rt, plugins, watch, told):
    rt.load(save(plugins, 1, "units"))
    rt.load(save(plugins, 1, requires=["units<2"]))
    told(), told()
    watch(settle=0.3)
    save(plugins, 2, "units")  # refused on its own: geo requires units<2
    save(plugins, 2, requires=["units>=2"])
    assert set(told().plugins) == {"units", "geo"}
    assert (call(rt), call(rt, "units.version"), rt.epoch.number) == (2, 2, 3)


def test_a_broken_one_keeps_no_other_from_its_new_version(rt, plugins, watch, told):
    rt.load(save(plugins, 1))
    rt.load(save(plugins, 1, "units"))
    told(), told()
    watch(settle=0.3)
    broken = plugins.write("geo", "1/0\n")
    save(plugins, 2, "units")
    events = {type(event): event for event in (told(), told())}
    assert events[SourceRefused].path == str(broken)
    assert events[ChangeCommitted].plugins == ("units",)
    assert (call(rt), call(rt, "units.version")) == (1, 2)


def test_a_deleted_one_serves_on_unless_it_is_to_be_removed(rt, plugins, watch, told):
    path = save(plugins, 1)
    rt.load(path)
    told()
    watch()
    path.unlink()
    event = told()
    assert (type(event), event.plugin, event.path) == (SourceGone, "geo", str(path))
    assert call(rt) == 1


def test_a_deleted_one_is_removed_on_request_and_a_renamed_one_stays(rt, plugins, watch, told):
    path = save(plugins, 1)
    rt.load(path)
    rt.load(save(plugins, 1, "units"))
    told(), told()
    watch(remove=True, settle=0.3)
    path.rename(plugins.root / "geo_new.py")
    (plugins.root / "units.py").unlink()
    assert set(told().plugins) == {"geo", "units"}
    assert set(rt.epoch.generations) == {"geo"}
    assert rt.generation("geo").candidate.artifact.origin.name == "geo_new.py"


def test_a_save_that_changes_nothing_changes_nothing(rt, plugins, watch, told):
    path = save(plugins, 1)
    rt.load(path)
    told()
    watch()
    path.write_bytes(path.read_bytes())
    save(plugins, 1, "units")  # the next event is this one's
    assert told().plugins == ("units",)
    assert rt.generation("geo").number == 0


def test_a_missed_event_is_found_by_looking(rt, plugins, told, monkeypatch):
    wakes = Queue()
    monkeypatch.setattr("watchfiles.watch", lambda *_, **__: iter(wakes.get, None))
    with Watcher(rt, plugins.root):
        save(plugins, 1)
        wakes.put(set())  # no event, the time to look has come
        told()
        assert call(rt) == 1
        wakes.put(None)


def test_a_runtime_that_is_closed_ends_the_watch(rt, plugins, watch):
    watch()
    rt.close()
    save(plugins, 1)  # and closing the watcher does not hang


def test_a_folder_that_is_none_is_refused(rt, plugins):
    with pytest.raises(HostError, match="is no folder"):
        Watcher(rt, plugins.root / "nowhere")
    shutil.rmtree(plugins.root)
    with pytest.raises(HostError, match="is no folder"):
        Watcher(rt, plugins.root)
