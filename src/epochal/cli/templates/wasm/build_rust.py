"""Build the plugin `example`: compile example.rs, and put example.toml into the module.

Rust comes from https://rustup.rs, its target from `rustup target add wasm32-unknown-unknown`.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from epochal.artifact import embed_manifest

FOLDER = Path(__file__).parent
MODULE = FOLDER / "example.wasm"
TARGET = "wasm32-unknown-unknown"
OPTIONS = ["--target", TARGET, "--crate-type", "cdylib", "--edition", "2021"]
SMALL = ["-C", "opt-level=3", "-C", "panic=abort", "-C", "strip=debuginfo"]

if shutil.which("rustc") is None:
    sys.exit("this needs Rust, which is not installed: https://rustup.rs")
found = subprocess.run(
    ["rustc", "--print", "target-libdir", "--target", TARGET], capture_output=True, text=True
)
if found.returncode or not Path(found.stdout.strip()).is_dir():
    sys.exit(f"Rust has no target {TARGET} here: rustup target add {TARGET}")
subprocess.run(["rustc", *OPTIONS, *SMALL, "-o", MODULE, FOLDER / "example.rs"], check=True)
manifest = (FOLDER / "example.toml").read_bytes()
MODULE.write_bytes(embed_manifest(MODULE.read_bytes(), manifest))
