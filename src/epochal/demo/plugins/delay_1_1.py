# /// plugin
# id = "delay"
# version = "1.1.0"
# description = "How late is late, in four grades"
# capabilities = ["scalar"]
# ///
"""How late is late, in four grades."""

from epochal import PluginContext
from epochal.demo.witness import Witness
from epochal.kinds import scalar

witness = Witness()


def init(ctx: PluginContext) -> None:
    """Learn who this generation is."""
    witness.begin(ctx)


def shutdown() -> None:
    """Nobody may call from here on."""
    witness.end()


@scalar(volatility="immutable")
def grade(minutes: float) -> str:
    """As before, and "early" for what came in before its time."""
    witness.check()
    if minutes < 0.0:
        return "early"
    if minutes < 15.0:
        return "on time"
    return "late" if minutes < 60.0 else "very late"


@scalar(volatility="stable")
def version_of(minutes: float) -> str:
    """Which generation answers for this row."""
    witness.check()
    return witness.stamp
