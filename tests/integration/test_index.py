"""Indexes: a reload opens the persisted build with the new code, and builds nothing again."""

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import pyarrow as pa
import pytest

from epochal import examples
from epochal.errors import (
    ExportError,
    FunctionError,
    HandOverError,
    HostError,
    IncompatibleError,
    QueryError,
    UnknownExportError,
)
from epochal.kinds import index
from epochal.sql import Database

CALLS: list = []
GATE = threading.Event()
ENTERED = threading.Event()
ENDS: SimpleQueue = SimpleQueue()
MADE: list = []
SQL = "SELECT id, body FROM articles"

CODE = """
from typing import NamedTuple
from epochal.kinds import index
from tests.integration.test_index import CALLS, ENDS, ENTERED, GATE, MADE

class Hit(NamedTuple):
    id: int
    version: str

@index
class words:
    def __init__(self):
        MADE.append("{version}")
        self.rows = None
    def build(self, rows):
        {build}
        CALLS.append("build {version}")
        self.rows = [tuple(row.values()) for batch in rows for row in batch.to_pylist()]
    def persist(self, folder):
        {persist}
        (folder / "rows").write_text(repr(self.rows))
    def open(self, folder):
        {open}
        CALLS.append("open {version}")
        self.rows = eval((folder / "rows").read_text())
    def search(self, word: str, limit: int = 10) -> list[Hit]:
        {search}
        return [Hit(key, "{version}") for key, text in self.rows if word in text.split()][:limit]
    def close(self):
        rows, self.rows = self.rows, "closed"
        assert rows != "closed"
        ENDS.put(("{version}", rows))
"""


@pytest.fixture(autouse=True)
def _fresh(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))
    while not ENDS.empty():
        ENDS.get()
    MADE.clear()
    CALLS.clear()
    GATE.clear()
    ENTERED.clear()


def write(plugins, version="1.0", **at):
    blocks = {"build": "pass", "persist": "pass", "open": "pass", "search": "pass", **at}
    return plugins.write("library", CODE.format(version=version, **blocks), version=version)


@pytest.fixture
def db(rt):
    with Database(rt, partitions=2) as database:
        database.register(
            "articles",
            pa.table({"id": [1, 2, 3], "body": ["new code", "old code", "no words"]}),
        )
        yield database


def build(db):
    return db.build_index("library.words", SQL)


def search(db, word="code"):
    sql = "SELECT id, version FROM library.words($1) ORDER BY id"
    with db.query(sql, [word]) as result:
        return [tuple(row.values()) for row in result.to_table().to_pylist()]


def test_an_index_is_built_from_a_query_and_searched_in_sql(rt, db, plugins):
    rt.load(write(plugins))
    assert build(db) == 3
    sql = "SELECT a.body FROM library.words('old', 5) w JOIN articles a ON a.id = w.id"
    with db.query(sql) as result:
        assert result.to_table()["body"].to_pylist() == ["old code"]
    assert "library.words(word VARCHAR, [limit BIGINT]) -> TABLE(id BIGINT, version VARCHAR)" in (
        db.functions()
    )


def test_a_reload_opens_the_build_and_builds_nothing(rt, db, plugins):
    rt.load(write(plugins))
    build(db)
    for number in range(1, 6):
        assert rt.reload("library", write(plugins, f"2.{number}")).reclaimed
        assert search(db) == [(1, f"2.{number}"), (2, f"2.{number}")]
    assert ["build 1.0", *(f"open 2.{number}" for number in range(1, 6))] == CALLS


def test_an_older_operation_searches_on_its_own_code(rt, db, plugins):
    rt.load(write(plugins))
    build(db)
    with rt.operation("before") as epoch:
        rt.reload("library", write(plugins, "2.0"), drain_timeout=0.0)
        assert epoch[index]["library.words"].search("old") == [(2, "1.0")]
        assert search(db, "old") == [(2, "1.0")]
    assert search(db, "old") == [(2, "2.0")]


@pytest.mark.parametrize(
    ("fault", "error"),
    [("raise ValueError('format 3')", IncompatibleError), ("raise OSError('x')", HandOverError)],
)
def test_a_format_that_cannot_be_opened_refuses_the_change(rt, db, plugins, fault, error):
    rt.load(write(plugins))
    build(db)
    epoch = rt.epoch
    with pytest.raises(error, match=r"index library\.words could not be handed over"):
        rt.reload("library", write(plugins, "2.0", open=fault))
    assert rt.epoch is epoch
    del epoch
    assert search(db) == [(1, "1.0"), (2, "1.0")]
    rt.reload("library", write(plugins, "3.0"))
    assert search(db, "old") == [(2, "3.0")]
    assert CALLS == ["build 1.0", "open 3.0"]


@pytest.mark.parametrize("step", ["build", "persist"])
def test_a_build_that_fails_leaves_the_index_as_it_was(rt, db, plugins, step):
    rt.load(write(plugins, **{step: "if ENTERED.is_set(): raise OSError('no room')"}))
    build(db)
    ENTERED.set()
    message = rf"index library\.words \(plugin library#0\): {step} raised OSError: no room"
    with pytest.raises(FunctionError, match=message) as caught:
        build(db)
    assert isinstance(caught.value.__cause__, OSError)
    del caught
    assert search(db, "old") == [(2, "1.0")]
    ENTERED.clear()
    db.register("articles", pa.table({"id": [9], "body": ["old"]}))
    build(db)
    assert search(db, "old") == [(9, "1.0")]


def test_searches_use_the_old_object_during_a_build(rt, db, plugins):
    rt.load(write(plugins, build="\n        if CALLS: ENTERED.set(); assert GATE.wait(10)"))
    build(db)
    with ThreadPoolExecutor() as pool:
        again = pool.submit(build, db)
        assert ENTERED.wait(10)
        assert search(db, "old") == [(2, "1.0")]
        with pytest.raises(HostError, match="is being built already"):
            build(db)
        with pytest.raises(IncompatibleError, match="is being built; change its plugin when"):
            rt.reload("library", write(plugins, "2.0"))
        GATE.set()
        assert again.result(10) == 3
    rt.reload("library", write(plugins, "2.0"))
    assert search(db, "old") == [(2, "2.0")]


def test_a_build_through_an_older_epoch_goes_to_the_newest_generation(rt, db, plugins):
    rt.load(write(plugins))
    build(db)
    with rt.operation("before") as epoch:
        rt.reload("library", write(plugins, "2.0"), drain_timeout=0.0)
        rows = pa.table({"id": [7], "body": ["late"]}).to_batches()
        epoch[index]["library.words"].build(iter(rows))
    assert search(db, "late") == [(7, "2.0")]


def test_a_running_search_keeps_the_old_generation(rt, db, plugins):
    rt.load(write(plugins, search="ENTERED.set(); assert GATE.wait(10)"))
    build(db)
    with ThreadPoolExecutor() as pool:
        result = pool.submit(search, db, "old")
        assert ENTERED.wait(10)
        cut = rt.reload("library", write(plugins, "2.0"), drain_timeout=0.05)
        assert not cut.drained
        GATE.set()
        assert result.result(10) == [(2, "1.0")]


def test_an_index_in_a_folder_is_opened_after_a_restart(start, plugins, tmp_path):
    for first in (True, False):
        with start() as rt, Database(rt) as db:
            if first:
                rt.load(write(plugins))
                db.register("articles", pa.table({"id": [1], "body": ["old"]}))
                db.build_index("library.words", SQL, folder=tmp_path / "stored")
            else:
                rt.epoch[index]["library.words"].open(tmp_path / "stored")
            assert search(db, "old") == [(1, "1.0")]
    assert CALLS == ["build 1.0", "open 1.0"]


def builds_in(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_a_build_writes_over_no_other_and_replaced_builds_are_removed(rt, db, plugins, tmp_path):
    rt.load(write(plugins, persist="assert not list(folder.iterdir())"))
    db.build_index("library.words", SQL, folder=tmp_path)
    (first,) = builds_in(tmp_path)
    search_first = rt.epoch[index]["library.words"].search
    db.register("articles", pa.table({"id": [9], "body": ["old"]}))
    db.build_index("library.words", SQL, folder=tmp_path)
    assert len(builds_in(tmp_path)) == 2, "the first may still be searched"
    assert search_first("old") == [(2, "1.0")]
    del search_first
    gc.collect()
    (second,) = builds_in(tmp_path)
    assert first != second
    rt.reload("library", write(plugins, "2.0"))
    assert search(db, "old") == [(9, "2.0")]
    rt.remove("library")
    gc.collect()
    assert builds_in(tmp_path) == [second]


@pytest.mark.parametrize("step", ["build", "persist"])
def test_a_stored_index_stays_whole_when_a_later_build_fails(start, plugins, tmp_path, step):
    half = {"build": "pass", "persist": "(folder / 'rows').write_text('half')"}[step]
    fault = {step: f"if ENTERED.is_set(): {half}; raise OSError('no room')"}
    with start() as rt, Database(rt) as db:
        rt.load(write(plugins, **fault))
        db.register("articles", pa.table({"id": [1], "body": ["old"]}))
        db.build_index("library.words", SQL, folder=tmp_path / "stored")
        ENTERED.set()
        with pytest.raises(FunctionError, match="no room"):
            db.build_index("library.words", SQL, folder=tmp_path / "stored")
        rt.reload("library", write(plugins, "2.0"))
        assert search(db, "old") == [(1, "2.0")]
    with start() as rt, Database(rt) as db:
        rt.epoch[index]["library.words"].open(tmp_path / "stored")
        assert search(db, "old") == [(1, "2.0")]
        gc.collect()
        assert len(builds_in(tmp_path / "stored")) == 1


def test_a_build_left_by_a_dead_process_is_removed(rt, db, plugins, tmp_path):
    rt.load(write(plugins))
    (tmp_path / "build-left").mkdir()
    (tmp_path / "mine").mkdir()
    with pytest.raises(HostError, match="there is no index in"):
        rt.epoch[index]["library.words"].open(tmp_path)
    db.build_index("library.words", SQL, folder=tmp_path)
    assert len(builds_in(tmp_path)) == 2
    assert "mine" in builds_in(tmp_path)
    (tmp_path / "epochal-index.json").write_text("{")
    for step in (
        lambda: rt.epoch[index]["library.words"].open(tmp_path),
        lambda: db.build_index("library.words", SQL, folder=tmp_path),
    ):
        with pytest.raises(HostError, match=r"epochal-index\.json is damaged"):
            step()
    assert search(db, "old") == [(2, "1.0")]


def test_a_folder_belongs_to_one_index(rt, db, plugins, tmp_path):
    rt.load(write(plugins))
    db.build_index("library.words", SQL, folder=tmp_path)
    blocks = dict.fromkeys(("build", "persist", "open", "search"), "pass")
    rt.load(plugins.write("other", CODE.format(version="1.0", **blocks)))
    with pytest.raises(HostError, match=r"holds the index library\.words; give other\.words a"):
        db.build_index("other.words", SQL, folder=tmp_path)


def test_a_folder_that_is_opened_twice_is_one_build(rt, db, plugins, tmp_path):
    rt.load(write(plugins))
    db.build_index("library.words", SQL, folder=tmp_path)
    rt.epoch[index]["library.words"].open(tmp_path)
    rt.epoch[index]["library.words"].open(tmp_path)
    gc.collect()
    assert search(db, "old") == [(2, "1.0")]
    assert len(builds_in(tmp_path)) == 1


def test_a_search_before_the_first_build_is_refused(rt, db, plugins):
    rt.load(write(plugins))
    assert not rt.epoch[index]["library.words"].is_built
    with pytest.raises(HostError, match=r"not built yet: build it with Database\.build_index"):
        search(db)
    with pytest.raises(UnknownExportError):
        db.build_index("library.nothing", "SELECT 1")
    with pytest.raises(HostError, match="there is no index in /nowhere"):
        rt.epoch[index]["library.words"].open("/nowhere/at/all")
    with pytest.raises(QueryError, match="is an index: use it in FROM"):
        build(db)
        db.query("SELECT library.words('x')")


def temporary():
    return sorted(Path(tempfile.gettempdir()).glob("epochal-index-*"))


def test_a_temporary_build_is_removed_with_the_last_generation(rt, db, plugins):
    rt.load(write(plugins))
    build(db)
    build(db)
    rt.reload("library", write(plugins, "2.0"))
    assert len(temporary()) == 1
    rt.remove("library")
    gc.collect()
    assert temporary() == []


# --- how objects are closed ----------------------------------------------------------------------


def test_no_object_is_made_before_there_is_something_to_build(rt, db, plugins):
    rt.load(write(plugins))
    rt.reload("library", write(plugins, "2.0"))
    assert MADE == []
    build(db)
    rt.reload("library", write(plugins, "3.0"))
    assert MADE == ["2.0", "3.0"]
    rt.remove("library")
    assert MADE == ["2.0", "3.0"]
    assert [ENDS.get(timeout=10)[0] for _ in MADE] == MADE


def test_a_replaced_object_is_closed_after_its_last_search(rt, db, plugins):
    rt.load(write(plugins))
    build(db)
    search_first = rt.epoch[index]["library.words"].search
    db.register("articles", pa.table({"id": [9], "body": ["late"]}))
    build(db)
    build(db)
    assert ENDS.get(timeout=10) == ("1.0", [(9, "late")])
    assert search_first("old") == [(2, "1.0")]
    assert ENDS.empty()
    del search_first
    assert ENDS.get(timeout=10)[1][0] == (1, "new code")
    rt.remove("library")
    assert ENDS.get(timeout=10) == ("1.0", [(9, "late")])
    assert ENDS.empty()


@pytest.mark.parametrize("step", ["build", "persist"])
def test_an_object_whose_build_failed_is_closed(rt, db, plugins, step):
    rt.load(write(plugins, **{step: "raise OSError('no room')"}))
    with pytest.raises(FunctionError):
        build(db)
    assert ENDS.get(timeout=10)[0] == "1.0"
    assert rt.remove("library", drain_timeout=10.0).drained
    assert ENDS.empty()


def test_a_refused_open_closes_the_new_object_and_not_the_old_one(rt, db, plugins):
    rt.load(write(plugins))
    build(db)
    with pytest.raises(IncompatibleError):
        rt.reload("library", write(plugins, "2.0", open="raise ValueError('format 3')"))
    assert ENDS.get(timeout=10) == ("2.0", None)
    assert search(db, "old") == [(2, "1.0")]
    assert ENDS.empty()


def test_a_running_close_keeps_the_generation(rt, db, plugins):
    code = write(plugins)
    slow = code.read_text().replace(
        "rows, self.rows =", "assert GATE.wait(10)\n        rows, self.rows ="
    )
    code.write_text(slow)
    rt.load(code)
    build(db)
    build(db)  # the close of the first begins
    assert not rt.remove("library", drain_timeout=0.05).drained
    GATE.set()
    assert ENDS.get(timeout=10)[0] == "1.0"
    assert ENDS.get(timeout=10)[0] == "1.0"


# --- folders that other processes touch -----------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_fork_removes_nothing_of_its_parents(rt, db, plugins, tmp_path):
    rt.load(write(plugins))
    rt.load(examples.path("fulltext"))
    build(db)
    db.build_index("library.words", SQL, folder=tmp_path)
    db.build_index("fulltext.text", SQL)
    before = sorted(Path(tempfile.gettempdir()).rglob("*"))
    pid = os.fork()
    if pid == 0:  # ends as `sys.exit` would
        try:
            weakref.finalize._exitfunc()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert sorted(Path(tempfile.gettempdir()).rglob("*")) == before
    assert len(builds_in(tmp_path)) == 1
    rt.reload("library", write(plugins, "2.0"))
    assert search(db, "old") == [(2, "2.0")]


OTHER = """
import sys
import pyarrow as pa
from epochal import Runtime
from epochal.kinds import index
from epochal.sql import Database
plugin, folder, command = sys.argv[1:]
with Runtime() as rt, Database(rt) as db:
    rt.load(plugin)
    db.register("articles", pa.table({"id": [9], "body": ["old"]}))
    if command == "build":
        db.build_index("library.words", "SELECT id, body FROM articles", folder=folder)
        db.build_index("library.words", "SELECT id, body FROM articles", folder=folder)
    else:
        rt.epoch[index]["library.words"].open(folder)
        print("open", flush=True)
        sys.stdin.readline()
    print(rt.epoch[index]["library.words"].search("old"))
"""


def other(plugin, folder, command):
    return subprocess.Popen(
        [sys.executable, "-c", OTHER, str(plugin), str(folder), command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_no_process_removes_a_build_that_another_uses(rt, db, plugins, tmp_path):
    plugin = write(plugins)
    rt.load(plugin)
    db.build_index("library.words", SQL, folder=tmp_path)
    (build,) = builds_in(tmp_path)
    with other(plugin, tmp_path, "build") as process:
        assert "id=9" in process.communicate(timeout=60)[0]
    assert build in builds_in(tmp_path)
    assert len(builds_in(tmp_path)) == 2
    rt.reload("library", write(plugins, "2.0"))
    assert search(db, "old") == [(2, "2.0")]
    rt.epoch[index]["library.words"].open(tmp_path)
    assert search(db, "old") == [(9, "2.0")]
    gc.collect()
    (build,) = builds_in(tmp_path)
    with other(plugin, tmp_path, "open") as process:
        assert process.stdout.readline() == "open\n"
        db.build_index("library.words", SQL, folder=tmp_path)
        db.build_index("library.words", SQL, folder=tmp_path)
        gc.collect()
        assert len(builds_in(tmp_path)) == 2
        assert build in builds_in(tmp_path)
        assert "id=9" in process.communicate("go\n", timeout=60)[0]
    assert len(builds_in(tmp_path)) == 1  # the last process to end removes the other build
    assert len(list(tmp_path.glob("build-*.lock"))) == 1


def test_links_to_a_folder_are_the_same_folder(rt, db, plugins, tmp_path):
    rt.load(write(plugins))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    db.build_index("library.words", SQL, folder=tmp_path / "real")
    search_first = rt.epoch[index]["library.words"].search
    (first,) = builds_in(tmp_path / "real")
    for _ in range(2):
        db.build_index("library.words", SQL, folder=tmp_path / "link")
    assert first in builds_in(tmp_path / "real")
    assert search_first("old") == [(2, "1.0")]


@pytest.mark.parametrize("name", ["", ".", "..", "mine", "build-", "build-../mine"])
def test_a_damaged_pointer_removes_nothing(rt, db, plugins, tmp_path, name):
    rt.load(write(plugins))
    (tmp_path / "mine").mkdir()
    pointer = tmp_path / "epochal-index.json"
    pointer.write_text(json.dumps({"index": "library.words", "build": name}))
    for step in (
        lambda: rt.epoch[index]["library.words"].open(tmp_path),
        lambda: db.build_index("library.words", SQL, folder=tmp_path),
    ):
        with pytest.raises(HostError, match=r"epochal-index\.json is damaged"):
            step()
    gc.collect()
    assert builds_in(tmp_path) == ["mine"]


def test_a_build_whose_name_is_not_durable_still_serves(
    rt, db, plugins, tmp_path, monkeypatch, caplog
):
    rt.load(write(plugins))
    db.build_index("library.words", SQL, folder=tmp_path)
    db.register("articles", pa.table({"id": [9], "body": ["old"]}))

    def broken(folder):
        raise OSError("EIO")

    monkeypatch.setattr("epochal.kinds.toolkit.index_storage.sync_folder", broken)
    db.build_index("library.words", SQL, folder=tmp_path)
    assert "may be gone after a power failure: OSError: EIO" in caplog.text
    assert search(db, "old") == [(9, "1.0")]
    rt.epoch[index]["library.words"].open(tmp_path)
    assert search(db, "old") == [(9, "1.0")]


@pytest.mark.parametrize("folder", [None, "stored"])
def test_removed_files_are_persisted_again(rt, db, plugins, tmp_path, folder):
    rt.load(write(plugins))
    home = tmp_path / folder if folder else Path(tempfile.gettempdir())
    db.build_index("library.words", SQL, folder=home if folder else None)
    for version in ("2.0", "3.0"):
        for path in home.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        rt.reload("library", write(plugins, version))
        assert search(db, "old") == [(2, version)]


def test_an_index_that_cannot_be_persisted_again_refuses_the_change(rt, db, plugins):
    rt.load(write(plugins, persist="if ENTERED.is_set(): raise OSError('no room')"))
    build(db)
    ENTERED.set()
    (place,) = temporary()
    (place / "rows").unlink()
    with pytest.raises(HandOverError, match=r"files are gone from .*build it again, with folder="):
        rt.reload("library", write(plugins, "2.0"))
    ENTERED.clear()
    build(db)
    rt.reload("library", write(plugins, "2.0"))
    assert search(db, "old") == [(2, "2.0")]


def test_a_build_that_leaves_rows_unread_is_refused(rt, db, plugins):
    code = write(plugins)
    few = code.read_text().replace("for batch in rows for", "for batch in [next(rows)] for")
    code.write_text(few)
    rt.load(code)
    db.register("articles", pa.table({"id": range(20_000), "body": ["old"] * 20_000}))
    with pytest.raises(FunctionError, match="build raised ValueError: it left rows unread"):
        build(db)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("@index\nclass s: pass", "no method build"),
        ("@index\ndef s(): pass", "expected a class"),
        (
            "@index\nclass s:\n    def build(self, rows): yield\n    def persist(self, f): ...\n"
            "    def open(self, f): ...\n    def search(self): ...",
            "build has a `yield`, so calling it does nothing",
        ),
        (
            CODE.replace("list[Hit]", "list").format_map(
                dict.fromkeys(("build", "persist", "open", "search"), "pass") | {"version": "1"}
            ),
            "name its columns",
        ),
    ],
)
def test_an_invalid_index_class_is_refused(rt, plugins, code, message):
    with pytest.raises(ExportError, match=message):
        rt.load(plugins.write("bad", f"from epochal.kinds import index\n{code}\n"))


# --- the examples ------------------------------------------------------------------------------

LINES = [
    "an old version is shut down only when nothing can call it",
    "a change of plugins commits at once or leaves nothing behind",
    "an operation sees one set of versions from first line to last",
]


def test_full_text_is_searched_after_reloads_without_a_build(rt, db, tmp_path):
    rt.load(examples.path("fulltext"))
    db.register("lines", pa.table({"id": [10, 20, 30], "line": LINES}))
    assert db.build_index("fulltext.text", "SELECT id, line FROM lines") == 3
    source = examples.path("fulltext").read_text()
    broken = source.replace(
        "def build(self, rows):", "def build(self, rows):\n        raise SystemExit"
    )
    (tmp_path / "fulltext.py").write_text(broken)
    for _ in range(3):
        assert rt.reload("fulltext", tmp_path / "fulltext.py").reclaimed
        sql = "SELECT id FROM fulltext.text('plugins OR nothing') ORDER BY score DESC"
        with db.query(sql) as result:
            assert result.to_table()["id"].to_pylist() == [20, 10]
    (tmp_path / "fulltext.py").write_text(source.replace("FORMAT = 1", "FORMAT = 2"))
    with pytest.raises(IncompatibleError, match="the index has format 1; this version reads 2"):
        rt.reload("fulltext", tmp_path / "fulltext.py")


def test_vectors_are_searched_after_reloads(rt, db):
    rt.load(examples.path("vectors"))
    axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.9, 0.1]]
    db.register("points", pa.table({"id": [1, 2, 3], "at": axes}))
    assert db.build_index("vectors.near", "SELECT id, at FROM points") == 3
    for _ in range(3):
        with db.query("SELECT id FROM vectors.near($1, 2) ORDER BY distance", [axes[1]]) as result:
            assert result.to_table()["id"].to_pylist() == [2, 3]
        assert rt.reload("vectors").reclaimed
    with pytest.raises(FunctionError, match="expected 3 numbers, not 1"):
        db.query("SELECT * FROM vectors.near($1)", [[1.0]])


@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        ([1, -3], [[1.0], [1.0]], "row 2 has -3 for its number"),
        ([1, None], [[1.0], [1.0]], "row 2 has None for its number"),
        ([1.5, 2.5], [[1.0], [1.0]], "expected a whole number and a list"),
        ([1, 2], [[1.0, 2.0], [1.0, None]], r"row 2 has \[1\.0, None\] for its vector"),
        ([1, 2], [[1.0], [float("nan")]], r"row 2 has \[nan\] for its vector"),
        ([1, 2], [[1.0], [1e300]], r"row 2 has \[1e\+300\] for its vector"),
        ([1, 2], [[1.0], [0.0]], r"row 2 has \[0\.0\] for its vector"),
        ([1, 2], [[], [1.0]], r"row 1 has \[\] for its vector"),
        ([1, 2], [[1.0], None], "row 2 has None for its vector"),
    ],
)
def test_an_invalid_vector_is_refused_with_its_row(rt, db, ids, vectors, message):
    rt.load(examples.path("vectors"))
    db.register("points", pa.table({"id": ids, "at": vectors}))
    with pytest.raises(FunctionError, match=message):
        db.build_index("vectors.near", "SELECT id, at FROM points")
    # Also after valid rows.
    db.register("good", pa.table({"id": [7], "at": [[1.0]]}))
    with pytest.raises(FunctionError):
        db.build_index("vectors.near", "SELECT * FROM good UNION ALL SELECT id, at FROM points")


@pytest.mark.parametrize("name", ["", "-x", "id"])
def test_a_column_that_cannot_be_a_field_is_refused(rt, db, name):
    rt.load(examples.path("fulltext"))
    with pytest.raises(FunctionError, match=f"column '{name}' cannot be a field"):
        db.build_index("fulltext.text", f'SELECT id AS n, body AS "{name}" FROM articles')


EXAMPLES = [
    ("fulltext.text", "SELECT id, body FROM articles", "'code'"),
    ("vectors.near", "SELECT id, make_array(1.0, id) FROM articles", "make_array(1.0, 1.0)"),
]


@pytest.mark.parametrize(("name", "sql", "wanted"), EXAMPLES)
def test_an_example_takes_any_limit(rt, db, name, sql, wanted):
    rt.load(examples.path(name.partition(".")[0]))
    db.build_index(name, sql)
    for limit in (100_000_000_000, 2**63 - 1):
        with db.query(f"SELECT id FROM {name}({wanted}, {limit})") as result:
            assert {1, 2} <= {row[0] for row in result.rows()}
    for limit in (0, -1):
        with pytest.raises(FunctionError, match=f"limit is {limit}; expected at least 1"):
            db.query(f"SELECT id FROM {name}({wanted}, {limit})")


@pytest.mark.parametrize(("name", "sql", "wanted"), EXAMPLES)
def test_an_example_is_built_from_no_rows(rt, db, name, sql, wanted):
    rt.load(examples.path(name.partition(".")[0]))
    assert db.build_index(name, f"{sql} WHERE id > 99") == 0
    for _ in range(2):
        with db.query(f"SELECT id FROM {name}({wanted})") as result:
            assert result.rows() == []
        rt.reload(name.partition(".")[0])


@pytest.mark.parametrize("parts", [1, 2])
def test_vectors_of_different_lengths_are_refused(rt, db, parts):
    rt.load(examples.path("vectors"))
    # As many numbers as three vectors of two: only the lengths show the fault.
    batches = pa.table({"id": [1, 2, 3], "at": [[1.0], [1.0, 2.0], [1.0, 2.0, 3.0]]}).to_batches(
        max_chunksize=4 - parts
    )
    with pytest.raises(FunctionError, match="the vectors are of different lengths"):
        rt.epoch[index]["vectors.near"].build(iter(batches))


@pytest.mark.parametrize(
    ("name", "column", "call"),
    [
        ("fulltext.text", ["old code", "new code"], "fulltext.text('code')"),
        ("vectors.near", [[1.0, 0.0], [0.0, 1.0]], "vectors.near(make_array(1.0, 0.5))"),
    ],
)
def test_an_example_is_built_into_one_folder_again_and_again(rt, db, tmp_path, name, column, call):
    plugin = name.partition(".")[0]
    rt.load(examples.path(plugin))
    for last in range(2, 6):
        numbers = list(range(last))
        db.register("lines", pa.table({"id": numbers, "line": (column * last)[:last]}))
        db.build_index(name, "SELECT id, line FROM lines", folder=tmp_path)
        rt.reload(plugin)  # reads the folder from now on, into which the next build is written
        with db.query(f"SELECT id FROM {call} ORDER BY id") as result:
            assert result.to_table()["id"].to_pylist() == numbers
    gc.collect()
    assert len(builds_in(tmp_path)) == 1
