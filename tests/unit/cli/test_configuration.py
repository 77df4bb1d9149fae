"""`--config`: values and files, and errors that name the key."""

import json

import pytest
import typer

from epochal.cli import main
from epochal.cli.configuration import read_configs
from epochal.errors import HostError

GEO = """\
# /// plugin
# id = "geo"
# version = "1.0"
# ///
from epochal.kinds import scalar

def init(ctx):
    global config
    config = dict(ctx.config)

@scalar
def value(key: str) -> str:
    return repr(config.get(key))
"""


@pytest.mark.parametrize(
    ("options", "configs"),
    [
        (["geo.a=1", "geo.b=x", 'geo.c="1"'], {"geo": {"a": 1, "b": "x", "c": "1"}}),
        (["geo.db.host=h", "geo.db.port=1"], {"geo": {"db": {"host": "h", "port": 1}}}),
        (["geo.a=[1,2]", "units.a=b=c"], {"geo": {"a": [1, 2]}, "units": {"a": "b=c"}}),
        (["geo.a=", "geo.a.b=1"], {"geo": {"a": {"b": 1}}}),
        ([], {}),
    ],
)
def test_values(options, configs):
    assert read_configs(options) == configs


def test_files_are_merged_key_by_key(tmp_path):
    (tmp_path / "a.toml").write_text('[geo]\nunit = "km"\n[geo.db]\nhost = "h"\n')
    (tmp_path / "b.json").write_text('{"geo": {"db": {"port": 1}}, "units": {}}')
    files = [str(tmp_path / "a.toml"), str(tmp_path / "b.json")]
    expected = {"geo": {"unit": "mile", "db": {"host": "h", "port": 1}}, "units": {}}
    assert read_configs([*files, "geo.unit=mile"]) == expected


@pytest.mark.parametrize(
    ("option", "error", "text"),
    [
        ("unit=km", typer.BadParameter, "not of the form PLUGIN.KEY=VALUE"),
        ("absent.toml", HostError, "No such file"),
        ("flat.toml", HostError, "'unit' is not a table"),
        ("bad.toml", HostError, "line 1"),
        ("list.json", HostError, "is not a table"),
    ],
)
def test_a_wrong_option_is_named(tmp_path, monkeypatch, option, error, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flat.toml").write_text('unit = "km"\n')
    (tmp_path / "bad.toml").write_text("unit\n")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(error, match=text) as caught:
        read_configs([option])
    assert option.partition("=")[0] in str(caught.value)


def test_commands_take_it(tmp_path, capsys):
    path = tmp_path / "geo.py"
    path.write_text(GEO)
    one = ["--config", "geo.unit=km"]
    assert main(["query", "SELECT geo.value('unit') AS v", "-p", str(path), "--json", *one]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == [{"v": "'km'"}]
    assert main(["check", str(path), *one]) == 0
    assert main(["plan", str(path), *one]) == 0
    capsys.readouterr()
    for words in (["check", str(path)], ["query", "SELECT 1", "-p", str(path)]):
        assert main([*words, "--config", "gee.unit=km"]) == 1
        assert capsys.readouterr().err.strip() == (
            "error[host]: --config gee.unit is for plugin 'gee', which is not loaded; loaded: geo"
        )
