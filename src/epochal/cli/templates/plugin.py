# /// plugin
# id = "example"
# version = "0.1.0"
# description = "Greets"
# capabilities = ["scalar"]
# ///
"""Greets. Replace this by your plugin's purpose; its functions are `example.greet` and so on."""

from epochal import PluginContext
from epochal.kinds import scalar

greeting = "Hello"


def init(ctx: PluginContext) -> None:
    """Called once, before the first use of this version. `ctx.defer` closes what is opened here."""
    global greeting
    greeting = ctx.config.get("greeting", greeting)


def shutdown() -> None:
    """Called once, after the last use of this version."""


@scalar(volatility="immutable")
def greet(name: str) -> str:
    """A greeting, for one value; SQL calls it once a row."""
    return f"{greeting}, {name}!"
