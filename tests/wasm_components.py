"""WebAssembly components for tests, from text: `component('(func (export "half") …)', HALF)`."""

from tests.wasm_modules import assembled, manifest, packed

REALLY = "(i32.store8 (i32.const 0) (i32.const 0)) (i32.const 0)"
"""Returns `ok` of a `result<_, string>`."""
FAILS = """(i32.store8 (i32.const 0) (i32.const 1)) (i32.store (i32.const 4) (i32.const 64))
(i32.store (i32.const 8) (i32.const 7)) (i32.const 0)"""
"""Returns the error "no luck"."""
MEMORY = '(memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))'
PACKAGE = "epochal:plugin/"

LIBC = """(core module $Libc
  (memory (export "memory") 1)
  (data (i32.const 64) "no luck")
  (global $free (mut i32) (i32.const 4096))
  (func (export "realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
    (global.set $free (i32.add (local.get $at) (local.get 3)))
    (if (i32.gt_u (global.get $free) (i32.const 60000))
      (then (global.set $free (i32.const 4096))))
    (local.get $at)))
(core instance $libc (instantiate $Libc))"""


def imported(interface, name, kind, core, version="0.1.0", package=PACKAGE):
    """An import of one function: the component's text, the core module's import, and its name."""
    label = f"{interface}-{name}"
    text = f"""
    (import "{package}{interface}@{version}" (instance ${label}
      (export "{name}" (func {kind}))))
    (alias export ${label} "{name}" (func ${label}-f))
    (core func ${label}-lower (canon lower (func ${label}-f) {MEMORY}))"""
    return label, text, f'(import "host" "{label}" (func ${label} {core}))'


def lifted(name, kind, core, body):
    """An exported function: its type in the component, that in the core module, and its body."""
    return (
        f'(func (export "{name}") {core} {body})',
        f'(func (export "{name}") {kind} (canon lift (core func $i "{name}") {MEMORY}))',
    )


def binary(*functions, imports=(), life="0.1.0", handover=(), **bodies):
    """The bytes of a component.

    Args:
        functions: from `lifted`.
        imports: from `imported`.
        life: the version of its lifecycle; empty for none.
        handover: bodies of export-state and import-state.
        bodies: of register, init and shutdown.
    """
    core = [one for one, _ in functions]
    outer = [one for _, one in functions]
    core.append(f'(func (export "register") (result i32) {bodies.get("register", REALLY)})')
    core.append(f'(func (export "init") (param i32 i32) (result i32) {bodies.get("init", REALLY)})')
    core.append(f'(func (export "shutdown") {bodies.get("shutdown", "")})')
    answer = "(result (result (error string)))"
    if life:
        outer.append(f"""
        (func $register {answer} (canon lift (core func $i "register") {MEMORY}))
        (func $init (param "config" string) {answer} (canon lift (core func $i "init") {MEMORY}))
        (func $shutdown (canon lift (core func $i "shutdown")))
        (instance $life (export "register" (func $register)) (export "init" (func $init))
          (export "shutdown" (func $shutdown)))
        (export "{PACKAGE}lifecycle@{life}" (instance $life))""")
    if handover:
        core.append(f'(func (export "export-state") (result i32) {handover[0]})')
        core.append(
            f'(func (export "import-state") (param i32 i32 i32 i32) (result i32) {handover[1]})'
        )
        outer.append(f"""
        (func $export (result (result (list u8) (error string)))
          (canon lift (core func $i "export-state") {MEMORY}))
        (func $import (param "state" (list u8)) (param "version" string) {answer}
          (canon lift (core func $i "import-state") {MEMORY}))
        (instance $over (export "export-state" (func $export))
          (export "import-state" (func $import)))
        (export "{PACKAGE}handover@0.1.0" (instance $over))""")
    given = " ".join(f'(export "{label}" (func ${label}-lower))' for label, _, _ in imports)
    return assembled(f"""(component $geo
      {LIBC}
      {"".join(text for _, text, _ in imports)}
      (core module $m
        {"".join(text for _, _, text in imports)}
        (import "libc" "memory" (memory 1))
        (global $count (mut i64) (i64.const 0))
        {"".join(core)})
      (core instance $i (instantiate $m (with "libc" (instance $libc))
        (with "host" (instance {given}))))
      {"".join(outer)})""")


def component(*functions, scalars, imports=(), asks=(), head="", **options):
    """An artifact of a component, whose manifest asks for `scalar` and some capabilities."""
    listed = ", ".join(f'"{one}"' for one in ("scalar", *asks))
    described = {key: options.pop(key) for key in ("version", "tables") if key in options}
    text = manifest(scalars, head=f"capabilities = [{listed}]\n{head}", **described)
    return packed(binary(*functions, imports=imports, **options), text)


def scaled(factor):
    """`half`: a number times a factor."""
    return lifted(
        "half",
        '(param "value" f64) (result f64)',
        "(param f64) (result f64)",
        f"(f64.mul (local.get 0) (f64.const {factor}))",
    )


HALF = 'half = "(value: float64) -> float64"'
CALL = 'f = "(row: int64) -> int64"'


def f(body, result="s64", core="i64"):
    """`f`: a function of a number, which it need not look at; returns a number of 64 bits."""
    return lifted("f", f'(param "row" s64) (result {result})', f"(param i64) (result {core})", body)
