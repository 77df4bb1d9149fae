"""`epochal new --wasm` writes a plugin that builds, passes its test, and says what comes next."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from tests.sizes import IS_LONG

from epochal.artifact import Artifact, embed_manifest, read_manifest
from epochal.cli import main

HEADER = Path(__file__).parents[3] / "src/epochal/cli/templates/wasm"
EXAMPLES = Path(__file__).parents[3] / "examples/wasm"
needs_zig = pytest.mark.skipif(
    not IS_LONG or importlib.util.find_spec("ziglang") is None,
    reason="compiles with ziglang (80 MB): in make test-long",
)


@pytest.mark.parametrize("language", ["c", "zig"])
def test_the_files_are_written_with_the_name(tmp_path, capsys, language):
    assert main(["new", "--wasm", language, "geo", "--folder", str(tmp_path)]) == 0
    written = {path.name for path in tmp_path.iterdir()}
    header = {"epochal.h"} if language == "c" else set()
    assert written == {f"geo.{language}", "geo.toml", "build_geo.py", "test_geo.py", *header}
    assert f"python {tmp_path / 'build_geo.py'}" in capsys.readouterr().out
    assert not any("example" in (tmp_path / name).read_text() for name in written)
    content = embed_manifest(b"\0asm\1\0\0\0", (tmp_path / "geo.toml").read_bytes())
    assert read_manifest(Artifact("geo", {"geo.wasm": content})).id == "geo"


def test_another_language_is_refused(tmp_path, capsys):
    assert main(["new", "--wasm", "cobol", "geo", "--folder", str(tmp_path)]) == 2
    assert "'c', 'zig'" in capsys.readouterr().err


@needs_zig
@pytest.mark.parametrize("language", ["c", "zig"])
def test_what_is_written_builds_and_passes_its_test(tmp_path, language):
    main(["new", "--wasm", language, "geo", "--folder", str(tmp_path)])
    for command in (["build_geo.py"], ["-m", "pytest", "-q", "-p", "no:cacheprovider"]):
        subprocess.run([sys.executable, *command], cwd=tmp_path, check=True, timeout=300)


@needs_zig
def test_the_example_in_c_builds_and_measures(tmp_path, capsys):
    target = ["-target", "wasm32-freestanding", "-O2", "-nostdlib", "-Wl,--no-entry"]
    compiler = [sys.executable, "-m", "ziglang", "cc", *target, "-I", str(HEADER)]
    module = str(tmp_path / "geo.wasm")
    subprocess.run([*compiler, "-o", module, EXAMPLES / "geo.c"], check=True, timeout=300)
    assert main(["wasm", "embed", module, str(EXAMPLES / "geo.toml")]) == 0
    query = "SELECT round(geo.distance(52.52, 13.405, 48.1371, 11.5754))"
    assert main(["query", query, "--plugin", module, "--format", "csv"]) == 0
    assert "504" in capsys.readouterr().out
