"""The host's side of the model: what its plugins report to, and the plugins themselves.

Every generation says who it is each time it is called, together with whoever computed for it; it
notices a call after its own shutdown; it looks, while it begins, at what the host serves; and it
leaves weak references to its own code, to see its memory come back.
"""

import threading
import weakref
from collections import Counter
from dataclasses import dataclass

from epochal import Kind
from epochal._core.plugin.artifact import Artifact

tool = Kind("model.tool")

REQUIRES = {"a": (), "b": ("a",), "c": ("a", "b"), "d": ()}
"""The plugins of the model, and what each requires: a diamond's edge, a chain, and one alone."""

RAISES = ("ValueError", "SystemExit", "KeyboardInterrupt", "MemoryError", "GeneratorExit")


class Contract(Kind):
    """A kind with a rule: a version that agreed to another number cannot follow."""

    def options(self, number=1):
        return {"number": number}

    def compare(self, old, new):
        if old.options != new.options:
            raise ValueError(f"{old.options} became {new.options}")


contract = Contract("model.contract")


class Ledger:
    """What the generations of one runtime told; written by their code, in whatever thread."""

    def __init__(self):
        self.begin(lambda: None)

    def begin(self, read_epoch):
        """Forget everything; `read_epoch` gives the current epoch from now on."""
        self.read_epoch = read_epoch
        self.base = lambda: None
        self.born = {}
        self.initialized = set()
        self.downs = Counter()
        self.wrong = []
        self.entered = threading.Event()
        self.leave = threading.Event()
        self.blocked = []

    def expect(self, epoch):
        """A change begins: nothing but this epoch may be served until it is published."""
        self.base = weakref.ref(epoch)

    def birth(self, me, *code):
        self.born[me] = [weakref.ref(thing) for thing in code]

    def looked(self, me):
        """Called from `init`: what is served must still be what the change found."""
        if self.read_epoch() is not self.base():
            self.wrong.append(f"{me} began, and the epoch was no longer the one before")

    def used_late(self, me):
        self.wrong.append(f"{me} was used after its shutdown")

    def block(self):
        """Stay here until the model lets go, and then go no further."""
        self.blocked.append(threading.current_thread())
        self.entered.set()
        self.leave.wait(60)
        raise SystemExit

    def unblock(self):
        """Let whoever blocks go, and see them gone."""
        self.leave.set()
        while self.blocked:
            self.blocked.pop().join(20)
        self.leave.clear()
        self.entered.clear()


LEDGER = Ledger()


@dataclass(frozen=True)
class Recipe:
    """One version of a plugin.

    Attributes:
        fault: where it goes wrong, if anywhere: manifest, syntax, link, register, init, blocks (in
            init, for ever), shutdown.
        error: what it raises there.
        number: what it agrees to with other versions; see `Contract`.
    """

    plugin: str
    fault: str = ""
    error: str = "ValueError"
    number: int = 1

    def artifact(self):
        requires = ", ".join(f'"{name}"' for name in REQUIRES[self.plugin])
        steps = ("link", "register", "init", "shutdown")
        code = _CODE.format(
            id=self.plugin,
            version="one" if self.fault == "manifest" else "1.0",
            requires=requires,
            names=REQUIRES[self.plugin],
            number=self.number,
            syntax="def" if self.fault == "syntax" else "",
            blocks="LEDGER.block()" if self.fault == "blocks" else "",
            **{step: f"raise {self.error}" if self.fault == step else "pass" for step in steps},
        )
        return Artifact(self.plugin, {f"{self.plugin}.py": code.encode()})


_CODE = """
# /// plugin
# id = "{id}"
# version = "{version}"
# requires = [{requires}]
# ///
from tests.property.ledger import LEDGER, contract, tool

ME, DOWN, REQUIRED = [], [], []
{syntax}

class Thing:
    "A class of the plugin, to see that classes come back."
    def method(self): return Thing


def who():
    me = ME[0]
    if DOWN:
        LEDGER.used_late(me)
    return (*me, tuple(required.whoami() for required in REQUIRED))

@tool
def whoami():
    return who()

@contract(number={number})
def agreed():
    return who()

@tool
def stream():
    while True:
        yield who()

@tool
async def poll(awaitable):
    await awaitable
    return who()

@tool
def stay(entered, leave):
    entered.set()
    leave.wait(60)
    return who()

@tool
def fail():
    raise ValueError(who())

{link}

def register(ctx):
    ME.append((ctx.plugin, ctx.generation))
    LEDGER.birth(ME[0], who, Thing, Thing.method)
    {register}

def init(ctx):
    REQUIRED.extend(ctx.require(name) for name in {names!r})
    LEDGER.looked(ME[0])
    {blocks}
    {init}
    LEDGER.initialized.add(ME[0])
    ctx.defer(DOWN.append, "deferred")

def shutdown():
    DOWN.append("down")
    LEDGER.downs[ME[0]] += 1
    {shutdown}
"""
