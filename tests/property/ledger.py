"""The model's plugins, and the ledger that they report to.

Each call of a generation returns the generation's identity and, nested, the identities of the
generations that computed for it. A generation records a call after its own shutdown, compares the
host's epoch with the expected one during `init`, and registers weak references to its own code, so
that a test can see its memory come back.
"""

import threading
import weakref
from collections import Counter
from dataclasses import dataclass

from epochal import Kind
from epochal._core.plugin.artifact import Artifact

tool = Kind("model.tool")

REQUIRES = {"a": (), "b": ("a",), "c": ("a", "b"), "d": ()}
"""The model's plugins and their requirements: a chain, one edge of a diamond, and a loner."""

RAISES = ("ValueError", "SystemExit", "KeyboardInterrupt", "MemoryError", "GeneratorExit")


class Contract(Kind):
    """A kind with a rule: a reload must keep the number that the old version declared."""

    def options(self, number=1):
        return {"number": number}

    def compare(self, old, new):
        if old.options != new.options:
            raise ValueError(f"{old.options} became {new.options}")


contract = Contract("model.contract")


class Ledger:
    """The reports of one runtime's generations; their code writes it, from any thread."""

    def __init__(self):
        self.begin(lambda: None)

    def begin(self, read_epoch):
        """Clear the ledger for a new runtime; `read_epoch` returns its current epoch."""
        self.read_epoch = read_epoch
        self.expected = lambda: None
        self.code_refs = {}
        self.initialized = set()
        self.shutdowns = Counter()
        self.violations = []
        self.entered = threading.Event()
        self.leave = threading.Event()
        self.blocked = []

    def expect(self, epoch):
        """Note the epoch that must stay current until the coming change publishes."""
        self.expected = weakref.ref(epoch)

    def register_code(self, me, *code):
        self.code_refs[me] = [weakref.ref(thing) for thing in code]

    def check_epoch(self, me):
        """Called from `init`: the epoch from before the change must still be current."""
        if self.read_epoch() is not self.expected():
            self.violations.append(f"the epoch had changed before {me} was initialized")

    def record_late_use(self, me):
        self.violations.append(f"{me} was used after its shutdown")

    def block(self):
        """Wait until the model calls `unblock`, then end the thread."""
        self.blocked.append(threading.current_thread())
        self.entered.set()
        self.leave.wait(60)
        raise SystemExit

    def unblock(self):
        """Release the blocked threads, and join them."""
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
        fault: the step that fails: manifest, syntax, link, register, init, blocks (in `init`, for
            ever), shutdown; "" for none.
        error: the class of the exception that it raises there.
        number: the number that it declares with `Contract`.
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
    "A class of the plugin; its memory must come back, too."
    def method(self): return Thing


def identity():
    me = ME[0]
    if DOWN:
        LEDGER.record_late_use(me)
    return (*me, tuple(required.whoami() for required in REQUIRED))

@tool
def whoami():
    return identity()

@contract(number={number})
def agreed():
    return identity()

@tool
def stream():
    while True:
        yield identity()

@tool
async def poll(awaitable):
    await awaitable
    return identity()

@tool
def stay(entered, leave):
    entered.set()
    leave.wait(60)
    return identity()

@tool
def fail():
    raise ValueError(identity())

{link}

def register(ctx):
    ME.append((ctx.plugin, ctx.generation))
    LEDGER.register_code(ME[0], identity, Thing, Thing.method)
    {register}

def init(ctx):
    REQUIRED.extend(ctx.require(name) for name in {names!r})
    LEDGER.check_epoch(ME[0])
    {blocks}
    {init}
    LEDGER.initialized.add(ME[0])
    ctx.defer(DOWN.append, "deferred")

def shutdown():
    DOWN.append("down")
    LEDGER.shutdowns[ME[0]] += 1
    {shutdown}
"""
