"""The exports in a manifest: every fault is named with the line of its export."""

import pytest
from tests.wasm_modules import SAME, module, packed

from epochal.artifact import read_manifest
from epochal.errors import ManifestError

HEAD = 'id = "geo"\nversion = "1.0"\n'


def declared(text):
    return read_manifest(packed(module(SAME), HEAD + text)).exports


def test_a_signature_gives_names_types_and_nulls():
    (export,) = declared('[exports.scalar]\nf = "( a : int8 , b:decimal128(9, 2)? ) -> utf8?"')
    assert [(c.name, c.type, c.nullable) for c in (*export.parameters, *export.results)] == [
        ("a", "int8", False),
        ("b", "decimal128(9,2)", True),
        ("result", "utf8", True),
    ]


def test_options_of_each_kind_are_read():
    scalar, mean, distinct, series = declared(
        """
        [exports.scalar]
        f = { signature = "() -> int64", volatility = "stable", description = "One." }
        [exports.aggregate]
        mean = { signature = "(v: float64) -> float64", state = 16 }
        distinct = { signature = "(v: utf8) -> int64", state = "variable" }
        [exports.table_function]
        series = { signature = "(stop: int64) -> (n: int64, half: float64)" }
        """
    )
    assert (scalar.volatility, scalar.description) == ("stable", "One.")
    assert (mean.kind, mean.state, series.state) == ("aggregate", 16, 0)
    assert distinct.state is None
    assert [column.name for column in series.results] == ["n", "half"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "exports is missing"),
        ("exports = 3", "expected tables such as"),
        ("[exports.scalr]\nf = 1", "did you mean scalar"),
        ("[exports.scalar]", "names no export"),
        ("[exports.scalar]\nf = 1", ":4: f has no signature such as"),
        ('[exports.scalar]\nf = "int64 -> int64"', "has no signature"),
        ('[exports.scalar]\nf = "(a: integer) -> int64"', "unknown type 'integer'"),
        ('[exports.scalar]\nf = "(a: float) -> int64"', "did you mean float64"),
        ('[exports.scalar]\nf = "(a: decimal128(39, 0)) -> int64"', "unknown type"),
        ('[exports.scalar]\nf = "(a: decimal128(3, 4)) -> int64"', "unknown type"),
        ('[exports.scalar]\nf = "(a) -> int64"', "expected `name: type`"),
        ('[exports.scalar]\nf = "(a: int8, a: int8) -> int64"', "names 'a' twice"),
        ('[exports.scalar]\nf = "(class: int8) -> int64"', "expected `name: type`"),
        ('[exports.scalar]\n_guest = "() -> int64"', "cannot be the name"),
        ('[exports.scalar]\ninit = "() -> int64"', "cannot be the name"),
        ('[exports.scalar]\n"f(x)" = "() -> int64"', "cannot be the name"),
        ('[exports.scalar]\nf = { signature = "() -> int8", pure = true }', "unknown key 'pure'"),
        (
            '[exports.scalar]\nf = { signature = "() -> int8", volatility = "no" }',
            "volatility 'no'",
        ),
        ('[exports.aggregate]\nf = "(a: int8) -> int8"', "has no state"),
        ('[exports.aggregate]\nf = { signature = "(a: int8) -> int8", state = -1 }', "state -1"),
        ('[exports.aggregate]\nf = { signature = "(a: int8) -> int8", state = true }', "True"),
        ('[exports.aggregate]\nf = { signature = "(a: int8) -> int8", state = "x" }', '"variable"'),
        (
            '[exports.table_function]\nf = { signature = "() -> (a: int8)", state = "variable" }',
            "state 'variable'; expected 0 to",
        ),
        ('[exports.table_function]\nf = "(a: int8) -> int8"', "names no columns"),
        ('[exports.table_function]\nf = "() -> ()"', "a table without columns"),
        (
            '[exports.scalar]\nf = "() -> int8"\n[exports.aggregate]\nf = "(a: int8) -> int8"',
            "exported twice|has no state",
        ),
        ('dependencies = ["numpy"]\n[exports.scalar]\nf = "() -> int8"', "of a WebAssembly plugin"),
        ('stateful = 1\n[exports.scalar]\nf = "() -> int8"', "expected true or false"),
    ],
)
def test_a_fault_is_named(text, fault):
    with pytest.raises(ManifestError, match=fault):
        declared(text)


def test_a_python_plugin_declares_none(plugins, rt):
    path = plugins.root / "geo.py"
    path.write_text('# /// plugin\n# id = "geo"\n# version = "1"\n# stateful = true\n# ///\n')
    with pytest.raises(ManifestError, match="stateful is not a key of a Python plugin's manifest"):
        rt.load(path)
