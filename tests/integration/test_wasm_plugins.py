"""WebAssembly plugins live as Python ones do: loaded, reloaded, required, stored, taken apart."""

import subprocess
import sys
import threading

import pyarrow as pa
import pytest
from tests.wasm_modules import SAME, example, function, manifest, module, number, plugin

from epochal import Runtime
from epochal.artifact import Artifact, embed_manifest, read_artifact
from epochal.errors import (
    ArtifactError,
    CapabilityError,
    GuestError,
    GuestTimeoutError,
    HandOverError,
    HostError,
    InitError,
    LinkError,
    ManifestError,
)
from epochal.kinds import aggregate, scalar, table_function
from epochal.sql import Database

SPIN = "(loop $again (br $again)) (i32.const 0)"


def value(rt, *given):
    return rt.epoch[scalar]["geo.value"](*given or (0.0,))


# --- a life -------------------------------------------------------------------------------------


def test_a_file_and_a_folder_are_the_same_plugin(rt, tmp_path):
    artifact = number(1.0)
    file = tmp_path / "geo.wasm"
    file.write_bytes(artifact.files["geo.wasm"])
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "code.wasm").write_bytes(module(SAME))
    (folder / "plugin.toml").write_text(
        manifest('same = "(a: utf8) -> utf8"', plugin="texts", version="2")
    )
    rt.load(file)
    rt.load(folder)
    assert rt.generation("geo").digest == artifact.digest == read_artifact(file).digest
    assert rt.epoch[scalar]["texts.same"]("é") == "é"


def test_a_folder_of_both_languages_is_loaded(rt, tmp_path, plugins):
    plugins.write("units", "def twice(n): return 2 * n\n")
    (tmp_path / "geo.wasm").write_bytes(number(1.0).files["geo.wasm"])
    (tmp_path / "other.wasm").write_bytes(module(SAME))  # without a manifest: none of ours
    rt.load_folder(tmp_path)
    assert sorted(rt.epoch.generations) == ["geo", "units"]


def test_an_operation_keeps_its_version_across_a_reload(rt):
    rt.load(number(1.0))
    with rt.operation() as old:
        cutover = rt.reload("geo", number(2.0, version="2.0"), drain_timeout=0)
        assert not cutover.drained
        assert old[scalar]["geo.value"](0.0) == 1.0
        assert value(rt) == 2.0


def test_a_function_that_is_kept_keeps_its_plugin(rt):
    rt.load(number(1.0))
    kept = rt.epoch[scalar]["geo.value"]
    assert not rt.remove("geo", drain_timeout=0).drained
    assert kept(0.0) == 1.0


def test_its_memory_comes_back_at_removal(rt):
    rt.load(number(1.0))
    value(rt)
    cutover = rt.remove("geo")
    assert (cutover.leaks, cutover.failures) == ((), ())


def test_a_python_plugin_and_a_wasm_plugin_require_each_other(rt, plugins):
    rt.load(number(3.0))
    path = plugins.write(
        "roads",
        """
        def init(ctx):
            global geo
            geo = ctx.require("geo")
        @tool
        def length(): return geo.value(0.0)
        """,
        requires=["geo"],
    )
    rt.load(path)
    needy = plugin(SAME, 'same = "(a: utf8) -> utf8"', plugin="texts", head='requires = ["roads"]')
    rt.load(needy)
    cutover = rt.reload("geo", number(4.0, version="2"))
    assert [swap.plugin for swap in cutover.swaps] == ["geo", "roads", "texts"]
    from tests.conftest import tool

    assert rt.epoch[tool]["roads.length"]() == 4.0


def test_a_stored_plugin_is_restored_and_rolled_back(start, tmp_path):
    rt = start()
    rt.load(number(1.0))
    rt.reload("geo", number(2.0, version="2.0"))
    rt.close()
    rt = start()
    assert value(rt) == 2.0
    rt.rollback("geo", to="1.0")
    assert value(rt) == 1.0


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda path: None, True),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"!"), False),
        (lambda path: path.write_bytes(b""), False),
        (lambda path: path.with_name("key").write_bytes(b"k" * 32), False),
        (lambda path: path.with_name("key").unlink(), False),
    ],
)
def test_kept_code_is_used_only_as_this_store_wrote_it(start, tmp_path, monkeypatch, change, kept):
    rt = start()
    rt.load(number(7.5))
    rt.close()
    (path,) = [path for path in (tmp_path / "store/compiled").iterdir() if path.name != "key"]
    change(path)
    from epochal.loaders.wasm import engine

    monkeypatch.setattr(engine, "_modules", {})
    compiled = []
    module_class = engine.wasmtime.Module

    class Module(module_class):
        def __init__(self, *arguments):
            compiled.append(self)
            super().__init__(*arguments)

    monkeypatch.setattr(engine.wasmtime, "Module", Module)
    rt = start()
    assert value(rt) == 7.5
    assert (not compiled) == kept
    engine._modules.clear()


# --- SQL ----------------------------------------------------------------------------------------


def test_sql_runs_every_kind(rt):
    rt.load(example("numbers"))
    db = Database(rt)

    def rows(text):
        return [tuple(row.values()) for row in db.query(text).to_table().to_pylist()]

    assert rows("SELECT numbers.add(1.5, 2)") == [(3.5,)]
    assert rows("SELECT numbers.same(t) FROM (VALUES ('a'), (NULL), ('é')) v(t)") == [
        ("a",),
        (None,),
        ("é",),
    ]
    assert rows("SELECT count(*), sum(square) FROM numbers.series(20000)") == [
        (20000, sum(n * n for n in range(20000)))
    ]
    mean = "SELECT numbers.mean(n) FROM numbers.series(10) WHERE n {}"
    assert rows(mean.format("> 0")) == [(5.0,)]
    assert rows(mean.format("< 0")) == [(None,)]
    grouped = "SELECT n % 3 AS g, numbers.mean(n) FROM numbers.series(9) GROUP BY 1 ORDER BY 1"
    assert rows(grouped) == [(0, 3.0), (1, 4.0), (2, 5.0)]


def test_a_query_names_the_plugin_and_the_cause(rt):
    rt.load(plugin(function("f", "(unreachable)"), 'f = "(a: int64) -> int64"'))
    with pytest.raises(Exception, match=r"f of plugin 'geo' trapped: wasm `unreachable`.* in f at"):
        Database(rt).query("SELECT geo.f(1)").to_table()


# --- values -------------------------------------------------------------------------------------

COLUMNS = {
    "int8": [1, None, -128],
    "int16": [1, None, -(2**15)],
    "int32": [1, None, -(2**31)],
    "int64": [1, None, -(2**63)],
    "uint8": [1, None, 255],
    "uint16": [1, None, 2**16 - 1],
    "uint32": [1, None, 2**32 - 1],
    "uint64": [1, None, 2**64 - 1],
    "float32": [1.5, None, -0.25],
    "float64": [1.5, None, 1e300],
    "bool": [True, None, False] * 7,
    "utf8": ["", None, "é" * 40],
    "binary": [b"", None, b"\xff\x00"],
    "date32": [0, None, -1],
    "timestamp": [0, None, 2**62],
    "decimal128(38,10)": [None, 10**27, -1],
}


@pytest.mark.parametrize("name", COLUMNS)
def test_each_type_goes_in_and_comes_out(rt, name):
    from epochal.loaders.wasm.columns import layout_of

    rt.load(plugin(SAME, f'same = "(a: {name}?) -> {name}?"'))
    given = pa.array(COLUMNS[name], layout_of(name).arrow)
    same = rt.epoch[scalar]["geo.same"]
    assert same(given).equals(given)
    assert same(given.slice(1)).equals(given.slice(1))
    assert same(given.slice(0, 0)).equals(given.slice(0, 0))
    assert same(pa.nulls(9, given.type)).null_count == 9


def test_a_row_with_an_unwanted_null_is_left_out_and_null_in_the_result(rt):
    rt.load(plugin(SAME, 'same = "(a: utf8) -> utf8"'))
    same = rt.epoch[scalar]["geo.same"]
    assert same(pa.array(["a", None, "b"])).to_pylist() == ["a", None, "b"]
    assert same(pa.array([None, None], pa.utf8())).to_pylist() == [None, None]


def test_plain_values_are_a_row_and_are_repeated_beside_arrays(rt):
    rt.load(example("numbers"))
    add = rt.epoch[scalar]["numbers.add"]
    assert add(1, 2.5) == 3.5
    assert add(None, 1.0) is None
    assert add(pa.array([1.0, 2.0]), 0.5).to_pylist() == [1.5, 2.5]
    with pytest.raises(pa.ArrowException):
        add("one", 2.0)
    with pytest.raises(ValueError, match="different lengths"):
        add(pa.array([1.0]), pa.array([1.0, 2.0]))


def test_an_aggregate_is_one_in_python_too(rt):
    rt.load(example("numbers"))
    make = rt.epoch[aggregate]["numbers.mean"]
    left, right = make(), make()
    left.update(pa.array([1.0, None, 2.0]))
    right.update(pa.array([6.0]))
    left.merge(right)
    assert left.evaluate() == 3.0
    again = make()
    again.restore(left.state())
    assert again.evaluate() == 3.0
    with pytest.raises(ValueError, match="16 bytes, not 3"):
        again.restore(b"abc")


# A text is its state and the texts after it, joined: `update` and `merge` are one function.
JOINED = """
(func $append (param $to i32) (param $column i32) (result i32)
  (memory.copy (local.get $to)
    (i32.load offset=8 (local.get $column)) (i32.load offset=16 (local.get $column)))
  (i32.add (local.get $to) (i32.load offset=16 (local.get $column))))
(func $join (param $in i32) (param $out i32) (result i32)
  (local $size i32)
  (local.set $size (i32.add
    (i32.load offset=16 (local.get $in)) (i32.load offset=36 (local.get $in))))
  (if (i32.gt_u (local.get $size) (i32.load offset=16 (local.get $out)))
    (then (return (local.get $size))))
  (drop (call $append
    (call $append (i32.load offset=8 (local.get $out)) (local.get $in))
    (i32.add (local.get $in) (i32.const 20))))
  (i32.store (i32.load offset=12 (local.get $out)) (i32.const 0))
  (i32.store offset=4 (i32.load offset=12 (local.get $out)) (local.get $size))
  (i32.const 0))
(export "joined_update" (func $join))
(export "joined_merge" (func $join))
"""
JOINED_SIGNATURE = """[exports.aggregate]
joined = { signature = "(text: utf8) -> utf8", state = "variable" }"""


def test_a_state_has_any_length(rt):
    # The state is the result.
    evaluate = function(
        "joined_evaluate",
        "(memory.copy (local.get $out) (local.get $in) (i32.const 20)) (i32.const 0)",
    )
    rt.load(plugin(JOINED + evaluate, tables=JOINED_SIGNATURE), grants={"*", "max_memory:4MiB"})
    make = rt.epoch[aggregate]["geo.joined"]
    left, right, again = make(), make(), make()
    assert (left.state(), left.evaluate()) == (b"", "")
    left.update(pa.array(["é", None, "b"]))
    left.update(pa.array([], pa.utf8()))
    right.update(pa.array(["c" * 50_000]))
    left.merge(right)
    left.merge(make())
    again.restore(left.state())
    assert left.evaluate() == again.evaluate() == "éb" + "c" * 50_000
    db = Database(rt)
    sql = """SELECT n % 2, length(geo.joined('xy')) FROM (SELECT value AS n FROM range(0, 20000))
        GROUP BY 1 ORDER BY 1"""
    assert db.query(sql).rows() == [(0, 20_000), (1, 20_000)]
    left.restore(bytes(3 * 1024 * 1024))
    with pytest.raises(GuestError, match="no room"):
        left.merge(left)
    assert right.evaluate() == "c" * 50_000


def test_texts_of_a_slice_begin_at_zero(rt):
    last = function("joined_evaluate", "(i32.const 0)")
    rt.load(plugin(JOINED + last, tables=JOINED_SIGNATURE))
    texts = pa.array(["aa", "b", "cc", "d"])
    # As the engine slices: the offsets' buffer begins at the second row.
    late = pa.Array.from_buffers(
        pa.utf8(), 2, [None, texts.buffers()[1].slice(4), texts.buffers()[2]]
    )
    for part in (texts.slice(1, 2), late, pa.chunked_array([late])):
        joined = rt.epoch[aggregate]["geo.joined"]()
        joined.update(part)
        assert joined.state() == b"bcc"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("(i32.store offset=8 (local.get $out) (i32.const 0x7fffff00)) (i32.const 0)", "outside"),
        ("(i32.store (local.get $out) (i32.const 2)) (i32.const 0)", "has 2 rows, expected 1"),
        ("(i32.store offset=4 (local.get $out) (i32.const 16)) (i32.const 0)", "has nulls"),
        ("(i32.const 0x7fffffff)", "asked for room"),
        ("(i32.const 1)", "asked for room"),
        ("(unreachable)", "trapped"),
    ],
)
def test_a_bad_state_is_refused_and_the_one_before_is_kept(rt, body, message):
    offsets = "(i32.store offset=4 (i32.load offset=12 (local.get $out)) (i32.const 8))"
    parts = [function(f"joined_{part}", offsets + body) for part in ("update", "merge")]
    last = function("joined_evaluate", "(i32.const 0)")
    rt.load(plugin("".join((*parts, last)), tables=JOINED_SIGNATURE))
    joined = rt.epoch[aggregate]["geo.joined"]()
    joined.restore(b"before")
    with pytest.raises(GuestError, match=message):
        joined.update(pa.array(["a"]))
    assert joined.state() == b"before"


def test_a_batch_without_room_is_called_in_halves(rt):
    rt.load(example("numbers"), grants={"*", "max_memory:1MiB"})
    numbers = pa.array(range(200_000), pa.float64())
    result = rt.epoch[scalar]["numbers.add"](numbers, 1.0)
    assert len(result) == 200_000
    assert result[199_999].as_py() == 200_000.0


# --- what a guest may not do --------------------------------------------------------------------


def words(length, validity, data, offsets, capacity):
    stores = (length, validity, data, offsets, capacity)
    return (
        "".join(
            f"(i32.store offset={4 * at} (local.get $out) (i32.const {word}))"
            for at, word in enumerate(stores)
            if word is not None
        )
        + "(i32.const 0)"
    )


BAD = {
    "too few rows": ("int64", words(1, None, None, None, None), "has 1 rows, expected 2"),
    "rows beyond all": ("int64", words(-1, None, None, None, None), "has -1 rows"),
    "data outside": ("int64", words(2, None, 2**30, None, None), "outside of the memory"),
    "data at the end": ("int64", words(2, None, 0xFFFFFFF8, None, None), "outside of the memory"),
    "data at 0": ("int64", words(2, None, 0, None, None), "address 0"),
    "validity outside": ("int64?", words(2, 0xFFFFFFFF, None, None, None), "outside"),
    "offsets outside": ("utf8", words(2, None, None, 0xFFFFFFF0, None), "outside"),
    "offsets overlap data": ("utf8", words(2, None, 16, 16, 4), "overlap"),
    "negative offsets": ("utf8", words(2, None, None, 32, None), "negative"),
    "offsets beyond data": ("utf8", words(2, None, None, 48, 3), "beyond its 3 bytes"),
    "offsets that fall": ("utf8", words(2, None, 64, 80, 100), "not valid utf8"),
    "no utf8": ("utf8", words(2, None, 96, 112, 100), "not valid utf8"),
    "a decimal too long": ("decimal128(3,0)", words(2, None, 128, None, None), "not valid decimal"),
    "an unwanted null": ("int64", words(2, 160, 64, None, None), "has nulls"),
}
DATA = (
    r'(data (i32.const 16) "\00\00\00\00\02\00\00\00\04\00\00\00")'
    r'(data (i32.const 32) "\00\00\00\00\01\00\00\00\ff\ff\ff\ff")'
    r'(data (i32.const 48) "\00\00\00\00\01\00\00\00\ff\ff\00\00")'
    r'(data (i32.const 80) "\00\00\00\00\09\00\00\00\04\00\00\00")'
    r'(data (i32.const 96) "\ff\fe\fd\fc")'
    r'(data (i32.const 112) "\00\00\00\00\02\00\00\00\04\00\00\00")'
    r'(data (i32.const 128) "\ff\ff\ff\ff\ff\ff\ff\0f")'
)


@pytest.mark.parametrize("case", BAD)
def test_a_bad_result_is_refused_before_it_is_read(rt, case):
    kind, body, message = BAD[case]
    rt.load(plugin(DATA + function("f", body), f'f = "(a: int64) -> {kind}"'))
    epoch = rt.epoch
    with pytest.raises(GuestError, match=message) as caught:
        epoch[scalar]["geo.f"](pa.array([1, 2]))
    assert caught.value.function == "f"
    assert rt.epoch is epoch


def test_a_guest_that_asks_for_more_room_gets_it_and_no_more_than_its_memory(rt):
    # Fills its room with a text of 300,000 bytes, for which it asks first.
    body = """
    (if (i32.lt_u (i32.load offset=16 (local.get $out)) (i32.const 300000))
      (then (return (i32.const 300000))))
    (memory.fill (i32.load offset=8 (local.get $out)) (i32.const 97) (i32.const 300000))
    (i32.store offset=4 (i32.load offset=12 (local.get $out)) (i32.const 300000))
    (i32.const 0)"""
    rt.load(plugin(function("f", body), 'f = "(a: int64) -> utf8"'))
    assert rt.epoch[scalar]["geo.f"](1) == "a" * 300_000
    rt.reload("geo", plugin(function("f", "(i32.const 0x7fffffff)"), 'f = "(a: int64) -> utf8"'))
    with pytest.raises(GuestError, match=r"asked for room of 2,147,483,647 bytes"):
        rt.epoch[scalar]["geo.f"](1)
    rt.reload("geo", plugin(function("f", "(i32.const 2)"), 'f = "(a: int64) -> utf8"'))
    with pytest.raises(GuestError, match="asked for room of 2 bytes"):
        rt.epoch[scalar]["geo.f"](1)


def test_a_guest_says_why_it_failed(rt):
    body = """
    (i32.store offset=8 (local.get $out) (i32.const 16))
    (i32.store offset=16 (local.get $out) (i32.const 9)) (i32.const -1)"""
    data = '(data (i32.const 16) "not today")'
    rt.load(plugin(data + function("f", body), 'f = "(a: int64) -> int64"'))
    with pytest.raises(GuestError, match="f of plugin 'geo' failed: not today"):
        rt.epoch[scalar]["geo.f"](1)
    rt.reload("geo", plugin(function("f", "(i32.const -7)"), 'f = "(a: int64) -> int64"'))
    with pytest.raises(GuestError, match="failed: error -7"):
        rt.epoch[scalar]["geo.f"](1)


def test_an_endless_call_is_stopped_and_its_instance_thrown_away(rt):
    body = function(
        "f",
        """(if (i64.eqz (i64.load (i32.load offset=8 (local.get $in))))
             (then (loop $again (br $again))))
           (global.set $calls (i64.add (global.get $calls) (i64.const 1)))
           (i64.store (i32.load offset=8 (local.get $out)) (global.get $calls)) (i32.const 0)""",
    )
    counts = "(global $calls (mut i64) (i64.const 0))"
    rt.load(plugin(counts + body, 'f = "(a: int64) -> int64"'), grants={"*", "call_timeout:50ms"})
    f = rt.epoch[scalar]["geo.f"]
    assert [f(1), f(1)] == [1, 2]
    with pytest.raises(GuestTimeoutError, match=r"did not return within 0\.05 s"):
        f(0)
    assert f(1) == 1


@pytest.mark.parametrize("begins", ["", function("epochal_init", "(i32.const 0)")])
def test_calls_that_fail_again_and_again_are_refused_at_once(rt, begins):
    rt.load(plugin(begins + function("f", "(unreachable)"), 'f = "(a: int64) -> int64"'))
    f = rt.epoch[scalar]["geo.f"]
    for _ in range(5):
        with pytest.raises(GuestError, match="trapped"):
            f(1)
    with pytest.raises(GuestError, match=r"is not called for \d+ s, since 5 calls in a row"):
        f(1)
    del f
    rt.reload("geo", plugin(SAME, 'same = "(a: int64) -> int64"'))
    assert rt.epoch[scalar]["geo.same"](1) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("(unreachable)", "unreachable"),
        ("(i32.load (i32.const -4))", "out of bounds memory access"),
        ("(i32.div_s (i32.const 1) (i32.const 0))", "divide by zero"),
        ("(call $f (local.get $in) (local.get $out))", "call stack exhausted"),
        ("(call_indirect $t (i32.const 9)) (i32.const 0)", "undefined element"),
    ],
)
def test_a_trap_names_the_functions_of_the_module(rt, body, message):
    table = "(table $t 1 funcref)" + function("f", body)
    rt.load(plugin(table, 'f = "(a: int64) -> int64"'))
    with pytest.raises(GuestError, match=message) as caught:
        rt.epoch[scalar]["geo.f"](1)
    assert caught.value.backtrace[0].startswith("f at 0x")


def test_memory_beyond_the_limit_is_not_given(rt):
    grow = function(
        "f",
        """(i64.store (i32.load offset=8 (local.get $out))
             (i64.extend_i32_s (memory.grow (i32.const 1000)))) (i32.const 0)""",
    )
    rt.load(plugin(grow, 'f = "(a: int64) -> int64"'), grants={"*", "max_memory:2MiB"})
    assert rt.epoch[scalar]["geo.f"](1) == -1


def test_a_table_without_end_is_ended(rt):
    rows = function("rows", "(i32.store (local.get $out) (i32.const 8192)) (i32.const 1)")
    empty = function("empty", "(i32.store (local.get $out) (i32.const 0)) (i32.const 1)")
    tables = '[exports.table_function]\nrows = "() -> (n: int64)"\nempty = "() -> (n: int64)"\n'
    grants = {"*", "max_memory:1MiB", "call_timeout:200ms"}
    rt.load(plugin(rows + empty, tables=tables), grants=grants)
    with pytest.raises(GuestError, match="rows of more than 1,048,576 bytes"):
        rt.epoch[table_function]["geo.rows"]()
    with pytest.raises(GuestError, match=r"rows of more than|had more rows after|did not return"):
        rt.epoch[table_function]["geo.empty"]()


REFUSED = {
    "no binary": (b"hello", ManifestError, "not a WebAssembly binary"),
    "text": (b"(module)", ManifestError, "assemble it first"),
    "a header alone": (b"\0asm", ManifestError, "not a WebAssembly binary"),
    "a section cut off": (module(SAME)[:-3], ManifestError, "beyond its end"),
    "a length of six bytes": (
        b"\0asm\1\0\0\0\0\xff\xff\xff\xff\xff\1",
        ManifestError,
        "cut off or too large",
    ),
    "a name longer than its section": (b"\0asm\1\0\0\0\0\2\x7fx", ManifestError, "longer than"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_damaged_binary_is_refused_before_it_is_compiled(rt, case):
    content, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        rt.load(Artifact("geo", {"geo.wasm": content}))
    assert rt.epoch.number == 0


SIGNATURE = 'f = "(a: int64) -> int64"'
MISFITS = {
    "an import": (
        '(import "wasi_snapshot_preview1" "fd_write" (func (param i32)))',
        CapabilityError,
        r"imports wasi_snapshot_preview1\.fd_write",
    ),
    "another type": ('(func (export "f") (param i64))', LinkError, r"has the type \(i64\)"),
    "no function": ('(global (export "f") i32 (i32.const 1))', LinkError, "is a global"),
    "a missing one": (SAME, LinkError, "'f' is missing; the functions that the module exports"),
    "a trap at its start": ("(func $s (unreachable)) (start $s)", LinkError, "start function"),
    "an endless start": (
        "(func $s (loop $again (br $again))) (start $s)",
        LinkError,
        "start function",
    ),
    "state without stateful": (
        function("epochal_export_state", "(i32.const 0)"),
        LinkError,
        "stateful = true",
    ),
    "a damaged body": (b"\x0a\x03\1\1\0", LinkError, "not a valid module"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_module_that_does_not_fit_is_refused_and_changes_nothing(rt, case):
    body, error, message = MISFITS[case]
    rt.load(number(1.0))
    before, grants = rt.epoch, {"*", "call_timeout:50ms"}
    if isinstance(body, bytes):
        artifact = number(2.0)
        content = artifact.files["geo.wasm"] + body
        artifact = Artifact("geo", {"geo.wasm": content})
    else:
        artifact = packed_import(body) if "import" in body else plugin(body, SIGNATURE)
    with pytest.raises(error, match=message):
        rt.reload("geo", artifact, grants=grants)
    assert rt.epoch is before
    assert value(rt) == 1.0


def packed_import(body):
    from tests.wasm_modules import assembled, packed

    memory = '(memory (export "memory") 1) (func (export "epochal_interface_1"))'
    return packed(assembled(f"(module {body} {memory})"), manifest(SIGNATURE))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interface": "2"}, "made for version 2 of the interface; this host has 1"),
        ({"interface": ""}, "does not say for which version"),
        ({"memory": ""}, "exports no memory"),
        ({"memory": '(memory (export "memory") i64 1)'}, "memory64 must be enabled"),
        ({"memory": '(memory (export "memory") 5000)'}, "max_memory is 268,435,456"),
    ],
)
def test_a_module_for_another_host_is_refused(rt, options, message):
    body = function("f", "(i32.const 0)")
    with pytest.raises(LinkError, match=message):
        rt.load(plugin(body, SIGNATURE, **options))
    assert rt.epoch.number == 0


def test_a_damaged_component_is_refused_by_name(rt):
    content = embed_manifest(b"\0asm\x0d\0\1\0\x01\x02\0\0", manifest(SIGNATURE).encode())
    with pytest.raises(LinkError, match="is not a valid component"):
        rt.load(Artifact("geo", {"geo.wasm": content}))


def test_thousands_of_exports_do_no_harm(rt):
    body = "".join(f'(func (export "x{n}"))' for n in range(2_000))
    # It compiles each of them: longer than the runtime's limit, where the processors are busy.
    rt.load(plugin(SAME + body, 'same = "(a: int64) -> int64"'), phase_timeout=150)
    assert rt.epoch[scalar]["geo.same"](1) == 1


@pytest.mark.parametrize("grant", ["max_memory:64", "max_memory:0MiB", "call_timeout:1h"])
def test_a_limit_of_another_form_is_refused(rt, grant):
    with pytest.raises(HostError, match="expected a number and a unit"):
        rt.load(number(1.0), grants={"*", grant})


# --- init, shutdown, state ----------------------------------------------------------------------


def test_a_trap_in_init_rolls_the_change_back(rt):
    rt.load(number(1.0))
    before = rt.epoch
    with pytest.raises(InitError, match="epochal_init of plugin 'geo' trapped"):
        rt.reload("geo", plugin(function("epochal_init", "(unreachable)") + SAME, SIGNATURE_SAME))
    assert rt.epoch is before


SIGNATURE_SAME = 'same = "(a: int64) -> int64"'


def test_init_gets_the_configuration_in_each_instance(rt):
    # Keeps the length of the configuration's text: {"a": 1} has eight bytes.
    body = (
        "(global $length (mut i64) (i64.const 0))"
        + function(
            "epochal_init",
            """(global.set $length (i64.extend_i32_u (i32.load offset=16 (local.get $in))))
            (i32.const 0)""",
        )
        + function(
            "f",
            """(if (i64.eqz (i64.load (i32.load offset=8 (local.get $in)))) (then (unreachable)))
            (i64.store (i32.load offset=8 (local.get $out)) (global.get $length)) (i32.const 0)""",
        )
    )
    rt.load(plugin(body, SIGNATURE), config={"a": 1})
    f = rt.epoch[scalar]["geo.f"]
    assert f(1) == 8
    with pytest.raises(GuestError):
        f(0)
    assert f(1) == 8  # in a new instance


def test_init_gets_the_generation_and_those_that_it_is_linked_to(rt, plugins):
    # `told` returns what a column of epochal_init's had as its texts.
    body = (
        """(global $n (mut i32) (i32.const 0))"""
        + function(
            "epochal_init",
            """(memory.copy (i32.const 64) (i32.load offset=28 (local.get $in)) (i32.const 5))
            (memory.copy (i32.const 69) (i32.load offset=48 (local.get $in)) (i32.const 10))
            (global.set $n (i32.load offset=40 (local.get $in))) (i32.const 0)""",
        )
        + function(
            "told",
            """(i32.store (i32.load offset=12 (local.get $out)) (i32.const 0))
            (i32.store offset=4 (i32.load offset=12 (local.get $out)) (i32.const 15))
            (memory.copy (i32.load offset=8 (local.get $out)) (i32.const 64) (i32.const 15))
            (i32.const 0)""",
        )
        + function(
            "rows",
            """(i64.store (i32.load offset=8 (local.get $out))
            (i64.extend_i32_u (global.get $n))) (i32.const 0)""",
        )
    )
    for name, version in (("units", "1.0"), ("miles", "2.1")):
        rt.load(plugins.write(name, "", version=version))
    told = 'told = "(a: int64) -> utf8"\nrows = "(a: int64) -> int64"'
    rt.load(plugin(body, told, head='requires = ["units", "miles"]'))
    rt.reload("miles")
    assert rt.epoch[scalar]["geo.told"](0) == "1.0#1" + "1.0#0" + "2.1#1"
    assert rt.epoch[scalar]["geo.rows"](0) == 2


def test_a_trap_in_shutdown_is_reported_and_stops_nothing(rt):
    rt.load(plugin(function("epochal_shutdown", "(unreachable)") + SAME, SIGNATURE_SAME))
    cutover = rt.remove("geo")
    assert cutover.drained
    assert "epochal_shutdown of plugin 'geo' trapped" in cutover.failures[0]
    assert cutover.leaks == ()


def counter(version, exporting="", importing=""):
    """Plugin geo, which counts its calls and hands the count over."""
    body = (
        "(global $calls (mut i64) (i64.const 0))"
        + function(
            "f",
            """(global.set $calls (i64.add (global.get $calls) (i64.const 1)))
            (i64.store (i32.load offset=8 (local.get $out)) (global.get $calls)) (i32.const 0)""",
        )
        + function(
            "epochal_export_state",
            exporting
            or """(i64.store (i32.load offset=8 (local.get $out)) (global.get $calls))
            (i32.store offset=4 (i32.load offset=12 (local.get $out)) (i32.const 8))
            (i32.const 0)""",
        )
        + function(
            "epochal_import_state",
            importing
            or """(global.set $calls (i64.load (i32.load offset=8 (local.get $in))))
            (i32.const 0)""",
        )
    )
    return plugin(body, SIGNATURE, head="stateful = true", version=version)


def test_state_is_handed_over(rt):
    rt.load(counter("1"))
    f = rt.epoch[scalar]["geo.f"]
    assert [f(0), f(0)] == [1, 2]
    del f
    rt.reload("geo", counter("2"))
    assert rt.epoch[scalar]["geo.f"](0) == 3


@pytest.mark.parametrize("where", ["exporting", "importing"])
def test_a_trap_in_the_hand_over_leaves_the_old_one_with_its_state(rt, where):
    first = counter("1", **({"exporting": "(unreachable)"} if where == "exporting" else {}))
    rt.load(first)
    assert rt.epoch[scalar]["geo.f"](0) == 1
    before = rt.epoch
    bad = {"importing": "(unreachable)"} if where == "importing" else {}
    with pytest.raises(HandOverError, match="trapped"):
        rt.reload("geo", counter("2", **bad))
    assert rt.epoch is before
    if where == "importing":
        assert rt.epoch[scalar]["geo.f"](0) == 2


def test_a_stateful_plugin_takes_one_call_at_a_time(rt):
    rt.load(counter("1"))
    f = rt.epoch[scalar]["geo.f"]
    seen = []
    threads = [
        threading.Thread(target=lambda: seen.extend(f(0) for _ in range(50))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(seen) == list(range(1, 201))


def test_calls_run_at_the_same_time_and_the_lock_is_free(rt):
    rt.load(plugin(function("f", SPIN), SIGNATURE), grants={"*", "call_timeout:300ms"})
    f = rt.epoch[scalar]["geo.f"]
    errors = []

    def call():
        try:
            f(1)
        except GuestTimeoutError as error:
            errors.append(error)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    steps = 0
    while any(thread.is_alive() for thread in threads):
        steps += 1  # this thread has the interpreter while the guests run
    assert len(errors) == 3
    assert steps > 1000


@pytest.mark.parametrize("begin", ["by change", "by runtime", "not by change", "close"])
def test_a_drain_that_outlasts_its_limit_interrupts_the_calls(rt, begin):
    if begin != "by change":
        rt = Runtime(drain_timeout=0.1, on_drain_timeout="interrupt")
    rt.load(plugin(function("f", SPIN), SIGNATURE), grants={"*", "call_timeout:60s"})
    errors, begun = [], threading.Barrier(3)

    def call(f):
        begun.wait(60)
        try:
            f(1)
        except GuestTimeoutError as error:
            errors.append(str(error).partition("\n")[0])

    threads = [threading.Thread(target=call, args=(rt.epoch[scalar]["geo.f"],)) for _ in range(2)]
    for thread in threads:
        thread.start()
    begun.wait(60)
    new = plugin(SAME, SIGNATURE_SAME, version="2")
    with pytest.raises(HostError, match="expected 'report' or 'interrupt'"):
        rt.reload("geo", new, on_drain_timeout="stop")
    match begin:
        case "by change":
            rt.reload("geo", new, drain_timeout=0.1, on_drain_timeout="interrupt")
        case "by runtime":
            rt.reload("geo", new)
        case "not by change":
            rt.reload("geo", new, on_drain_timeout="report")
            assert not errors
            rt.draining[0].interrupt()
        case "close":
            rt.close()
    for thread in threads:
        thread.join(60)
    assert errors == ["f of plugin 'geo' was stopped: geo#0 is being removed"] * 2
    for _ in range(6000):
        if not rt.draining:
            break
        threading.Event().wait(0.01)
    assert not rt.draining
    rt.close()


def test_a_generation_that_was_interrupted_takes_no_more_calls(rt):
    rt.load(number(1.0))
    f = rt.epoch[scalar]["geo.value"]
    assert f(0.0) == 1.0
    rt.generation("geo").interrupt()
    with pytest.raises(GuestTimeoutError, match="is being removed"):
        f(0.0)


# --- without wasmtime ---------------------------------------------------------------------------


def test_python_plugins_need_no_wasmtime_and_others_say_what_is_missing(tmp_path):
    path = tmp_path / "geo.wasm"
    path.write_bytes(number(1.0).files["geo.wasm"])
    program = f"""
import sys
sys.modules["wasmtime"] = None
from epochal import Runtime
from epochal.errors import MissingDependencyError
with Runtime() as rt:
    try:
        rt.load({str(path)!r})
    except MissingDependencyError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert "pip install 'epochal[wasm]'" in done.stdout


def test_two_modules_in_a_folder_are_refused(tmp_path):
    for name in ("a.wasm", "b.wasm"):
        (tmp_path / name).write_bytes(module(SAME))
    (tmp_path / "plugin.toml").write_text(manifest(SIGNATURE_SAME))
    with Runtime() as rt, pytest.raises(ManifestError, match=r"several modules, a\.wasm, b\.wasm"):
        rt.load(tmp_path)


def test_a_folder_without_a_module_is_no_plugin(tmp_path):
    (tmp_path / "plugin.toml").write_text(manifest(SIGNATURE_SAME))
    with pytest.raises(ArtifactError, match=r"plugin\.toml with the \.wasm file beside it"):
        read_artifact(tmp_path)
