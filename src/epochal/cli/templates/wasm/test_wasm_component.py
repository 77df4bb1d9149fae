"""Tests of the plugin `example`; build it first, then run them with `python -m pytest`."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from epochal import Runtime
from epochal.kinds import scalar

PLUGIN = Path(__file__).with_name("example.wasm")


@pytest.fixture(scope="module")
def rt() -> Iterator[Runtime]:
    """A runtime with the plugin, for all tests: compiling it takes half a minute."""
    with Runtime() as runtime:
        runtime.load(PLUGIN, phase_timeout=600)
        yield runtime


def test_it_greets(rt: Runtime) -> None:
    """Calls the function with a value and with a column."""
    with rt.operation("a greeting") as epoch:
        greet = epoch[scalar]["example.greet"]
        assert greet("world") == "Hello, world!"
        names = pa.array(["Zoë", None, ""])
        assert greet(names).to_pylist() == ["Hello, Zoë!", None, "Hello, !"]


def test_it_can_be_swapped_while_it_is_used(rt: Runtime) -> None:
    """Leaves nothing of the old version behind."""
    cutover = rt.reload("example", phase_timeout=600)
    assert cutover.drained
    assert cutover.reclaimed, cutover.leaks
