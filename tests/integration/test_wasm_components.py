"""Components live as core modules do, and get of the host what they were granted, nothing else."""

import logging
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pyarrow as pa
import pytest
from tests.wasm_components import (
    CALL,
    FAILS,
    HALF,
    MEMORY,
    REALLY,
    component,
    f,
    imported,
    lifted,
    scaled,
)
from tests.wasm_modules import number

from epochal.errors import (
    CapabilityError,
    GuestError,
    GuestTimeoutError,
    HandOverError,
    InitError,
    LinkError,
)
from epochal.kinds import scalar
from epochal.sql import Database

CLOCK = imported("clock", "now", "(result u64)", "(result i64)")
LIMITS = {"*", "call_timeout:50ms", "max_memory:2MiB"}


def half(**options):
    return component(scaled(options.pop("factor", 0.5)), scalars=HALF, **options)


def call(rt, given=0, name="f"):
    return rt.epoch[scalar][f"geo.{name}"](given)


# --- a life -------------------------------------------------------------------------------------


def test_a_component_serves_sql_and_is_reloaded_beside_a_module(rt):
    rt.load(half())
    text = "SELECT geo.half(n) FROM (VALUES (3.0), (NULL), (5.0)) t(n)"
    with Database(rt) as db:
        assert db.query(text).rows() == [(1.5,), (None,), (2.5,)]
        with rt.operation() as old:
            rt.reload("geo", half(factor=2.0, version="2.0"), drain_timeout=0)
            assert old[scalar]["geo.half"](3.0) == 1.5
        assert db.query("SELECT geo.half(3.0)").rows() == [(6.0,)]
    cutover = rt.reload("geo", number(4.0, version="3.0"))
    assert cutover.drained
    assert call(rt, 0.0, name="value") == 4.0


TYPES = {
    "int8": ("s8", "i32", -8),
    "uint16": ("u16", "i32", 65535),
    "uint64": ("u64", "i64", 2**64 - 1),
    "float32": ("f32", "f32", 0.5),
    "bool": ("bool", "i32", True),
}


@pytest.mark.parametrize("name", TYPES)
def test_each_plain_type_goes_in_and_comes_out(rt, name):
    wit, core, value = TYPES[name]
    same = lifted(
        "same",
        f'(param "value" {wit}) (result {wit})',
        f"(param {core}) (result {core})",
        "(local.get 0)",
    )
    rt.load(component(same, scalars=f'same = "(value: {name}) -> {name}"'))
    assert call(rt, value, name="same") == value


@pytest.mark.parametrize(("name", "wit"), [("utf8", "string"), ("binary", "(list u8)")])
def test_texts_and_nulls_go_in_and_come_out(rt, name, wit):
    given = pa.array(["é", None, ""], "utf8").cast(name)
    same = lifted(
        "same-text",
        f'(param "value" (option {wit})) (result (option {wit}))',
        "(param i32 i32 i32) (result i32)",
        "(i32.store (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1))"
        "(i32.store (i32.const 24) (local.get 2)) (i32.const 16)",
    )
    rt.load(component(same, scalars=f'same_text = "(value: {name}?) -> {name}?"'))
    assert call(rt, given, name="same_text").equals(given)


def test_a_function_may_fail_and_says_why(rt):
    function = f(_fails_at(8), "(result s64 (error string))", "i32")
    rt.load(component(function, scalars=CALL))
    for _ in range(7):  # no trap: the breaker stays closed
        with pytest.raises(GuestError, match="f of plugin 'geo' failed: no luck"):
            call(rt)


def _fails_at(payload):
    return f"""(i32.store8 (i32.const 0) (i32.const 1))
    (i32.store (i32.const {payload}) (i32.const 64))
    (i32.store (i32.const {payload + 4}) (i32.const 7)) (i32.const 0)"""


def test_a_stored_component_is_restored_from_kept_code(start, monkeypatch):
    rt = start()
    rt.load(half())
    rt.close()
    from wasmtime.component import Component

    monkeypatch.setattr(Component, "__init__", None)  # compiles nothing
    assert call(start(), 3.0, name="half") == 1.5


@pytest.mark.parametrize(
    ("bodies", "error", "message"),
    [
        ({"register": FAILS}, LinkError, "refused to register: no luck"),
        ({"register": "unreachable"}, LinkError, "trapped"),
        ({"init": FAILS}, InitError, "init of plugin 'geo' failed: no luck"),
        ({"init": "(loop $x (br $x)) (i32.const 0)"}, InitError, "did not return within 0.05 s"),
    ],
)
def test_a_component_that_cannot_begin_changes_nothing(rt, bodies, error, message):
    rt.load(half())
    before = rt.epoch
    with pytest.raises(error, match=message):
        rt.reload("geo", half(version="2.0", **bodies), grants=LIMITS)
    assert rt.epoch is before
    assert call(rt, 3.0, name="half") == 1.5


def test_a_trap_in_shutdown_is_reported_and_stops_nothing(rt):
    rt.load(half(shutdown="unreachable"))
    cutover = rt.remove("geo")
    assert cutover.drained
    assert "shutdown of plugin 'geo' trapped" in cutover.failures[0]
    assert cutover.leaks == ()


# --- capabilities -------------------------------------------------------------------------------

READS_CLOCK = (f("(call $clock-now)"),)


@pytest.mark.parametrize(
    ("asks", "grants", "todo"),
    [
        ((), {"*", "host:*"}, "add 'host:clock' to `capabilities` in its manifest"),
        (("host:clock",), {"*"}, "have the host grant it"),
        (("host:log",), {"*", "host:log"}, "add 'host:clock'"),
    ],
)
def test_an_import_that_was_not_granted_refuses_the_load_and_is_named(rt, asks, grants, todo):
    artifact = component(*READS_CLOCK, scalars=CALL, imports=(CLOCK,), asks=asks)
    with pytest.raises(CapabilityError, match=r"imports epochal:plugin/clock@0.1.0") as caught:
        rt.load(artifact, grants=grants)
    assert todo in str(caught.value)
    assert caught.value.capability == "host:clock"
    assert rt.epoch.number == 0


OTHERS = {
    "another version": (
        imported("clock", "now", "(result u64)", "(result i64)", version="9.0.0"),
        LinkError,
        r"clock@9.0.0, of version 9.0.0 of the world; this host has 0.1.0",
    ),
    "no interface of ours": (
        imported("files", "now", "(result u64)", "(result i64)"),
        CapabilityError,
        "which this host does not have; it has epochal:plugin/log",
    ),
    "WASI": (
        imported("random", "now", "(result u64)", "(result i64)", package="wasi:random/"),
        CapabilityError,
        "add 'wasi:random' to `capabilities`",
    ),
    "no function of it": (
        imported("clock", "later", "(result u64)", "(result i64)"),
        LinkError,
        "function 'later' is none of it",
    ),
    "another type": (
        imported("clock", "now", "(result string)", "(param i32)"),
        LinkError,
        r"has the type \(\) -> string; expected \(\) -> u64",
    ),
    "http without a host": (
        imported("http", "request", "(result u64)", "(result i64)"),
        CapabilityError,
        "such as net:api.example.org",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_an_import_that_is_none_of_the_world_is_refused_and_named(rt, case):
    one, error, message = OTHERS[case]
    artifact = component(scaled(0.5), scalars=HALF, imports=(one,), asks=("host:clock", "host:log"))
    with pytest.raises(error, match=message):
        rt.load(artifact, grants={"*", "*:*"})
    assert rt.epoch.number == 0


def test_wasi_that_was_granted_has_nothing_in_it(rt):
    one = imported(
        "environment",
        "get-environment",
        "(result (list (tuple string string)))",
        "(param i32)",
        version="0.2.0",
        package="wasi:cli/",
    )
    function = f("(call $environment-get-environment (i32.const 32)) (i64.load32_u (i32.const 36))")
    rt.load(
        component(function, scalars=CALL, imports=(one,), asks=("wasi:cli",)),
        grants={"*", "wasi:cli"},
    )
    assert call(rt) == 0


def test_the_host_gives_clock_random_config_and_log(rt, caplog):
    imports = (
        CLOCK,
        imported("random", "bytes", '(param "count" u32) (result (list u8))', "(param i32 i32)"),
        imported("log", "info", '(param "message" string)', "(param i32 i32)"),
        imported(
            "config", "get", '(param "key" string) (result (option string))', "(param i32 i32 i32)"
        ),
    )
    function = f("""
      (call $log-info (i32.const 64) (i32.const 7))
      (call $config-get (i32.const 64) (i32.const 7) (i32.const 32))
      (call $random-bytes (i32.const 5) (i32.const 48))
      (if (i64.eqz (call $clock-now)) (then unreachable))
      (i64.add (i64.mul (i64.load32_u (i32.const 52)) (i64.const 100))
        (i64.load32_u (i32.const 40)))""")
    asks = ("host:clock", "host:random", "host:log", "host:config")
    with caplog.at_level(logging.INFO, "epochal.plugin.geo"):
        rt.load(
            component(function, scalars=CALL, imports=imports, asks=asks),
            grants={"*", "host:*"},
            config={"no luck": [1, 2]},
        )
        assert call(rt) == 5 * 100 + len("[1, 2]")
    assert ("epochal.plugin.geo", logging.INFO, "no luck") in caplog.record_tuples


REQUEST = imported(
    "http",
    "request",
    '(param "method" string) (param "url" string) (param "headers" (list (tuple string string)))'
    ' (param "body" (list u8)) (result (result (list u8) (error string)))',
    "(param i32 i32 i32 i32 i32 i32 i32 i32 i32)",
)


def fetches(url):
    """`f` returns the length of the body, or of the error, below zero."""
    text = "".join(f"\\{byte:02x}" for byte in f"GET{url}".encode())
    # With one header, `GET: GET`: a pair of texts.
    function = f(f"""
      (i32.store (i32.const 512) (i32.const 128)) (i32.store (i32.const 516) (i32.const 3))
      (i32.store (i32.const 520) (i32.const 128)) (i32.store (i32.const 524) (i32.const 3))
      (call $http-request (i32.const 128) (i32.const 3) (i32.const 131) (i32.const {len(url)})
        (i32.const 512) (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 32))
      (i64.mul (i64.load32_u (i32.const 40)) (select (i64.const -1) (i64.const 1)
        (i32.load8_u (i32.const 32))))""")
    core, outer = function
    return (core + f'(data (i32.const 128) "{text}")', outer)


@pytest.fixture
def site():
    class Site(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/away":
                self.send_response(302)
                self.send_header("Location", "/")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200 if self.headers["GET"] == "GET" else 400)
            self.send_header("Content-Length", "5")
            self.end_headers()
            if self.path == "/slow":
                hold.wait(10)
            else:
                self.wfile.write(b"hello")

        def log_message(self, *_):
            pass

    hold = threading.Event()
    server = HTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    hold.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_http_reaches_the_hosts_that_were_granted_alone(rt, site):
    options = {"scalars": CALL, "imports": (REQUEST,), "asks": ("net:127.0.0.1", "net:localhost")}
    grants = {"*", "net:127.0.0.1", "call_timeout:300ms"}
    rt.load(component(fetches(f"{site}/"), **options), grants=grants)
    assert call(rt) == len("hello")
    errors = {
        f"{site}/away": "302 Found",
        site.replace("127.0.0.1", "localhost"): "net:localhost was not granted",
        "file:///etc/hosts": "'file:///etc/hosts' is not a URL of http or https",
    }
    for version, (url, error) in enumerate(errors.items(), 2):
        rt.reload("geo", component(fetches(url), version=str(version), **options))
        assert call(rt) == -len(error)
    rt.reload("geo", component(fetches(f"{site}/slow"), version="9", **options))
    try:
        ended = call(rt)
    except GuestTimeoutError:
        return
    assert ended < 0  # the request failed an instant before its call was stopped


# --- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ("(loop $x (br $x)) (i64.const 0)", GuestTimeoutError, "did not return within 0.05 s"),
        ("unreachable", GuestError, "trapped: wasm `unreachable`"),
        ("(i64.load (i32.const -8))", GuestError, "out of bounds memory access"),
    ],
)
def test_a_call_that_ends_badly_ends_alone(rt, body, error, message):
    first = f"""(global.set $count (i64.add (global.get $count) (i64.const 1)))
    (if (result i64) (i64.eq (global.get $count) (i64.const 2)) (then {body})
      (else (global.get $count)))"""
    rt.load(component(f(first), scalars=CALL), grants=LIMITS)
    assert call(rt) == 1
    with pytest.raises(error, match=message):
        call(rt)
    assert call(rt) == 1  # a new instance


def test_calls_that_trap_again_and_again_are_refused_at_once(rt):
    rt.load(component(f("unreachable"), scalars=CALL))
    for _ in range(5):
        with pytest.raises(GuestError, match="trapped"):
            call(rt)
    with pytest.raises(GuestError, match="is not called for"):
        call(rt)


def test_memory_beyond_the_limit_is_not_given(rt):
    grow = f("(i64.extend_i32_s (memory.grow (i32.const 100)))")
    rt.load(component(grow, scalars=CALL), grants=LIMITS)
    assert call(rt) == -1


def test_a_list_that_would_fill_the_hosts_memory_is_refused(rt):
    body = """(drop (memory.grow (i32.const 2000)))
      (i32.store (i32.const 16) (i32.const 0))
      (i32.store (i32.const 20) (i32.const 100000000)) (i32.const 16)"""
    function = f(body, "(list u8)", "i32")
    rt.load(component(function, scalars='f = "(row: int64) -> binary"'))
    with pytest.raises(GuestError, match="too much data"):
        call(rt)


def test_the_host_ends_a_call_that_asks_for_too_much(rt):
    one = imported("random", "bytes", '(param "n" u32) (result (list u8))', "(param i32 i32)")
    function = f("(call $random-bytes (i32.const 65537) (i32.const 32)) (i64.const 0)")
    rt.load(
        component(function, scalars=CALL, imports=(one,), asks=("host:random",)),
        grants={"*", "host:random"},
    )
    with pytest.raises(GuestError, match="expected at most 65,536"):
        call(rt)


def test_a_drain_that_outlasts_its_limit_interrupts_the_calls(rt):
    one = imported("log", "info", '(param "message" string)', "(param i32 i32)")
    function = f("(call $log-info (i32.const 64) (i32.const 7)) (loop $x (br $x)) (i64.const 0)")
    began, errors = threading.Event(), []

    class Begins(logging.Handler):
        def emit(self, _):
            began.set()

    log = logging.getLogger("epochal.plugin.geo")
    handler = Begins()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        rt.load(
            component(function, scalars=CALL, imports=(one,), asks=("host:log",)),
            grants={"*", "host:log", "call_timeout:60s"},
        )

        def endless(run):
            try:
                run(0)
            except GuestError as error:
                errors.append(str(error))

        thread = threading.Thread(target=endless, args=(rt.epoch[scalar]["geo.f"],))
        thread.start()
        assert began.wait(10)
        rt.reload("geo", half(version="2"), drain_timeout=0.01, on_drain_timeout="interrupt")
        thread.join(10)
        assert not thread.is_alive()
        assert errors
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)


def test_a_component_that_was_interrupted_takes_no_more_calls(rt):
    rt.load(half())
    assert call(rt, 3.0, name="half") == 1.5
    rt.generation("geo").interrupt()
    with pytest.raises(GuestTimeoutError, match="is being removed"):
        call(rt, 3.0, name="half")


# --- what does not fit ----------------------------------------------------------------------------

AGGREGATE = """[exports.aggregate]
half = { signature = "(value: float64) -> float64", state = 8 }"""

MISFITS = {
    "no lifecycle": ({"life": ""}, "does not export epochal:plugin/lifecycle@0.1.0"),
    "another world": ({"life": "0.2.0"}, r"of version 0.2.0 of the world; this host has 0.1.0"),
    "a missing function": ({"scalars": 'other = "() -> int64"'}, "'other' is missing"),
    "another type": (
        {"scalars": 'half = "(value: int64) -> float64"'},
        r"has the type \(f64\) -> f64; expected \(s64\) -> f64 or \(s64\) -> result<f64, string>",
    ),
    "a type that WIT lacks": (
        {"scalars": 'half = "(value: decimal128(9, 2)) -> float64"'},
        "value of type decimal128",
    ),
    "an aggregate": (
        {"scalars": "", "tables": AGGREGATE},
        "a component has scalars only",
    ),
    "state of many instances": (
        {"handover": (REALLY, REALLY)},
        "its manifest must say `stateful = true`",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_component_that_does_not_fit_is_refused(rt, case):
    options, message = MISFITS[case]
    with pytest.raises(LinkError, match=message):
        rt.load(component(scaled(0.5), **{"scalars": HALF, **options}), grants={"*"})
    assert rt.epoch.number == 0


# --- state ----------------------------------------------------------------------------------------

COUNTS = f("(global.set $count (i64.add (global.get $count) (i64.const 1))) (global.get $count)")
GIVES = """(i64.store (i32.const 32) (global.get $count)) (i32.store8 (i32.const 0) (i32.const 0))
(i32.store (i32.const 4) (i32.const 32)) (i32.store (i32.const 8) (i32.const 8)) (i32.const 0)"""
TAKES = f"(global.set $count (i64.load (local.get 0))) {REALLY}"


def counter(version, gives=GIVES, takes=TAKES):
    return component(
        COUNTS, scalars=CALL, head="stateful = true", version=version, handover=(gives, takes)
    )


def test_a_state_of_its_own_is_handed_over(rt):
    rt.load(counter("1"))
    assert [call(rt), call(rt)] == [1, 2]
    rt.reload("geo", counter("2"))
    assert call(rt) == 3


@pytest.mark.parametrize("change", [{"gives": "unreachable"}, {"takes": FAILS}])
def test_a_hand_over_that_fails_leaves_the_old_one_with_its_state(rt, change):
    rt.load(counter("1", **({"gives": change["gives"]} if "gives" in change else {})))
    assert call(rt) == 1
    before = rt.epoch
    with pytest.raises(HandOverError):
        rt.reload("geo", counter("2", **change))
    assert rt.epoch is before
    if "takes" in change:
        assert call(rt) == 2


STATE = f"""
(import "epochal:plugin/state@0.1.0" (instance $state
  (export "get" (func (param "key" string) (result (option (list u8)))))
  (export "set" (func (param "key" string) (param "value" (list u8))
    (result (result (error string)))))))
(alias export $state "get" (func $get-f))
(alias export $state "set" (func $set-f))
(core func $state-get-lower (canon lower (func $get-f) {MEMORY}))
(core func $state-set-lower (canon lower (func $set-f) {MEMORY}))"""


def keeps(version, size=8, key=7, **options):
    """`f` counts in the host's state, under the key "no luck"."""
    parameters = {"get": "(param i32 i32 i32)", "set": "(param i32 i32 i32 i32 i32)"}
    get, put = (
        f'(import "host" "state-{name}" (func $state-{name} {kind}))'
        for name, kind in parameters.items()
    )
    function = f(f"""
      (call $state-get (i32.const 64) (i32.const {key}) (i32.const 32))
      (i64.store (i32.const 1024) (i64.const 0))
      (if (i32.load8_u (i32.const 32))
        (then (i64.store (i32.const 1024) (i64.load (i32.load (i32.const 36))))))
      (i64.store (i32.const 1024) (i64.add (i64.load (i32.const 1024)) (i64.const 1)))
      (call $state-set (i32.const 64) (i32.const {key}) (i32.const 1024) (i32.const {size})
        (i32.const 48))
      (if (i32.load8_u (i32.const 48)) (then (return (i64.const -1))))
      (i64.load (i32.const 1024))""")
    return component(
        function,
        scalars=CALL,
        imports=(("state-get", STATE, get), ("state-set", "", put)),
        asks=("host:state",),
        version=version,
        **options,
    )


def test_values_that_the_host_keeps_are_shared_and_handed_over(rt):
    rt.load(keeps("1"), grants={"*", "host:state"})
    assert [call(rt), call(rt)] == [1, 2]
    rt.reload("geo", keeps("2"))
    assert call(rt) == 3
    with pytest.raises(HandOverError, match="which it does not import"):
        rt.reload("geo", counter("3"))
    assert call(rt) == 4


def test_values_take_no_more_than_the_memory_that_was_granted(rt):
    rt.load(keeps("1", size=60_000), grants={"*", "host:state", "max_memory:64KiB"})
    assert call(rt) == 1
    rt.reload("geo", keeps("2", size=60_000, key=6))
    assert call(rt) == -1


def test_calls_run_at_the_same_time_each_in_its_instance(rt):
    rt.load(component(COUNTS, scalars=CALL))
    run = rt.epoch[scalar]["geo.f"]
    barrier, failed = threading.Barrier(4, timeout=10), []

    def calls():
        barrier.wait()
        try:
            for _ in range(50):
                run(0)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=calls) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
