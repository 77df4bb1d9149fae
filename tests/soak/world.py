"""The five plugins of a soak. Their functions return the stamp of the change that loaded them.

`left` and `right` are only ever changed together, so an operation that calls both must get the same
stamp twice. `top` requires `base`, and returns its stamp with its own. `guest` is loaded and
removed by turns. A generation that is called after its own shutdown raises `UsedLateError`.
"""

from collections import Counter

from epochal import Kind
from epochal.artifact import Artifact

tool = Kind("soak.tool")


class UsedLateError(RuntimeError):
    """A generation was called after its shutdown."""


class Ledger:
    """Counts of each generation's starts and ends; written by changes, one at a time."""

    def __init__(self):
        self.begun = Counter()
        self.ended = Counter()


LEDGER = Ledger()


def artifact(plugin, stamp, fault=""):
    """A version of a plugin.

    Args:
        plugin: its id.
        stamp: the value that its functions return: the number of the change that loads it.
        fault: the step at which it raises, `link` or `init`; "" for none.
    """
    code = _CODE.format(
        id=plugin,
        requires='"base"' if plugin == "top" else "",
        stamp=stamp,
        link="raise ValueError" if fault == "link" else "",
        init="raise ValueError" if fault == "init" else "pass",
    )
    return Artifact(plugin, {f"{plugin}.py": code.encode()})


_CODE = """
# /// plugin
# id = "{id}"
# version = "{stamp}"
# requires = [{requires}]
# ///
import asyncio
from tests.soak.world import LEDGER, UsedLateError, tool

STAMP = {stamp}
DOWN, REQUIRED = [], []
{link}

class Thing:
    "A class, so that a leak of one would show."

@tool
def stamp():
    if DOWN:
        raise UsedLateError("{id}", STAMP)
    return STAMP

@tool
def stamps():
    "Its own stamp, that of the plugin that it requires, and its own again."
    mine = stamp()
    theirs = REQUIRED[0].stamp() if REQUIRED else mine
    return mine, theirs, stamp()

@tool
def stream():
    while True:
        yield stamp()

@tool
def fail():
    raise LookupError(stamp())

@tool
async def poll():
    before = stamp()
    await asyncio.sleep(0)
    return before, stamp()

@tool
async def astream():
    while True:
        yield stamp()

def init(ctx):
    {init}
    if "{id}" == "top":
        REQUIRED.append(ctx.require("base"))
    LEDGER.begun["{id}", ctx.generation] += 1
    ctx.defer(LEDGER.ended.update, [("{id}", ctx.generation)])

def shutdown():
    DOWN.append(True)
"""
