"""Build the plugin `example`: compile example.ts, and put example.toml into the module.

Node.js (https://nodejs.org) brings npx, which gets the AssemblyScript compiler from npm.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from epochal.artifact import embed_manifest

FOLDER = Path(__file__).parent
MODULE = FOLDER / "example.wasm"
COMPILER = ["--yes", "--package", "assemblyscript@0.28", "--", "asc"]
# Without a garbage collector (stub), and without the import that reports a failed assertion.
OPTIONS = ["-O3", "--runtime", "stub", "--use", "abort="]

npx = shutil.which("npx")
if npx is None:
    sys.exit("this needs Node.js, which is not installed: https://nodejs.org")
command = [npx, *COMPILER, "example.ts", *OPTIONS, "--outFile", "example.wasm"]
subprocess.run(command, cwd=FOLDER, check=True)
manifest = (FOLDER / "example.toml").read_bytes()
MODULE.write_bytes(embed_manifest(MODULE.read_bytes(), manifest))
