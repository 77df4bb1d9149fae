"""`epochal plan`, `epochal check` and `epochal new`, with right and wrong input."""

import json
import subprocess
import sys
import textwrap

import pytest

from epochal.cli import main


@pytest.fixture
def write(tmp_path):
    """`write("geo", "1.0", 'requires = ["units>=1"]', code)` -> path of that plugin's file."""

    def write(plugin, version, extra="", code="", *, file=None):
        lines = ["# /// plugin", f'# id = "{plugin}"', f'# version = "{version}"']
        lines += [f"# {extra}"] if extra else []
        path = tmp_path / f"{file or plugin}.py"
        path.write_text("\n".join([*lines, "# ///", textwrap.dedent(code)]))
        return str(path)

    return write


ONE_FUNCTION = """\
from epochal.kinds import scalar

@scalar
def twice(x: float, times: int | None) -> float | None:
    return 2 * x
"""


# --- plan --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ("plan", "A", "B"),
        ("plan", "--load", "A", "--load", "B"),
        ("plan", "-p", "A", "--reload", "A", "--reload", "B"),
        ("query", "SELECT 1", "-p", "A", "-p", "B"),
    ],
    ids=["plan", "load", "reload", "query"],
)
def test_two_files_of_one_id_are_refused(write, capsys, command):
    files = {"A": write("geo", "1.0"), "B": write("geo", "1.1", file="geo_2")}
    assert main([files.get(word, word) for word in command]) == 1
    assert "'geo'" in capsys.readouterr().err


def test_a_plan_names_every_step_and_relinked_plugin(write, capsys):
    units, geo = write("units", "1.0"), write("geo", "1.0", 'requires = ["units>=1"]')
    newer = write("units", "1.1", file="units_1_1")
    assert main(["plan", "-p", geo, "-p", units, "--reload", newer]) == 0
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "4. link units 1.0 -> 1.1" in lines
    assert "6. link geo 1.0 again, because it requires units" in lines
    assert any("publish epoch 2" in line for line in lines)
    assert "nothing was changed" in lines[-1]


def test_a_plan_shows_the_whole_name_of_a_step_in_its_first_column(write, capsys):
    code = "def export_state(): return 1\ndef import_state(state, from_version): ..."
    geo = write("geo", "1.0", code=code)
    assert main(["plan", "-p", geo, "--reload", geo]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    names = {line[4:].split("  ")[0] for line in lines}
    # The second column begins after the longest name, "close gates", in every line.
    assert any(line.endswith(". close gates of geo") for line in lines)
    assert any(line.endswith(". hand over   geo what generation 0 keeps") for line in lines)
    assert any(line.endswith(". publish     epoch 2") for line in lines)
    assert {"link", "hand over", "publish", "drain"} <= names


def test_a_plan_as_json(write, capsys):
    geo = write("geo", "1.0")
    assert main(["plan", "--load", geo, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["published"] is False
    assert plan["epoch_before"] == 0
    assert plan["plugins"][0]["plugin"] == "geo"
    assert plan["plugins"][0]["old"] is None
    assert plan["plugins"][0]["new"]["version"] == "1.0"
    assert plan["steps"][-1] == "publish epoch 1"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--remove", "units"], "required-by"),
        (["--remove", "nothing"], "unknown-plugin"),
        (["--load", "units"], "already-loaded"),
        (["--reload", "units2"], "version-conflict"),
        (["--reload", "broken"], "link"),
        (["--reload", "does_not_start"], "init"),
    ],
)
def test_a_refused_plan_gives_the_reason(options, code, write, capsys):
    paths = {
        "units": write("units", "1.0"),
        "geo": write("geo", "1.0", 'requires = ["units<2"]'),
        "units2": write("units", "2.0", file="units2"),
        "broken": write("units", "1.1", code="1 / 0", file="broken"),
        "does_not_start": write("units", "1.1", code="def init(ctx): 1 / 0", file="late"),
    }
    given = list(options) if options[0] == "--remove" else [paths.get(o, o) for o in options]
    assert main(["plan", "-p", paths["units"], "-p", paths["geo"], *given, "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["error"]["code"] == code


def test_a_removal_can_include_dependents(write, capsys):
    units, geo = write("units", "1.0"), write("geo", "1.0", 'requires = ["units"]')
    assert main(["plan", "-p", units, "-p", geo, "--remove", "units", "--cascade"]) == 0
    assert "drain    geo" in capsys.readouterr().out


def test_a_plan_of_nothing_is_refused(write, capsys):
    assert main(["plan", "-p", write("geo", "1.0")]) == 2
    assert "nothing to plan" in capsys.readouterr().err


# --- check -------------------------------------------------------------------------------------


def test_a_valid_plugin_shows_its_manifest_and_signatures(write, capsys):
    assert main(["check", write("geo", "1.2", 'description = "Maps"', ONE_FUNCTION)]) == 0
    out = capsys.readouterr().out
    assert "is valid" in out
    assert "Maps" in out
    assert "geo.twice(x DOUBLE, times BIGINT) -> DOUBLE" in out


def test_a_valid_plugin_as_json(write, capsys):
    assert main(["check", write("geo", "1.2", code=ONE_FUNCTION), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["valid"] is True
    assert document["manifest"]["id"] == "geo"
    assert document["exports"] == [
        {"kind": "scalar", "signature": "geo.twice(x DOUBLE, times BIGINT) -> DOUBLE"}
    ]
    assert document["faults"] == document["warnings"] == []


def test_every_fault_of_a_manifest_is_reported(tmp_path, capsys):
    path = tmp_path / "bad.py"
    path.write_text('# /// plugin\n# id = "Not An Id"\n# version = "?"\n# colour = "red"\n# ///\n')
    assert main(["check", str(path), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["valid"] is False
    assert len(document["faults"]) == 3
    assert main(["check", str(path)]) == 1
    assert capsys.readouterr().out.count("fault[manifest]: ") == 3


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("def f(:", "SyntaxError"),
        ("def init(ctx): raise OSError('no disk')", "no disk"),
        (ONE_FUNCTION + "def shutdown(): raise OSError('no way out')", "no way out"),
        ("from epochal.kinds import scalar\n@scalar\ndef f(x): return x", "parameter 'x'"),
    ],
)
def test_a_fault_of_the_code_is_reported(code, expected, write, capsys):
    assert main(["check", write("geo", "1.0", code=code)]) == 1
    out, err = capsys.readouterr()
    assert "is not valid" in out
    assert expected in out
    assert "Traceback" not in out + err


def test_required_plugins_must_be_given(write, capsys):
    units, geo = write("units", "1.0"), write("geo", "1.0", 'requires = ["units>=1"]')
    assert main(["check", geo]) == 1
    assert "requires units>=1, which is not active" in capsys.readouterr().out
    assert main(["check", geo, "-p", units]) == 0


@pytest.mark.parametrize("kind", ["missing file", "text file", "folder"])
def test_a_path_that_is_not_a_plugin_is_a_fault(kind, tmp_path, capsys):
    path = {"missing file": tmp_path / "no.py", "text file": tmp_path / "a.txt"}.get(kind, tmp_path)
    (tmp_path / "a.txt").write_text("hello")
    assert main(["check", str(path)]) == 1
    assert "fault[artifact]: " in capsys.readouterr().out


def test_a_leaking_plugin_gets_a_warning(write, monkeypatch, capsys):
    monkeypatch.setattr(json, "left_behind", [], raising=False)
    code = f"{ONE_FUNCTION}\nimport json\njson.left_behind.append(twice)\n"
    path = write("leaky", "1.0", code=code)
    assert main(["check", path, "--json"]) == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert warnings
    assert all("memory does not come back" in warning for warning in warnings)


# --- new ---------------------------------------------------------------------------------------


def test_a_new_plugin_is_valid_and_its_own_test_passes(tmp_path, capsys):
    assert main(["new", "weather", "--folder", str(tmp_path / "made")]) == 0
    assert "epochal check" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "made/weather.py")]) == 0
    assert "weather.greet(name VARCHAR) -> VARCHAR" in capsys.readouterr().out
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_weather.py"],
        cwd=tmp_path / "made",
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_a_new_plugin_has_its_name_everywhere(tmp_path, capsys):
    assert main(["new", "weather", "--folder", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["plugin"] == "weather"
    assert len(document["files"]) == 2
    for name in ("weather.py", "test_weather.py"):
        assert "example" not in (tmp_path / name).read_text()


def test_files_are_replaced_with_force_alone(tmp_path, capsys):
    test_file = tmp_path / "test_weather.py"
    test_file.write_text("mine")
    assert main(["new", "weather", "--folder", str(tmp_path)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert test_file.read_text() == "mine"
    assert not (tmp_path / "weather.py").exists()
    assert main(["new", "weather", "--folder", str(tmp_path), "--force"]) == 0
    assert test_file.read_text() != "mine"


@pytest.mark.parametrize("name", ["Weather", "my-plugin", "2fast", "class", "a" * 65, ""])
def test_a_name_that_cannot_be_an_id_is_refused(name, tmp_path, capsys):
    assert main(["new", name, "--folder", str(tmp_path)]) == 2
    assert "cannot be a plugin's id" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["new", "weather", "--folder", str(tmp_path / "file")]) == 1
    err = capsys.readouterr().err
    assert "cannot be written to" in err
    assert err.count("\n") == 1
