"""What is soaked: five plugins, whose every answer says which change made them.

`left` and `right` are only ever changed together, so that whoever sees both must see one stamp.
`top` requires `base` and says whose code it calls. `guest` comes and goes. A generation that is
called after its own shutdown raises `UsedLateError`.
"""

from collections import Counter

from epochal import Kind
from epochal.artifact import Artifact

tool = Kind("soak.tool")


class UsedLateError(RuntimeError):
    """A generation was called after its shutdown."""


class Ledger:
    """What the generations of one run told; written by changes, one at a time."""

    def __init__(self):
        self.begun = Counter()
        self.ended = Counter()


LEDGER = Ledger()


def artifact(plugin, stamp, fault=""):
    """A version of a plugin.

    Args:
        plugin: which.
        stamp: what its functions answer: the number of the change that brings it in.
        fault: where it raises: `link`, `init` or nowhere.
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
    "A class, so that there is one to come back."

@tool
def stamp():
    if DOWN:
        raise UsedLateError("{id}", STAMP)
    return STAMP

@tool
def stamps():
    "One of its own and one of what it requires, around a call of the other."
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
