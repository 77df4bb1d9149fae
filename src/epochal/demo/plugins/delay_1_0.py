# /// plugin
# id = "delay"
# version = "1.0.0"
# description = "How late is late, in three grades"
# capabilities = ["scalar"]
# ///
"""How late is late, in three grades."""

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
    """Up to a quarter of an hour "on time", up to an hour "late", then "very late"."""
    witness.check()
    if minutes < 15.0:
        return "on time"
    return "late" if minutes < 60.0 else "very late"


@scalar(volatility="stable")
def version_of(minutes: float) -> str:
    """Which generation answers for this row."""
    witness.check()
    return witness.stamp
