"""WebAssembly plugins for tests, from text: `plugin("(func …)", 'f = "() -> int64"')`."""

from functools import cache
from pathlib import Path

import wasmtime

from epochal.artifact import Artifact, embed_manifest

EXAMPLES = Path(__file__).parents[1] / "examples/wasm"
ADDRESSES = "(param $in i32) (param $out i32) (result i32)"
"""The type of every function that the host calls."""

SAME = f"""
(func (export "same") {ADDRESSES}
  (memory.copy (local.get $out) (local.get $in) (i32.const 20)) (i32.const 0))
"""


@cache
def assembled(text):
    return bytes(wasmtime.wat2wasm(text))


def module(body, *, memory='(memory (export "memory") 1)', interface="1"):
    """The bytes of a module with a memory and the interface's mark."""
    mark = f'(func (export "epochal_interface_{interface}"))' if interface else ""
    return assembled(f"(module $m {memory} {mark} {body})")


def manifest(scalars="", *, plugin="geo", version="1.0", head="", tables=""):
    table = f"[exports.scalar]\n{scalars}\n" if scalars else ""
    return f'id = "{plugin}"\nversion = "{version}"\n{head}\n{table}{tables}'


def packed(content, text, plugin="geo"):
    """An artifact of a module and the text of its manifest."""
    return Artifact(plugin, {f"{plugin}.wasm": embed_manifest(content, text.encode())})


def plugin(body, scalars="", *, memory='(memory (export "memory") 1)', interface="1", **described):
    """An artifact of functions in text, and of the lines of their signatures."""
    content = module(body, memory=memory, interface=interface)
    return packed(content, manifest(scalars, **described), described.get("plugin", "geo"))


def function(name, body):
    """A function that the host calls, with its addresses in $in and $out."""
    return f'(func ${name} (export "{name}") {ADDRESSES} {body})'


def number(value, *, version="1.0", **described):
    """Plugin geo, whose scalar `value(float64) -> float64` returns a number for each row."""
    body = function(
        "value",
        f"""(local $i i32) (local $at i32)
        (local.set $i (i32.load (local.get $in)))
        (local.set $at (i32.load offset=8 (local.get $out)))
        (block $done (loop $row (br_if $done (i32.eqz (local.get $i)))
          (f64.store (local.get $at) (f64.const {value}))
          (local.set $at (i32.add (local.get $at) (i32.const 8)))
          (local.set $i (i32.sub (local.get $i) (i32.const 1))) (br $row)))
        (i32.const 0)""",
    )
    return plugin(body, 'value = "(row: float64) -> float64"', version=version, **described)


def example(name):
    """An artifact of an example in text."""
    text = (EXAMPLES / f"{name}.wat").read_text()
    return packed(assembled(text), (EXAMPLES / f"{name}.toml").read_text(), name)
