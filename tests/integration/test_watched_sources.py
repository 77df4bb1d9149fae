"""A plugin is served from the source that it came from, and no foreign file ends the watcher."""

import os
import shutil
import socket
from pathlib import Path
from queue import Queue

import pytest
from tests.conftest import tool

from epochal.errors import SourceConflictError
from epochal.events import ChangeCommitted
from epochal.watch import (
    NotificationsFailed,
    SourceGone,
    SourceRefused,
    SourceRenamed,
    Watcher,
)

SHOWN = (ChangeCommitted, NotificationsFailed, SourceGone, SourceRefused, SourceRenamed)


class Folder:
    """A watched folder whose notifications the test sends: `look()` has the watcher look once."""

    def __init__(self, rt, root, monkeypatch):
        self.rt, self.root = rt, root
        self._wake, self._awake, self._done = Queue(), False, Queue()
        monkeypatch.setattr("watchfiles.watch", lambda *_, **__: self._notifications())

    def _notifications(self):
        # A look is over when the next notification is asked for. One that raises begins anew.
        if self._awake:
            self._done.put(None)
        while (item := self._wake.get()) is not None:
            self._awake = True
            if isinstance(item, Exception):
                raise item
            yield set()
            self._done.put(None)

    def look(self, item=0):
        events = []
        end = self.rt.events.subscribe(
            lambda event: events.append(event) if isinstance(event, SHOWN) else None
        )
        self._wake.put(item)
        self._done.get(timeout=20)
        end()  # delivers what was emitted
        return events

    def end(self):
        self._wake.put(None)

    def save(self, name, n, plugin="geo"):
        """Save a plugin, as a file or (without a suffix) as a folder, that answers `n`."""
        text = "from tests.conftest import tool\n@tool\ndef version(): return " + repr(n) + "\n"
        path = self.root / name
        if path.suffix == ".py":
            path.write_text(f'# /// plugin\n# id = "{plugin}"\n# version = "1"\n# ///\n{text}')
        else:
            path.mkdir(exist_ok=True)
            (path / "plugin.toml").write_text(f'id = "{plugin}"\nversion = "1"\n')
            (path / "__init__.py").write_text(text)
        return path

    def answer(self, name="geo.version"):
        return self.rt.epoch[tool][name]()

    def origin(self, plugin="geo"):
        return self.rt.generation(plugin).candidate.artifact.origin.name


@pytest.fixture
def folder(rt, tmp_path, monkeypatch):
    return Folder(rt, tmp_path, monkeypatch)


@pytest.fixture
def watch(rt, folder):
    watchers = []

    def watch(**options):
        options = {"settle_s": 0.01, "scan_s": 0.02, **options}
        watchers.append(Watcher(rt, folder.root, **options))
        return watchers[-1]

    yield watch
    folder.end()
    for watcher in watchers:
        watcher.close()


def names(events):
    return [type(event).__name__ for event in events]


@pytest.mark.parametrize("name", ["geo copy.py", "a.py", "geo_bak"])
def test_another_source_of_a_served_plugin_is_refused_by_name(rt, folder, watch, name):
    rt.load(folder.save("geo.py", "new"))
    watch()
    copy = folder.save(name, "old")
    [event] = folder.look()
    assert (type(event), event.code, event.path) == (SourceRefused, "source-conflict", str(copy))
    assert str(copy) in event.error
    assert str(folder.root / "geo.py") in event.error
    os.utime(copy / "__init__.py" if copy.is_dir() else copy, (1, 1))  # touched
    assert names(folder.look()) == ["SourceRefused"]
    folder.save("geo.py", "newer")
    folder.save(name, "old again")  # both in one look
    assert sorted(names(folder.look())) == ["ChangeCommitted", "SourceRefused"]
    assert (folder.answer(), folder.origin()) == ("newer", "geo.py")


@pytest.mark.parametrize("looks_between", [False, True])
def test_a_folder_that_is_swapped_serves_what_now_lies_at_its_path(
    rt, folder, watch, looks_between
):
    rt.load(folder.save("geo", "old"))
    watch()
    (folder.root / "geo").rename(folder.root / "geo.bak")
    if looks_between:
        folder.look()  # the first half looks like a renamed folder
        assert folder.answer() == "old"
    folder.save("geo", "new")
    folder.look()
    assert (folder.answer(), folder.origin()) == ("new", "geo")
    os.utime(folder.root / "geo.bak" / "__init__.py", (1, 1))
    assert names(folder.look()) == ["SourceRefused"]
    assert folder.answer() == "new"


def test_a_release_unpacked_beside_takes_over_only_once_it_is_moved_in_place(rt, folder, watch):
    rt.load(folder.save("geo", "old"))
    watch()
    folder.save("geo.new", "new")
    assert names(folder.look()) == ["SourceRefused"]
    (folder.root / "geo").rename(folder.root / "geo.bak")
    folder.look()
    assert folder.answer() == "old"
    (folder.root / "geo.new").rename(folder.root / "geo")
    folder.look()
    assert (folder.answer(), folder.origin()) == ("new", "geo")


def test_a_link_that_is_switched_serves_what_it_leads_to(rt, folder, watch, tmp_path_factory):
    releases = Folder.__new__(Folder)
    releases.root = tmp_path_factory.mktemp("releases")
    releases.save("1", "old"), releases.save("2", "new")
    (folder.root / "geo").symlink_to(releases.root / "1")
    rt.load(folder.root / "geo")
    watch()
    (folder.root / "next").symlink_to(releases.root / "2")
    (folder.root / "next").replace(folder.root / "geo")
    folder.look()
    assert folder.answer() == "new"


def test_a_renamed_file_takes_over_and_one_that_was_saved_since_stays(rt, folder, watch):
    rt.load(folder.save("geo.py", 1))
    watch()
    (folder.root / "geo.py").rename(folder.root / "earth.py")
    assert names(folder.look()) == ["ChangeCommitted"]
    assert folder.origin() == "earth.py"
    folder.save("earth.py", 2)
    folder.look()
    folder.save("geo.py", 1)  # a copy from elsewhere
    assert names(folder.look()) == ["SourceRefused"]
    assert (folder.answer(), folder.origin()) == (2, "earth.py")


def test_a_path_counts_however_it_is_spelled(rt, folder, watch):
    folder.save("geo.py", 1)
    rt.load(folder.root / ".." / folder.root.name / "geo.py")
    watch()
    folder.save("geo.py", 2)
    assert names(folder.look()) == ["ChangeCommitted"]
    assert folder.answer() == 2


def test_an_upload_does_not_give_the_plugin_to_a_touched_backup(rt, folder, watch):
    from epochal.artifact import Artifact, read_artifact

    source = folder.save("geo.py", 1)
    rt.load(source)
    folder.save("geo_old.py", 0)
    watch()
    text = read_artifact(source).files["geo.py"].replace(b"return 1", b"return 9")
    rt.reload("geo", Artifact("geo", {"geo.py": text}))
    os.utime(folder.root / "geo_old.py", (1, 1))
    assert names(folder.look()) == ["SourceRefused"]
    assert folder.answer() == 9
    folder.save("geo.py", 2)
    folder.look()
    assert folder.answer() == 2


def test_of_two_new_sources_of_one_plugin_none_is_loaded_until_one_is_gone(rt, folder, watch):
    watch()
    folder.save("geo.py", 1)
    folder.save("geo copy.py", 2)
    events = folder.look()
    assert names(events) == ["SourceRefused", "SourceRefused"]
    assert all("geo.py" in event.error and "geo copy.py" in event.error for event in events)
    assert "geo" not in rt.epoch.generations
    (folder.root / "geo copy.py").unlink()
    assert names(folder.look()) == ["ChangeCommitted"]
    assert folder.answer() == 1


@pytest.mark.parametrize("remove", [False, True])
def test_a_source_whose_id_changed_is_told(rt, folder, watch, remove):
    rt.load(folder.save("geo.py", 1))
    watch(remove=remove)
    folder.save("geo.py", 2, plugin="earth")
    events = folder.look()
    [event] = [event for event in events if isinstance(event, SourceRenamed)]
    assert (event.path, event.plugin, event.now) == (str(folder.root / "geo.py"), "geo", "earth")
    assert folder.answer("earth.version") == 2
    assert ("geo" in rt.epoch.generations) is not remove


def test_a_change_that_loads_two_sources_of_one_plugin_names_both(rt, folder):
    one, other = folder.save("geo.py", 1), folder.save("geo copy.py", 2)
    both = "both say that they are plugin 'geo'"
    with pytest.raises(SourceConflictError, match=both) as caught, rt.change() as change:
        change.load(one)
        change.load(other)
    assert caught.value.sources == (str(one), str(other))


# --- foreign files -----------------------------------------------------------------------------


def manifest(value):
    return lambda root: (root / "b.py").write_text(f"# /// plugin\n# id = {value}\n# ///\n")


def package(spoil):
    def make(root):
        folder = root / "k"
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        (folder / "plugin.toml").write_text('id = "k"\nversion = "1"\n')
        spoil(folder)

    return make


def many_links(folder):
    for name in "abc":
        (folder / name).symlink_to(".")


def deep(folder):
    here = Path.cwd()
    try:
        os.chdir(folder)
        for _ in range(1_200):
            Path("d").mkdir()
            os.chdir("d")
    finally:
        os.chdir(here)


def listening(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


FOREIGN = {
    "nested lists": manifest("[" * 2000 + "]" * 2000),
    "a long number": manifest("9" * 5000),
    "a long hexadecimal number": manifest("0x" + "f" * 5000),
    "nested tables": lambda root: (root / "b.py").write_text(
        f"# /// plugin\n# id{'.a' * 3000} = 1\n# ///\n"
    ),
    "a long version": manifest('"b"\n# version = "' + "9" * 5000 + '"'),
    "a long requirement": manifest(f'"b"\n# version = "1"\n# requires = ["a>={"9" * 5000}"]'),
    "nested markers": manifest('"b"\n# version = "1"\n# dependencies = ["a; ' + "(" * 5000 + '"]'),
    "a name that is not UTF-8": lambda root: (root / "\udcff.py").touch(),
    "such a name in a package": package(lambda folder: (folder / "\udcff.txt").touch()),
    "a pipe": lambda root: os.mkfifo(root / "b.py"),
    "a pipe in a package": package(lambda folder: os.mkfifo(folder / "pipe")),
    "a socket in a package": package(lambda folder: listening(folder / "s")),
    "a device": lambda root: (root / "b.py").symlink_to("/dev/zero"),
    "a device in a package": package(lambda folder: (folder / "z").symlink_to("/dev/zero")),
    "links to itself": package(many_links),
    "a link in a circle": lambda root: (root / "b.py").symlink_to("b.py"),
    "such a link in a package": package(lambda folder: (folder / "c.py").symlink_to("c.py")),
    "a broken link": lambda root: (root / "b.py").symlink_to("nowhere.py"),
    "a folder with a file's name": lambda root: (root / "b.py").mkdir(),
    "deep folders": package(deep),
    "a huge file": lambda root: os.truncate(_touched(root / "b.py"), 1 << 40),
    "a huge file in a package": package(lambda f: os.truncate(_touched(f / "data"), 1 << 40)),
    "no text": lambda root: (root / "b.py").write_bytes(b"# /// plugin\n\xff\n# ///\n"),
    "zeros": lambda root: (root / "b.py").write_bytes(b"\0" * 1000),
}


def _touched(path):
    path.touch()
    return path


@pytest.mark.parametrize("spoil", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_file_ends_neither_the_look_nor_the_watcher(
    rt, folder, watch, spoil, monkeypatch
):
    rt.load(folder.save("geo.py", 1))
    watch()
    spoil(folder.root)
    folder.save("geo.py", 2)
    for event in folder.look():
        assert not isinstance(event, SourceRefused) or event.code in {"artifact", "manifest"}
        str(event).encode()
    assert folder.answer() == 2
    folder.save("geo.py", 3)
    folder.look()
    assert folder.answer() == 3
    for path in folder.root.glob("b*"):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    _remove_deep(folder.root / "k")


def _remove_deep(folder):
    """Remove folders that are nested deeper than `shutil.rmtree` on 3.11 can go."""
    while (folder / "d" / "d").is_dir():
        (folder / "d").rename(folder.parent / "d")
        shutil.rmtree(folder)
        (folder.parent / "d").rename(folder)
    shutil.rmtree(folder, ignore_errors=True)


def test_a_file_that_vanishes_as_it_is_read_is_refused_alone(rt, folder, watch, monkeypatch):
    from epochal.watch import watcher

    rt.load(folder.save("geo.py", 1))
    watch()
    read = watcher.read_artifact

    def vanishing(path):
        if path.name == "b.py":
            path.unlink()
        return read(path)

    monkeypatch.setattr(watcher, "read_artifact", vanishing)
    folder.save("b.py", 0, plugin="b")
    folder.save("geo.py", 2)
    refused, _ = sorted(folder.look(), key=lambda event: type(event).__name__, reverse=True)
    assert "No such file" in refused.error
    assert folder.answer() == 2


def test_a_look_that_fails_is_reported_and_the_next_one_works(rt, folder, watch, monkeypatch):
    watcher = watch()
    original = watcher._look
    monkeypatch.setattr(watcher, "_look", lambda: 1 / 0)
    [event] = folder.look()
    assert (event.path, event.code) == (str(folder.root), "internal")
    monkeypatch.setattr(watcher, "_look", original)
    folder.save("geo.py", 1)
    folder.look()
    assert folder.answer() == 1


def test_notifications_that_fail_are_begun_again_and_no_save_is_lost(rt, folder, watch):
    watch()
    folder.save("geo.py", 1)
    assert names(folder.look(RuntimeError("no UTF-8"))) == [
        "NotificationsFailed",
        "ChangeCommitted",
    ]
    folder.save("geo.py", 2)
    assert names(folder.look(RuntimeError("again"))) == ["ChangeCommitted"]
    folder.save("geo.py", 3)
    folder.look()
    assert folder.answer() == 3
