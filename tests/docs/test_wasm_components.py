"""docs/wasm.md and wit/plugin.wit describe what the host has for components."""

import importlib.util
import re
import shutil
import subprocess
import sys

import pytest
from tests.docs.test_pages import DOCS
from tests.sizes import IS_LONG

from epochal.artifact import Artifact, embed_manifest
from epochal.kinds import scalar
from epochal.loaders.wasm import component_world

ROOT = DOCS.parent
EXAMPLES = ROOT / "examples/wasm"


def test_the_world_and_the_host_have_the_same_functions_of_the_same_types():
    text = re.sub(r"//.*", "", (ROOT / "wit/plugin.wit").read_text())
    found = {}
    for name, body in re.findall(r"interface (\w+) \{(.*?)\n\}", text, re.DOTALL):
        found[name] = {
            function: f"({_types(parameters)})" + (f" -> {result.strip()}" if result else "")
            for function, parameters, result in re.findall(
                r"([\w-]+): func\((.*?)\)\s*(?:->\s*(.*?))?;", body, re.DOTALL
            )
        }
    life = {
        name.removeprefix(component_world.PACKAGE).partition("@")[0]: dict(functions)
        for name, functions in component_world.LIFE_FUNCTIONS.items()
    }
    assert found == {**life, **component_world.IMPORTS}
    assert f"package epochal:plugin@{component_world.VERSION};" in text


def _types(parameters):
    return ", ".join(re.findall(r"[\w-]+: ((?:[^,<]|<(?:[^<>]|<[^<>]*>)*>)+)", parameters))


def test_the_page_has_every_import_and_the_example():
    page = (DOCS / "wasm.md").read_text()
    assert all(f"| `{name}` |" in page for name in component_world.IMPORTS)
    assert (EXAMPLES / "words.wit").read_text().strip() in page


@pytest.mark.skipif(
    not (IS_LONG and importlib.util.find_spec("componentize_py")),
    reason="builds and compiles 18 MB, with componentize-py",
)
def test_the_example_in_python_is_built_and_served(rt, tmp_path):
    shutil.copy(EXAMPLES / "words.py", tmp_path)
    command = ("-d", ROOT / "wit", "-d", EXAMPLES / "words.wit", "-w", "example:words/words")
    last = ("componentize", "--stub-wasi", "words", "-o", "words.wasm")
    run = "import sys, componentize_py as c; sys.exit(c.script())"
    subprocess.run([sys.executable, "-c", run, *command, *last], cwd=tmp_path, check=True)
    manifest = (EXAMPLES / "words.toml").read_bytes()
    content = embed_manifest((tmp_path / "words.wasm").read_bytes(), manifest)
    rt.load(Artifact("words", {"words.wasm": content}), grants={"*", "host:log"}, phase_timeout=600)
    assert rt.epoch[scalar]["words.shout"]("é") == "É!"
