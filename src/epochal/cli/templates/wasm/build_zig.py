"""Build the plugin `example`: compile example.zig, and put example.toml into the module.

`pip install ziglang` brings the compiler.
"""

import subprocess
import sys
from pathlib import Path

from epochal.artifact import embed_manifest

FOLDER = Path(__file__).parent
MODULE = FOLDER / "example.wasm"
TARGET = ["-target", "wasm32-freestanding", "-O", "ReleaseFast", "-fno-entry", "-rdynamic"]

subprocess.run(
    [
        *(sys.executable, "-m", "ziglang", "build-exe", *TARGET),
        *(f"-femit-bin={MODULE}", FOLDER / "example.zig"),
    ],
    check=True,
)
manifest = (FOLDER / "example.toml").read_bytes()
MODULE.write_bytes(embed_manifest(MODULE.read_bytes(), manifest))
