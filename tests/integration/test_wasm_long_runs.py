"""WebAssembly plugins over many reloads, and as bytes that are none: nothing is left, or dies."""

import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.sizes import sized
from tests.wasm_components import component, lifted
from tests.wasm_modules import number

from epochal.kinds import scalar

ROOT = Path(__file__).parents[2]
WARM, RELOADS = sized(10, 200), sized(30, 300, 2_000)
MOST_GROWTH = 2 * 1024 * 1024
FUZZED = sized(80, 400, 3_000)


def component_of(value, **described):
    """The component whose `value` returns a number for each row."""
    kind = '(param "row" f64) (result f64)'
    function = lifted("value", kind, "(param f64) (result f64)", f"(f64.const {value})")
    return component(function, scalars='value = "(row: float64) -> float64"', **described)


def resident():
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("make", [number, component_of])
def test_memory_does_not_grow_with_reloads(rt, make):
    versions = [make(1.0), make(2.0, version="2.0")]
    rt.load(versions[0])
    for count in range(WARM + RELOADS):
        if count == WARM:
            before = resident()
        assert rt.epoch[scalar]["geo.value"](0.0) == 1.0 + count % 2
        cutover = rt.reload("geo", versions[(count + 1) % 2])
        assert cutover.reclaimed
    assert resident() - before < MOST_GROWTH


def test_any_bytes_are_refused_or_run_and_end_nothing():
    """In a process of its own: a fault of the engine would end it."""
    program = f"""
    import random
    from epochal import Runtime
    from epochal.artifact import Artifact
    from epochal.errors import EpochalError
    from epochal.kinds import scalar
    from tests.integration.test_wasm_long_runs import component_of
    from tests.wasm_modules import example, number
    dice = random.Random({random.Random(7).random()})
    seeds = [bytes(a.files[a.root]) for a in (number(1.0), example("numbers"), component_of(1.0))]
    rt = Runtime(grants={{"*", "call_timeout:200ms", "max_memory:4MiB"}}, phase_timeout=20)
    loaded = 0
    for _ in range({FUZZED}):
        content = bytearray(dice.choice(seeds))
        for _ in range(dice.choice((1, 1, 2, 5, 20))):
            at = dice.randrange(len(content))
            action = dice.randrange(4)
            if action == 0:
                content[at] = dice.randrange(256)
            elif action == 1:
                del content[at : at + dice.randrange(1, 9)]
            elif action == 2:
                content[at:at] = bytes(dice.randrange(256) for _ in range(dice.randrange(1, 9)))
            else:
                content[at] ^= 1 << dice.randrange(8)
            content = content or bytearray(b"x")
        before = rt.epoch
        try:
            rt.load(Artifact("geo", {{"geo.wasm": bytes(content)}}))
        except EpochalError:
            assert rt.epoch is before
            continue
        loaded += 1
        (plugin,) = rt.epoch.generations
        for name, function in rt.epoch[scalar].items():
            try:
                function(*(0.5,) * function.__code__.co_argcount)
            except Exception as error:
                assert type(error).__name__ in ("GuestError", "GuestTimeoutError", "ArrowTypeError",
                    "ArrowInvalid", "TypeError", "OverflowError"), repr(error)
        del function
        rt.remove(plugin)
    print("done", loaded)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=sized(300, 3_000),
        check=False,
    )
    assert done.stdout.startswith("done"), done.stderr[-2000:]
    assert int(done.stdout.split()[1]) >= sized(1, 10, 100)  # some of them ran
