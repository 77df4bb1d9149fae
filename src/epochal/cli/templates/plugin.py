# /// plugin
# id = "example"
# version = "0.1.0"
# description = "Greets"
# capabilities = ["scalar"]
# ///
"""Greets. Replace this by what your plugin does; its functions are `example.greet` and so on."""

from epochal import PluginContext
from epochal.kinds import scalar

greeting = "Hello"


def init(ctx: PluginContext) -> None:
    """Called once, before anybody uses this version. Open what you need; `ctx.defer` closes it."""
    global greeting
    greeting = ctx.config.get("greeting", greeting)


def shutdown() -> None:
    """Called once, when nobody can use this version any more."""


@scalar(volatility="immutable")
def greet(name: str) -> str:
    """A greeting, for one value; SQL calls it once a row."""
    return f"{greeting}, {name}!"
