"""Tests of the plugin `example`; build it first, then run them with `python -m pytest`."""

from pathlib import Path

import pyarrow as pa

from epochal import Runtime
from epochal.kinds import scalar

PLUGIN = Path(__file__).with_name("example.wasm")


def test_it_greets() -> None:
    """Calls the function with a value and with a column."""
    with Runtime() as rt:
        rt.load(PLUGIN)
        with rt.operation("a greeting") as epoch:
            greet = epoch[scalar]["example.greet"]
            assert greet("world") == "Hello, world!"
            names = pa.array(["Zoë", None, ""])
            assert greet(names).to_pylist() == ["Hello, Zoë!", None, "Hello, !"]


def test_it_can_be_swapped_while_it_is_used() -> None:
    """Leaves nothing of the old version behind."""
    with Runtime() as rt:
        rt.load(PLUGIN)
        cutover = rt.reload("example")
        assert cutover.drained
        assert cutover.reclaimed, cutover.leaks
