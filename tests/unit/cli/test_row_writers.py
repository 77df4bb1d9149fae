"""Rows in each format, to a terminal and to a file."""

import asyncio
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from epochal import Runtime
from epochal.cli import main, row_writers
from epochal.sql import Database

QUERY = (
    "SELECT * FROM (VALUES (1, 'a|b', 1.5, X'00ff'), (2, NULL, NULL, NULL)) AS t(n, s, f, b) "
    "ORDER BY n"
)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (
            "table",
            "n  s        f  b\n─  ────  ────  ──────\n1  a|b    1.5  0x00ff\n2  null  null  null\n",
        ),
        ("csv", "n,s,f,b\n1,a|b,1.5,AP8=\n2,,,\n"),
        ("tsv", "n\ts\tf\tb\n1\ta|b\t1.5\tAP8=\n2\t\t\t\n"),
        (
            "jsonl",
            '{"n": 1, "s": "a|b", "f": 1.5, "b": "AP8="}\n'
            '{"n": 2, "s": null, "f": null, "b": null}\n',
        ),
        (
            "markdown",
            "| n | s | f | b |\n| --: | --- | --: | --- |\n"
            "| 1 | a\\|b | 1.5 | 0x00ff |\n| 2 |  |  |  |\n",
        ),
    ],
)
def test_each_format(form, text, capsys):
    assert main(["query", QUERY, "-f", form]) == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ".json", ".md", ".tsv"])
def test_a_file_has_the_format_of_its_suffix_and_is_whole(suffix, tmp_path, capsys):
    path = tmp_path / f"out{suffix}"
    assert main(["query", "SELECT 1 AS n UNION ALL SELECT 2 ORDER BY n", "-o", str(path)]) == 0
    assert capsys.readouterr().out == ""
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    match suffix:
        case ".parquet":
            assert pq.read_table(path).to_pydict() == {"n": [1, 2]}
        case ".json":
            assert json.loads(path.read_text())["rows"] == [{"n": 1}, {"n": 2}]
        case _:
            assert len(path.read_text().splitlines()) == {".jsonl": 2, ".md": 4}.get(suffix, 3)


def test_a_query_that_fails_leaves_the_file_as_it_was(tmp_path, capsys):
    path = tmp_path / "out.csv"
    path.write_text("before")
    fails = "SELECT 1 / (v - 5000) FROM generate_series(1, 9000) AS t(v)"
    assert main(["query", fails, "-o", str(path)]) == 1
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv"]
    assert main(["query", "SELECT 1", "-o", str(tmp_path / "out.what")]) == 2
    assert "names no format; known: .json" in capsys.readouterr().err


def test_a_file_in_from_is_a_table(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "orders.csv").write_text("id;amount\n1;10\n2;20\n")
    (tmp_path / "names.json").write_text('[{"id": 1, "name": "Ada"}]')
    query = "SELECT name, amount FROM 'orders.csv' o JOIN 'names.json' n ON o.id = n.id"
    assert main(["query", query, "--delimiter", ";", "-f", "csv"]) == 0
    assert capsys.readouterr().out == "name,amount\nAda,10\n"
    plain = ["query", "SELECT count(*) FROM 'orders.csv'", "-f", "csv", "--no-header"]
    assert main(plain) == 0
    assert capsys.readouterr().out.endswith("\n3\n")
    for name, hint in (
        ("orders", "orders.csv is here: write FROM"),
        ("'x.csv'", "no such file"),
        ("'order.csv'", "no such file; do you mean 'orders.csv'?"),
        ("orders.csv", "orders.csv is a file: write its name in quotes, FROM 'orders.csv'"),
    ):
        assert main(["query", f"SELECT * FROM {name}"]) == 1
        assert hint in capsys.readouterr().err


def test_a_database_reads_no_file_that_a_query_names(tmp_path):
    path = tmp_path / "orders.csv"
    path.write_text("id\n1\n")
    with Runtime() as rt:
        db = Database(rt)
        with pytest.raises(Exception, match="not found"):
            db.query(f"SELECT * FROM '{path}'")
        db.close()


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (
            (14, 2, 3_600_000_000_000),
            pa.month_day_nano_interval(),
            "1 year 2 months 2 days 01:00:00",
        ),
        ((0, 0, 0), pa.month_day_nano_interval(), "00:00:00"),
        ((-1, 0, 0), pa.month_day_nano_interval(), "-1 month"),
        (3_723_500, pa.duration("ms"), "01:02:03.5"),
        (-1, pa.duration("s"), "-00:00:01"),
        (b"x" * 40, pa.binary(), f"0x{'78' * 32}… (40 bytes)"),
        (True, pa.bool_(), "true"),
        (0.1 + 0.2, pa.float64(), "0.3"),
        (None, pa.binary(), None),
    ],
)
def test_values_as_people_read_them(value, kind, text):
    assert row_writers.shown_values(pa.array([value], kind)) == [text]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ('geo.f(Int64(1),t.x,Utf8("a b"))', "geo.f(1,t.x,'a b')"),
        ("sum(t.Int64)", "sum(t.Int64)"),
        ("geo.f(t.x)", "geo.f(t.x)"),
    ],
)
def test_a_name_without_the_engines_types(name, shown):
    assert row_writers.readable_name(name) == shown


def test_rows_are_written_as_they_come():
    """After the first thousand rows nothing is kept."""

    class Endless:
        schema = pa.schema([("n", pa.int64())])

        def __init__(self, batches):
            self.batches, self.seen = batches, []

        async def __aiter__(self):
            for _ in range(self.batches):
                yield pa.record_batch([pa.array(range(1000))], schema=self.schema)
                self.seen.append(out.tell())

    out = io.StringIO()
    result = Endless(3)
    aligned = row_writers.AlignedRows(result.schema, out)

    async def write():
        async for batch in result:
            aligned.add(row_writers.rows_of(batch, row_writers.shown_values))

    asyncio.run(write())
    aligned.end()
    assert result.seen[0] > 3000
    assert result.seen == sorted(set(result.seen))
    assert out.getvalue().count("\n") == 3002


def test_a_cell_is_one_line_of_its_width():
    schema = pa.schema([("s", pa.string()), ("t", pa.string())])
    out = io.StringIO()
    aligned = row_writers.AlignedRows(schema, out)
    aligned.add([("a\n\x1b[2J", "x"), ("日本", "y")])
    aligned.end()
    assert out.getvalue().splitlines()[2:] == ["a\\n\\x1b[2J  x", "日本        y"]
