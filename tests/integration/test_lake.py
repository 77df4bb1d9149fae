"""The Parquet sink: it stores each event once, and finds its own position."""

import json

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from epochal import examples


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "lake"


@pytest.fixture
def make(rt, folder):
    def make():
        """The sink of another generation."""
        if rt.epoch.generations:
            rt.reload("lake")
        else:
            rt.load(examples.path("lake"), config={"folder": str(folder)})
        (opened,) = next(iter(rt.epoch.generations.values())).opened.values()
        return opened.instance.target

    return make


def has(folder):
    files = sorted(folder.glob("0*.parquet"))
    return [json.loads(e) for e in ds.dataset(files).to_table()["event"].to_pylist()]


@pytest.mark.parametrize(
    "positions",
    [
        (0, 1, 2),
        ("a", "b", "c"),
        (["log", 0], ["log", 1], ["log", 2]),
        (("x", 1), ("x", 2), ("x", 9)),
    ],
)
def test_a_repeated_delivery_is_dropped(make, folder, positions):
    lake = make()
    lake.start(None)
    assert lake.checkpoint() is None
    first, second, third = positions
    lake.write([(first, "a"), (second, "b")])
    lake.write([(second, "b"), (third, "c")])
    last = lake.checkpoint()
    assert last == json.loads(json.dumps(third))
    other = make()
    other.start(last)
    other.write([(first, "a"), (third, "c")])
    assert other.checkpoint() == last
    assert has(folder) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="and should up to elsewhere"):
        make().start("elsewhere")
    make().start(third)


def test_events_of_another_log_are_refused(make):
    lake = make()
    lake.start(None)
    lake.write([(["one", 1], "a")])
    with pytest.raises(ValueError, match="a folder of its own"):
        lake.write([(["two", 2], "b")])
    with pytest.raises(ValueError, match="a folder of its own"):
        lake.write([(2, "b")])


def test_other_files_are_left_alone(make, folder):
    folder.mkdir()
    for name in ("part-7.parquet", "export.parquet", "7.parquet", "mine.part"):
        pq.write_table(pa.table({"x": [1]}), folder / name)
    lake = make()
    lake.start(None)
    lake.write([(n, n) for n in range(1, 11)])
    assert lake.checkpoint() == 10
    assert has(folder) == list(range(1, 11))
    assert len(list(folder.iterdir())) == 5


def test_a_file_without_a_position_is_an_error(make, folder):
    folder.mkdir()
    pq.write_table(pa.table({"x": [1]}), folder / f"{7:020}.parquet")
    with pytest.raises(ValueError, match="has no position"):
        make().start(None)


def test_a_sink_that_does_not_take_over_disturbs_nothing(make, folder, monkeypatch):
    """It may start while the old one, which continues, is in the middle of a file."""
    lake = make()
    lake.start(None)
    lake.write([(1, "a")])
    other = make()
    written = pq.write_table

    def write(table, file):
        other.start(None)
        written(table, file)
        other.start(None)

    monkeypatch.setattr(pq, "write_table", write)
    assert lake.checkpoint() == 1
    assert has(folder) == ["a"]


def test_an_unfinished_file_goes_with_the_next_one(make, folder, monkeypatch):
    lake = make()
    lake.start(None)
    lake.write([(1, "a")])
    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", lambda _, file: file.write(b"PAR1, torn") and 1 / 0)
        with pytest.raises(ZeroDivisionError):
            lake.checkpoint()
    assert len(list(folder.glob("*.part"))) == 1
    assert lake.checkpoint() == 1
    assert has(folder) == ["a"]
    assert not list(folder.glob("*.part"))


def test_a_file_is_never_overwritten(make, folder):
    lake, other = make(), make()
    for writer in (lake, other):
        writer.start(None)
        writer.write([(1, "a")])
    lake.checkpoint()
    with pytest.raises(FileExistsError, match="another process writes"):
        other.checkpoint()
