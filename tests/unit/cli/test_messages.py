"""Each mistake that a plugin's author, an analyst or an operator makes, and the line that it gives.

A line names the place (file and line of the plugin's own code), the mistake and the remedy.
"""

import re
import sys

import pytest

from epochal import Runtime
from epochal.cli import main
from epochal.errors import ArtifactError, StoreInUseError

SCALAR = "from epochal.kinds import scalar\n"
IDENTITY = "@scalar\ndef f(x: int) -> int:\n    return x\n"


def plugin(code, *, extra="", name="geo"):
    head = f'# /// plugin\n# id = "{name}"\n# version = "1.0"\n{extra}# ///\n'
    return head + code


FAULTS = {
    "no manifest": (
        SCALAR + IDENTITY,
        "{at}: has no manifest; expected these four lines at its top: `# /// plugin`, "
        '`# id = "geo"`, `# version = "1.0"` and `# ///`',
    ),
    "`plugins` for `plugin`": (
        "import os\n# /// plugins\n# ///\n",
        "{at}:2: '# /// plugins' begins no manifest; expected the line `# /// plugin`",
    ),
    "a tab in the manifest": (
        '# /// plugin\n#\tid = "geo"\n# ///\n',
        "{at}:2: a line of the manifest begins with `#` and a tab; expected `#` and a space",
    ),
    "no annotations": (
        plugin(SCALAR + "@scalar\ndef f(x):\n    return x\n"),
        "geo.f cannot be exported as scalar ({at}, line 6): parameter 'x': no annotation; the "
        "result: no annotation (SQL types are float, int, ",
    ),
    "an unknown annotation": (
        plugin(SCALAR + "@scalar\ndef f(x: complex) -> int:\n    return x\n"),
        "geo.f cannot be exported as scalar ({at}, line 6): parameter 'x': complex is not a SQL "
        "type (SQL types are ",
    ),
    "a kind that the manifest leaves out": (
        plugin(SCALAR + IDENTITY, extra='# capabilities = ["window"]\n'),
        "plugin 'geo' exports 'geo.f' as scalar, which it was not granted: add 'scalar' to "
        "`capabilities` in its manifest",
    ),
    "a service that nobody grants": (
        plugin("def init(ctx):\n    ctx.demand('net:x')\n", extra='# capabilities = ["net:x"]\n'),
        "plugin 'geo' needs the capability 'net:x': have the host grant it "
        "(grants={{'net:x'}}, --grant net:x)",
    ),
    "a key of the configuration": (
        plugin("def init(ctx):\n    ctx.config['key']\n"),
        "the configuration of plugin 'geo': key is missing; give it with config={{'key': …}}, or "
        "--config geo.key=…",
    ),
    "init without ctx": (
        plugin("def init():\n    pass\n"),
        "init() of plugin 'geo' ({at}, line 5) cannot be called as init(ctx): write "
        "`def init(ctx):`",
    ),
    "shutdown with ctx": (
        plugin("def shutdown(ctx):\n    pass\n"),
        "shutdown() of plugin 'geo' ({at}, line 5) cannot be called as shutdown(): write "
        "`def shutdown():`",
    ),
    "import_state with one argument": (
        plugin("def import_state(state):\n    pass\n"),
        "import_state() of plugin 'geo' ({at}, line 5) cannot be called as "
        "import_state(state, from_version): write `def import_state(state, from_version):`",
    ),
    "a mark inside a function": (
        plugin(
            SCALAR
            + "def make():\n    @scalar\n    def f(x: int) -> int:\n        return x\n"
            + "    return f\n\nkept = [make()]\n"
        ),
        "plugin 'geo' marks 'make.<locals>.f' as scalar, but no name at the top level of a module "
        "leads to the marked object: define it there and not inside a function, or export it with "
        "ctx.export(scalar, …) in register(ctx)",
    ),
    "a failing init": (
        plugin("def helper():\n    return {}['k']\n\ndef init(ctx):\n    helper()\n"),
        "init() of plugin 'geo' raised KeyError: 'k' ({at}, line 6)",
    ),
    "a failing module": (
        plugin("import json\n\njson.loads('{')\n"),
        "plugin 'geo' failed to load: JSONDecodeError: Expecting property name enclosed in double "
        "quotes: line 1 column 2 (char 1) ({at}, line 7)",
    ),
    "a syntax error": (
        plugin("def f(:\n"),
        "plugin 'geo' failed to load: SyntaxError: invalid syntax ({at}, line 5)",
    ),
    "two exports of one name": (
        plugin(SCALAR + IDENTITY + "@scalar(name='f')\ndef g(x: int) -> int:\n    return x\n"),
        "plugin 'geo' exports two scalars named 'f': geo.f ({at}, line 6) and geo.g "
        "({at}, line 9); give one of them another name with name=",
    ),
    "a relative import in a file": (
        plugin("from . import helper\n"),
        "plugin 'geo' failed to load: ImportError: attempted relative import with no known parent "
        "package ({at}, line 5); a plugin of one file has no modules beside it: make it a package, "
        "a folder with __init__.py and plugin.toml",
    ),
    "an import of another plugin": (
        plugin("import units\n"),
        "plugin 'geo' failed to load: ModuleNotFoundError: No module named 'units' ({at}, line 5); "
        'units.py beside it is a plugin: write `requires = ["units"]` into the manifest, and '
        '`units = ctx.require("units")` into init(ctx)',
    ),
    "a name by position": (
        plugin(SCALAR + "@scalar('g')\ndef f(x: int) -> int:\n    return x\n"),
        "plugin 'geo' failed to load: TypeError: 'g' cannot be marked as scalar: to give an export "
        "a name, write @scalar(name='g') ({at}, line 6)",
    ),
    "a host's kind": (
        plugin("from tests.conftest import tool\nfind = tool(print)\n"),
        "plugin 'geo' failed to load: TypeError: <built-in function print> cannot be marked as "
        "tool: it takes no attributes; export it with ctx.export(tool, …) in register(ctx) "
        "({at}, line 6)",
    ),
}


@pytest.mark.parametrize("mistake", FAULTS)
def test_check_names_the_place_and_the_remedy(mistake, tmp_path, capsys):
    code, text = FAULTS[mistake]
    path = tmp_path / "geo.py"
    path.write_text(code)
    (tmp_path / "units.py").write_text(plugin("", name="units"))
    assert main(["check", str(path)]) == 1
    out = capsys.readouterr().out
    faults = re.findall(r"^fault\[[\w-]+\]: (.*)$", out, re.MULTILINE)
    expected = text.format(at=path)
    assert len(faults) == 1
    assert faults[0] == expected or (text.endswith(" ") and faults[0].startswith(expected))


def test_the_place_is_in_the_plugin_and_not_in_what_it_calls(package, rt):
    carried = {"_vendor/lib.py": "def fail():\n    raise ValueError('deep')\n"}
    geo = package(
        "geo", {"__init__.py": "import lib\n\ndef init(ctx):\n    lib.fail()\n", **carried}
    )
    (geo / "plugin.toml").write_text('id = "geo"\nversion = "1"\nvendored = "_vendor"\n')
    with pytest.raises(Exception, match=r"(?m)ValueError: deep \(.*geo/__init__\.py, line 4\)$"):
        rt.load(geo)


@pytest.mark.parametrize("source", ["geo", "x = 1\ny = 2\n"])
def test_a_name_or_a_text_is_no_path(source, tmp_path, rt, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "geo.py").write_text(plugin(""))
    with pytest.raises(ArtifactError, match=r"do you mean geo\.py\?|is no path: .*Artifact"):
        rt.load(source)


def test_a_folder_of_plugins_is_not_one(tmp_path, rt):
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text(plugin("", name=name))
    with pytest.raises(ArtifactError, match=r"folder of files \(a\.py, b\.py\).*load_folder"):
        rt.load(tmp_path)
    assert rt.load_folder(tmp_path).published
    assert sorted(rt.epoch.generations) == ["a", "b"]


def test_a_second_runtime_of_a_store_reads_why(tmp_path):
    with (
        Runtime(store=tmp_path / "store"),
        pytest.raises(StoreInUseError, match=r"uvicorn --workers 2.*run one worker"),
    ):
        Runtime(store=tmp_path / "store")


# --- queries -----------------------------------------------------------------------------------


def error_of(arguments, capsys, status=1):
    assert main(arguments) == status
    line = capsys.readouterr().err.strip()
    return re.sub(r"^error\[[\w-]+\]: ", "", line)


def test_a_failing_function_names_its_line(tmp_path, capsys):
    path = tmp_path / "geo.py"
    path.write_text(plugin(SCALAR + "@scalar\ndef f(x: int) -> int:\n    return 1 // (x - x)\n"))
    assert error_of(["query", "SELECT geo.f(1)", "-p", str(path)], capsys) == (
        "geo.f (plugin geo 1.0) raised ZeroDivisionError: integer division or modulo by zero "
        "(geo.py, line 8)"
    )


def test_a_plugin_that_lies_here_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "is here" not in error_of(["query", "SELECT geo.f(1)"], capsys)
    (tmp_path / "geo.py").write_text(plugin(SCALAR + IDENTITY))
    assert error_of(["query", "SELECT geo.f(1)"], capsys) == (
        "no function 'geo.f'; plugin 'geo' is not loaded; loaded: none; geo.py is here: give it "
        "with -p geo.py"
    )


def test_an_unequal_line_of_a_csv_is_named(tmp_path, capsys):
    (tmp_path / "u.csv").write_text("a,b\n1,2\n3\n")
    assert error_of(["query", "SELECT * FROM u", "-t", f"u={tmp_path / 'u.csv'}"], capsys) == (
        f"table 'u': cannot be registered: line 3 of {tmp_path / 'u.csv'} has 1 field, and the "
        "lines above 2 fields"
    )


def test_a_file_with_another_delimiter_is_told_by_its_only_column(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("a;b\n1;2\n")
    assert error_of(["query", "SELECT a FROM t", "-t", f"t={tmp_path / 't.csv'}"], capsys) == (
        "No field named a. Valid fields are t.\"a;b\". If ';' separates the fields of its file, "
        "name it as the delimiter"
    )


def test_a_json_array_is_a_table(tmp_path, capsys):
    (tmp_path / "u.json").write_text('[{"a": 1, "b": "x"}, {"a": 2.5}]')
    query = ["query", "SELECT * FROM u ORDER BY a", "-f", "csv", "-t", f"u={tmp_path / 'u.json'}"]
    assert main(query) == 0
    assert capsys.readouterr().out == "a,b\n1.0,x\n2.5,\n"


def test_a_plugin_that_prints_leaves_the_data_alone(tmp_path, capsys):
    path = tmp_path / "geo.py"
    path.write_text(plugin(SCALAR + "print('loading')\n" + IDENTITY + "    print('called')\n"))
    assert main(["query", "SELECT geo.f(1) AS x", "-f", "csv", "-p", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out == "x\n1\n"
    assert err.startswith("loading\n")


# --- commands ----------------------------------------------------------------------------------


def test_check_and_plan_take_the_same_words_and_see_the_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "hostmod_of_test.py").write_text("value = 1\n")
    (tmp_path / "geo.py").write_text(
        plugin("import hostmod_of_test\n", extra='# requires = ["units"]\n')
    )
    (tmp_path / "units.py").write_text(plugin("", name="units"))
    words = ["geo.py", "-p", "units.py", "--grant", "net:x", "--config", "geo.a=1", "--json"]
    for command in ("check", "plan"):
        assert main([command, *words]) == 0, capsys.readouterr()


def test_a_service_that_is_not_there(capsys):
    assert error_of(["status", "--server", "http://127.0.0.1:9"], capsys) == (
        "no service answers at http://127.0.0.1:9 (connection refused); start one with `epochal "
        "serve`, or name its address with --server or EPOCHAL_SERVER"
    )


def test_plan_without_a_plugin(capsys):
    text = error_of(["plan"], capsys, status=2)
    assert "name the plugin's file as `epochal check` takes it" in text
