"""Tests of the plugin `example`; run them with `python -m pytest`."""

from pathlib import Path

from epochal import Runtime
from epochal.kinds import scalar

PLUGIN = Path(__file__).with_name("example.py")


def test_it_greets() -> None:
    """Calls the function as a host does."""
    with Runtime() as rt:
        rt.load(PLUGIN)
        with rt.operation("a greeting") as epoch:
            assert epoch[scalar]["example.greet"]("world") == "Hello, world!"


def test_the_greeting_can_be_configured() -> None:
    """Reads the host's configuration."""
    with Runtime() as rt:
        rt.load(PLUGIN, config={"greeting": "Good day"})
        with rt.operation("a greeting") as epoch:
            assert epoch[scalar]["example.greet"]("world") == "Good day, world!"


def test_it_can_be_swapped_while_it_is_used() -> None:
    """Leaves nothing of the old version behind."""
    with Runtime() as rt:
        rt.load(PLUGIN)
        cutover = rt.reload("example")
        assert cutover.drained
        assert cutover.reclaimed, cutover.leaks
