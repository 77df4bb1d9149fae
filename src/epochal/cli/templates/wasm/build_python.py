"""Build the plugin `example`: make a component of it, and put example.toml into that.

`pip install componentize-py` brings what makes components of Python.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from epochal.artifact import embed_manifest

FOLDER = Path(__file__).parent
COMPONENT = FOLDER / "example.wasm"
WORLD = ["-d", "epochal.wit", "-d", "example.wit", "-w", "local:component/component"]
# It gets no files, no network, no environment: all of that is left out.
BUILD = ["componentize", "--stub-wasi", "example_component", "-o", "example.wasm"]

if find_spec("componentize_py") is None:
    sys.exit("this needs componentize-py: pip install componentize-py")
run = "import sys, componentize_py; sys.exit(componentize_py.script())"
subprocess.run([sys.executable, "-c", run, *WORLD, *BUILD], cwd=FOLDER, check=True)
manifest = (FOLDER / "example.toml").read_bytes()
COMPONENT.write_bytes(embed_manifest(COMPONENT.read_bytes(), manifest))
