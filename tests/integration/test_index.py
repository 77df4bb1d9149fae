"""Indexes: a reload moves what was built to the new code, and builds nothing again."""

import gc
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
SQL = "SELECT id, body FROM articles"

CODE = """
from typing import NamedTuple
from epochal.kinds import index
from tests.integration.test_index import CALLS, ENTERED, GATE

class Hit(NamedTuple):
    id: int
    version: str

@index
class words:
    def __init__(self):
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
"""


@pytest.fixture(autouse=True)
def _fresh():
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


def test_an_index_is_built_of_a_query_and_searched_in_sql(rt, db, plugins):
    rt.load(write(plugins))
    assert build(db) == 3
    sql = "SELECT a.body FROM library.words('old', 5) w JOIN articles a ON a.id = w.id"
    with db.query(sql) as result:
        assert result.to_table()["body"].to_pylist() == ["old code"]
    assert "library.words(word VARCHAR, [limit BIGINT]) -> TABLE(id BIGINT, version VARCHAR)" in (
        db.functions()
    )


def test_a_reload_opens_what_was_built_and_builds_nothing(rt, db, plugins):
    rt.load(write(plugins))
    build(db)
    for number in range(1, 6):
        assert rt.reload("library", write(plugins, f"2.{number}")).reclaimed
        assert search(db) == [(1, f"2.{number}"), (2, f"2.{number}")]
    assert ["build 1.0", *(f"open 2.{number}" for number in range(1, 6))] == CALLS


def test_an_operation_from_before_searches_on_its_own_code(rt, db, plugins):
    rt.load(write(plugins))
    build(db)
    with rt.operation("before") as epoch:
        rt.reload("library", write(plugins, "2.0"), drain_timeout=0.0)
        assert epoch[index]["library.words"].search("old") == [(2, "1.0")]
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
    with pytest.raises(OSError, match="no room"):
        build(db)
    assert search(db, "old") == [(2, "1.0")]
    ENTERED.clear()
    db.register("articles", pa.table({"id": [9], "body": ["old"]}))
    build(db)
    assert search(db, "old") == [(9, "1.0")]


def test_a_search_goes_on_in_the_old_object_while_another_is_built(rt, db, plugins):
    rt.load(write(plugins, build="\n        if CALLS: ENTERED.set(); GATE.wait(10)"))
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


def test_a_build_through_an_older_epoch_goes_to_the_newest(rt, db, plugins):
    rt.load(write(plugins))
    build(db)
    with rt.operation("before") as epoch:
        rt.reload("library", write(plugins, "2.0"), drain_timeout=0.0)
        rows = pa.table({"id": [7], "body": ["late"]}).to_batches()
        epoch[index]["library.words"].build(iter(rows))
        assert search(db, "late") == [(7, "2.0")]


def test_a_search_under_way_holds_the_old_generation(rt, db, plugins):
    rt.load(write(plugins, search="ENTERED.set(); GATE.wait(10)"))
    build(db)
    with ThreadPoolExecutor() as pool:
        found = pool.submit(search, db, "old")
        assert ENTERED.wait(10)
        cut = rt.reload("library", write(plugins, "2.0"), drain_timeout=0.05)
        assert not cut.drained
        GATE.set()
        assert found.result(10) == [(2, "1.0")]


def test_an_index_kept_in_a_folder_is_opened_after_a_restart(start, plugins, tmp_path):
    for first in (True, False):
        with start() as rt, Database(rt) as db:
            if first:
                rt.load(write(plugins))
                db.register("articles", pa.table({"id": [1], "body": ["old"]}))
                db.build_index("library.words", SQL, folder=tmp_path / "kept")
            else:
                rt.epoch[index]["library.words"].open(tmp_path / "kept")
            assert search(db, "old") == [(1, "1.0")]
    assert CALLS == ["build 1.0", "open 1.0"]


def kept(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_no_build_writes_over_another_and_the_one_before_goes(rt, db, plugins, tmp_path):
    rt.load(write(plugins, persist="assert not list(folder.iterdir())"))
    db.build_index("library.words", SQL, folder=tmp_path)
    (first,) = kept(tmp_path)
    found = rt.epoch[index]["library.words"].search
    db.register("articles", pa.table({"id": [9], "body": ["old"]}))
    db.build_index("library.words", SQL, folder=tmp_path)
    assert len(kept(tmp_path)) == 2, "somebody may still search the first"
    assert found("old") == [(2, "1.0")]
    del found
    gc.collect()
    (second,) = kept(tmp_path)
    assert first != second
    rt.reload("library", write(plugins, "2.0"))
    assert search(db, "old") == [(9, "2.0")]
    rt.remove("library")
    gc.collect()
    assert kept(tmp_path) == [second]


@pytest.mark.parametrize("step", ["build", "persist"])
def test_what_is_kept_stays_whole_when_a_later_build_fails(start, plugins, tmp_path, step):
    half = {"build": "pass", "persist": "(folder / 'rows').write_text('half')"}[step]
    fault = {step: f"if ENTERED.is_set(): {half}; raise OSError('no room')"}
    with start() as rt, Database(rt) as db:
        rt.load(write(plugins, **fault))
        db.register("articles", pa.table({"id": [1], "body": ["old"]}))
        db.build_index("library.words", SQL, folder=tmp_path / "kept")
        ENTERED.set()
        with pytest.raises(OSError, match="no room"):
            db.build_index("library.words", SQL, folder=tmp_path / "kept")
        rt.reload("library", write(plugins, "2.0"))
        assert search(db, "old") == [(1, "2.0")]
    with start() as rt, Database(rt) as db:
        rt.epoch[index]["library.words"].open(tmp_path / "kept")
        assert search(db, "old") == [(1, "2.0")]
        gc.collect()
        assert len(kept(tmp_path / "kept")) == 1


def test_what_a_process_left_that_died_while_building_is_removed(rt, db, plugins, tmp_path):
    rt.load(write(plugins))
    (tmp_path / "build-left").mkdir()
    (tmp_path / "mine").mkdir()
    with pytest.raises(HostError, match="there is no index in"):
        rt.epoch[index]["library.words"].open(tmp_path)
    db.build_index("library.words", SQL, folder=tmp_path)
    assert len(kept(tmp_path)) == 2
    assert "mine" in kept(tmp_path)
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
    assert len(kept(tmp_path)) == 1


def test_searching_what_is_not_built_says_so(rt, db, plugins):
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


def test_what_is_persisted_is_removed_with_the_last_generation(rt, db, plugins):
    before = set(Path(tempfile.gettempdir()).glob("epochal-index-*"))
    rt.load(write(plugins))
    build(db)
    build(db)
    rt.reload("library", write(plugins, "2.0"))
    assert len(set(Path(tempfile.gettempdir()).glob("epochal-index-*")) - before) == 1
    rt.remove("library")
    gc.collect()
    assert set(Path(tempfile.gettempdir()).glob("epochal-index-*")) == before


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("@index\nclass s: pass", "no method build"),
        ("@index\ndef s(): pass", "expected a class"),
        (
            CODE.replace("list[Hit]", "list").format_map(
                dict.fromkeys(("build", "persist", "open", "search"), "pass") | {"version": "1"}
            ),
            "name its columns",
        ),
    ],
)
def test_what_cannot_be_an_index_is_refused_when_it_is_loaded(rt, plugins, code, told):
    with pytest.raises(ExportError, match=told):
        rt.load(plugins.write("bad", f"from epochal.kinds import index\n{code}\n"))


# --- the examples ------------------------------------------------------------------------------

LINES = [
    "an old version is shut down only when nothing can call it",
    "a change of plugins commits at once or leaves nothing behind",
    "an operation sees one set of versions from first line to last",
]


def test_full_text_is_searched_after_reloads_and_nothing_is_built_again(rt, db, tmp_path):
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


@pytest.mark.parametrize("parts", [1, 2])
def test_vectors_of_different_lengths_are_refused(rt, db, parts):
    rt.load(examples.path("vectors"))
    # As many numbers as three vectors of two: only their lengths tell.
    batches = pa.table({"id": [1, 2, 3], "at": [[1.0], [1.0, 2.0], [1.0, 2.0, 3.0]]}).to_batches(
        max_chunksize=4 - parts
    )
    with pytest.raises(ValueError, match="the vectors are of different lengths"):
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
        rt.reload(plugin)  # reads from now on where the next build is written
        with db.query(f"SELECT id FROM {call} ORDER BY id") as result:
            assert result.to_table()["id"].to_pylist() == numbers
    gc.collect()
    assert len(kept(tmp_path)) == 1
