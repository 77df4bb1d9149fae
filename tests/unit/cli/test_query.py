"""`epochal query`: rows for people and machines, and errors for wrong input."""

import io
import json
import subprocess
import sys

import pytest

from epochal import examples
from epochal.cli import main

GREETER = """\
# /// plugin
# id = "greeter"
# version = "1.2"
# ///
from epochal.kinds import scalar

@scalar(volatility="immutable")
def greet(name: str) -> str:
    return f"hello {name}"

@scalar
def refuse(name: str) -> str:
    raise ValueError(f"not {name}")
"""


@pytest.fixture
def greeter(tmp_path):
    path = tmp_path / "greeter.py"
    path.write_text(GREETER)
    return str(path)


@pytest.fixture
def people(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("name,age\nAda,36\nGrace,\n")
    return f"people={path}"


def test_a_plugin_function_is_called_on_a_table_from_a_file(greeter, people, capsys):
    sql = "SELECT greeter.greet(name) AS g, age FROM people ORDER BY name"
    assert main(["query", sql, "-p", greeter, "-t", people]) == 0
    out, err = capsys.readouterr()
    assert [line.split() for line in out.splitlines() if "hello" in line] == [
        ["hello", "Ada", "36"],
        ["hello", "Grace", "null"],
    ]
    assert "2 rows" in err
    assert "greeter 1.2" in err


def test_json_has_columns_rows_epoch_and_provenance(greeter, people, capsys):
    sql = "SELECT greeter.greet(name) AS g, age FROM people ORDER BY name"
    assert main(["query", sql, "-p", greeter, "-t", people, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["columns"] == [
        {"name": "g", "type": "VARCHAR"},
        {"name": "age", "type": "BIGINT"},
    ]
    assert document["rows"] == [{"g": "hello Ada", "age": 36}, {"g": "hello Grace", "age": None}]
    assert document["epoch"]["number"] == 1
    assert [entry["function"] for entry in document["provenance"]] == ["greeter.greet"]


def test_json_has_the_data_type_of_a_column(capsys):
    plugin = str(examples.path("geo_types"))
    assert main(["query", "SELECT geo_types.at(1, 2) AS p", "-p", plugin, "--json"]) == 0
    (column,) = json.loads(capsys.readouterr().out)["columns"]
    assert column["extension"]["name"] == "geo_types.point"


def test_json_is_valid_for_any_values(capsys):
    values = "'NaN'::double AS nan, DATE '2013-01-02' AS day, 1.50::decimal(5,2) AS d, [1, 2] AS l"
    sql = f"SELECT {values}"
    assert main(["query", sql, "--json"]) == 0
    text = capsys.readouterr().out
    assert json.loads(text)["rows"] == [
        {"nan": None, "day": "2013-01-02", "d": "1.50", "l": [1, 2]}
    ]
    assert "NaN" not in text


@pytest.mark.parametrize("written", ["json", "csv", "table"])
def test_an_instant_in_nanoseconds_is_written(written, capsys):
    sql = "SELECT TIMESTAMP '2024-01-01T00:00:00.123456789' AS at"
    assert main(["query", sql, "--format", written]) == 0
    assert "2024-01-01T00:00:00.123456789" in capsys.readouterr().out


def test_json_of_no_rows_is_whole(capsys):
    assert main(["query", "SELECT 1 AS one WHERE false", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == []


def test_csv_has_names_and_empty_nulls(people, capsys):
    sql = "SELECT name, age, age = 36 AS is_it FROM people ORDER BY name"
    assert main(["query", sql, "-t", people, "--format", "csv"]) == 0
    assert capsys.readouterr().out == "name,age,is_it\nAda,36,true\nGrace,,\n"


def test_the_query_may_come_from_standard_input(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT 7 AS seven"))
    assert main(["query", "-", "--format", "csv"]) == 0
    assert capsys.readouterr().out == "seven\n7\n"


def test_a_table_shows_the_first_rows_and_a_hint_at_more(capsys):
    sql = "SELECT * FROM generate_series(1, 100)"
    assert main(["query", sql, "--rows", "3"]) == 0
    out, err = capsys.readouterr()
    assert [line.strip() for line in out.splitlines() if line.strip().isdigit()] == ["1", "2", "3"]
    assert "the first 3 rows" in err


@pytest.mark.parametrize("rows", ["0", "100"])
def test_all_rows_are_shown_on_demand(rows, capsys):
    assert main(["query", "SELECT * FROM generate_series(1, 100)", "--rows", rows]) == 0
    out, err = capsys.readouterr()
    assert sum(line.strip().isdigit() for line in out.splitlines()) == 100
    assert err.startswith("100 rows")


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (["SELECT * FROM nowhere"], 1, "nowhere"),
        (["SELECT 1", "-t", "t=missing.csv"], 1, "table 't': missing.csv does not exist"),
        (["SELECT 1", "-t", "missing.csv"], 2, "NAME=PATH"),
        (["SELECT 1", "-t", "t=a.csv", "-t", "t=b.csv"], 2, "'t' is given twice"),
        (["SELECT 1", "-p", "missing.py"], 1, "missing.py cannot be read"),
        (["CREATE TABLE t AS SELECT 1"], 1, "refused"),
        (["SELECT 1 AS a, 2 AS a", "--rows", "-1"], 2, "--rows"),
    ],
)
def test_wrong_input_is_named(arguments, status, expected, capsys):
    assert main(["query", *arguments]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert expected in err
    assert err.count("\n") == 1


def test_a_folder_that_is_no_table_is_refused(tmp_path, capsys):
    assert main(["query", "SELECT 1", "-t", f"t={tmp_path}"]) == 1
    assert "holds no files" in capsys.readouterr().err


def test_a_function_that_raises_is_named(greeter, capsys):
    assert main(["query", "SELECT greeter.refuse('x')", "-p", greeter]) == 1
    err = capsys.readouterr().err
    assert "greeter.refuse" in err
    assert "not x" in err
    assert err.count("\n") == 1


def test_a_query_that_takes_too_long_is_ended():
    endless = (
        "SELECT sum(a.value * b.value) FROM generate_series(1, 3000000) AS a, "
        "generate_series(1, 3000000) AS b"
    )
    # In a process of its own, which does not wait for what the engine has begun: hours of it.
    command = [sys.executable, "-m", "epochal.cli", "query", endless, "--timeout", "0.2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    assert json.loads(done.stderr)["error"]["code"] == "query-timeout"


def test_columns_of_one_name_are_refused_in_json_and_kept_in_csv(people, capsys):
    sql = "SELECT a.name, b.name FROM people AS a JOIN people AS b ON a.name = b.name LIMIT 1"
    assert main(["query", sql, "-t", people, "--format", "json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "use AS" in err
    assert main(["query", sql, "-t", people, "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("name,name\n")
