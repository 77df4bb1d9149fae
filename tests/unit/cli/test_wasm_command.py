"""`epochal wasm`: a module becomes a plugin, or the reason is given."""

import json

import pytest
from tests.wasm_components import binary, imported, scaled
from tests.wasm_modules import SAME, module

from epochal.artifact import read_artifact, read_manifest
from epochal.cli import main

MANIFEST = 'id = "geo"\nversion = "1.0"\n[exports.scalar]\nsame = "(a: utf8) -> utf8"\n'


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "geo.wasm").write_bytes(module(SAME))
    (tmp_path / "geo.toml").write_text(MANIFEST)
    return tmp_path


def test_embed_makes_the_module_a_plugin_in_place_or_elsewhere(files, capsys):
    assert main(["wasm", "embed", "geo.wasm", "geo.toml", "-o", "other.wasm"]) == 0
    assert main(["wasm", "embed", "geo.wasm", "geo.toml", "--json"]) == 0
    written = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert written == {"plugin": "geo", "version": "1.0", "file": "geo.wasm"}
    assert read_manifest(read_artifact("other.wasm")) == read_manifest(read_artifact("geo.wasm"))
    assert main(["check", "geo.wasm"]) == 0


def test_show_runs_nothing(files, capsys):
    main(["wasm", "embed", "geo.wasm", "geo.toml"])
    capsys.readouterr()
    assert main(["wasm", "show", "geo.wasm"]) == 0
    out = capsys.readouterr().out
    assert "imports: none\nexports: memory, epochal_interface_1, same\n" in out
    assert MANIFEST.strip() in out


def test_show_names_what_a_component_imports(files, capsys):
    clock = imported("clock", "now", "(result u64)", "(result i64)")
    (files / "half.wasm").write_bytes(binary(scaled(0.5), imports=(clock,)))
    assert main(["wasm", "show", "half.wasm"]) == 0
    out = capsys.readouterr().out
    assert "imports: epochal:plugin/clock@0.1.0\n" in out
    assert "exports: epochal:plugin/lifecycle@0.1.0, half\n" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed", "nowhere.wasm", "geo.toml"], "nowhere.wasm cannot be read"),
        (["embed", "geo.toml", "geo.toml"], "geo.toml is not a WebAssembly binary"),
        (["embed", "bad.wat", "geo.toml"], "is not WebAssembly text"),
        (["embed", "geo.wasm", "bad.toml"], "id is missing"),
        (["show", "geo.toml"], "geo.toml is not a WebAssembly binary"),
    ],
)
def test_what_cannot_be_is_named_and_nothing_is_written(files, capsys, arguments, message):
    (files / "bad.wat").write_text("(module")
    (files / "bad.toml").write_text('version = "1"\n')
    before = (files / "geo.wasm").read_bytes()
    assert main(["wasm", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert (files / "geo.wasm").read_bytes() == before
