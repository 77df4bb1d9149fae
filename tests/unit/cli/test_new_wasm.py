"""`epochal new --wasm` writes a plugin that builds, passes its test, and says what comes next."""

import importlib.util
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from tests.sizes import IS_LONG

from epochal.artifact import Artifact, embed_manifest, read_manifest
from epochal.cli import main

ROOT = Path(__file__).parents[3]
HEADER = ROOT / "src/epochal/cli/templates/wasm"
EXAMPLES = ROOT / "examples/wasm"
RUST = "wasm32-unknown-unknown"
FILES = {
    "c": {"geo.c", "epochal.h"},
    "zig": {"geo.zig"},
    "rust": {"geo.rs"},
    "assemblyscript": {"geo.ts"},
    "python": {"geo_component.py", "geo.wit", "epochal.wit"},
}


@cache
def _lacks(language):
    """What the compiler of a language lacks here; empty if it is there."""
    if not IS_LONG:
        return "compiles: in make test-long"
    match language:
        case "rust":
            command = ["rustc", "--print", "target-libdir", "--target", RUST]
        case "assemblyscript":
            command = ["npx", "--yes", "--package", "assemblyscript@0.28", "--", "asc", "--version"]
        case _:
            name = "componentize_py" if language == "python" else "ziglang"
            return "" if importlib.util.find_spec(name) else f"{name} is not installed"
    if shutil.which(command[0]) is None:
        return f"no {command[0]} here"
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    is_there = done.returncode == 0 and (language != "rust" or Path(done.stdout.strip()).is_dir())
    return "" if is_there else f"no compiler of {language} here"


@pytest.fixture
def needs():
    """Skips the test where a language's compiler is not there."""

    def skip(language):
        if lack := _lacks(language):
            pytest.skip(lack)

    return skip


@pytest.mark.parametrize("language", FILES)
def test_the_files_are_written_with_the_name(tmp_path, capsys, language):
    assert main(["new", "--wasm", language, "geo", "--folder", str(tmp_path)]) == 0
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"geo.toml", "build_geo.py", "test_geo.py", *FILES[language]}
    assert f"python {tmp_path / 'build_geo.py'}" in capsys.readouterr().out
    assert not any("example" in (tmp_path / name).read_text() for name in written)
    content = embed_manifest(b"\0asm\1\0\0\0", (tmp_path / "geo.toml").read_bytes())
    assert read_manifest(Artifact("geo", {"geo.wasm": content})).id == "geo"
    for path in tmp_path.glob("*.py"):
        compile(path.read_text(), path.name, "exec")


def test_another_language_is_refused(tmp_path, capsys):
    assert main(["new", "--wasm", "cobol", "geo", "--folder", str(tmp_path)]) == 2
    assert "'c', 'zig', 'rust', 'assemblyscript', 'python'" in " ".join(
        capsys.readouterr().err.replace("│", " ").split()
    )


def test_the_world_of_components_is_printed_and_written(tmp_path, capsys):
    assert main(["wasm", "wit"]) == 0
    world = capsys.readouterr().out
    assert "package epochal:plugin@0.1.0;" in world
    assert main(["new", "--wasm", "python", "geo", "--folder", str(tmp_path)]) == 0
    assert (tmp_path / "epochal.wit").read_text() == world == (ROOT / "wit/plugin.wit").read_text()


@pytest.mark.parametrize(
    ("language", "command", "message"),
    [
        ("rust", None, "needs Rust, which is not installed"),
        ("rust", "echo /nowhere", f"Rust has no target {RUST} here: rustup target add {RUST}"),
        ("assemblyscript", None, "needs Node.js, which is not installed"),
    ],
)
def test_a_build_names_the_compiler_that_is_missing(tmp_path, language, command, message):
    main(["new", "--wasm", language, "geo", "--folder", str(tmp_path)])
    tools = tmp_path / "tools"
    tools.mkdir()
    if command is not None:
        (tools / "rustc").write_text(f"#!/bin/sh\n{command}\n")
        (tools / "rustc").chmod(0o755)
    build = [sys.executable, "build_geo.py"]
    done = subprocess.run(
        build,
        cwd=tmp_path,
        env=os.environ | {"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("language", FILES)
def test_what_is_written_builds_and_passes_its_test(tmp_path, needs, language):
    needs(language)
    main(["new", "--wasm", language, "geo_1", "--folder", str(tmp_path)])
    for command in (["build_geo_1.py"], ["-m", "pytest", "-q", "-p", "no:cacheprovider"]):
        subprocess.run([sys.executable, *command], cwd=tmp_path, check=True, timeout=1200)


# Each example with its source's own command; the question and its answer, as CSV.
ZIG = "ziglang build-exe -target wasm32-freestanding -O ReleaseFast -fno-entry -rdynamic"
CC = "ziglang cc -target wasm32-freestanding -O2 -nostdlib -Wl,--no-entry -I"
RUSTC = f"rustc --target {RUST} --crate-type cdylib --edition 2021 -C opt-level=3 -C panic=abort"
ASC = "npx --yes --package assemblyscript@0.28 -- asc -O3 --runtime stub --use abort="
BUILT = {
    "geo.c": (
        [sys.executable, "-m", *CC.split(), str(HEADER), "-o", "geo.wasm"],
        "SELECT round(geo.distance(52.52, 13.405, 48.1371, 11.5754))",
        "504",
    ),
    "bearing.zig": (
        [sys.executable, "-m", *ZIG.split(), "-femit-bin=bearing.wasm"],
        "SELECT round(nav.bearing(52.52, 13.405, 48.1371, 11.5754))",
        "196",
    ),
    "distinct.rs": (
        [*RUSTC.split(), "-o", "distinct.wasm"],
        "SELECT texts.distinct(CAST(value % 1000 AS VARCHAR)) FROM range(0, 50000)",
        "1000",
    ),
    "collatz.ts": (
        [*ASC.split(), "-o", "collatz.wasm"],
        "SELECT count(*) FROM games.collatz(837799)",
        "525",
    ),
}
LANGUAGES = {".c": "c", ".zig": "zig", ".rs": "rust", ".ts": "assemblyscript"}


@pytest.mark.parametrize("source", BUILT)
def test_the_examples_build_and_answer(tmp_path, monkeypatch, capsys, needs, source):
    needs(LANGUAGES[Path(source).suffix])
    command, question, answer = BUILT[source]
    shutil.copy(EXAMPLES / source, tmp_path)  # the compilers of TypeScript want it below them
    monkeypatch.chdir(tmp_path)
    subprocess.run([*command, source], check=True, timeout=300)
    name = Path(source).stem
    assert main(["wasm", "embed", f"{name}.wasm", str(EXAMPLES / f"{name}.toml")]) == 0
    assert main(["query", question, "--plugin", f"{name}.wasm", "--format", "csv"]) == 0
    assert answer in capsys.readouterr().out
