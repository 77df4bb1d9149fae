"""Instances that a host makes of others that it has are uses; what the plugin made is none."""

import copy
import dataclasses
import functools
import gc
import logging
import pickle
import threading
import time
import weakref
from unittest import mock

import pytest
from tests.conftest import tool

from epochal._core.generation import kept_instances

CODE = """
import dataclasses
SHUT = []
KEPT = []
class Base: ...
@tool
@dataclasses.dataclass
class C(Base):
    x: int = 0
    def go(self): return not SHUT
    def keep(self): KEPT.append(type(self)(1))
    def twin(self): return type(self)(self.x)
class Sub(C): ...
def shutdown(): SHUT.append(1)
"""


@pytest.fixture
def make(rt, plugins):
    rt.load(plugins.write("p", CODE))
    return lambda: rt.epoch[tool]["p.C"]()


def drained_soon(rt):
    deadline = time.monotonic() + 10
    while rt.draining and time.monotonic() < deadline:
        gc.collect()  # refused while the change's own thread is within one
        time.sleep(0.005)
    return not rt.draining


def derived(one):
    class Derived(type(one)): ...

    return Derived()


def in_a_generator(one):
    def rows(one):
        yield one
        yield one.go()

    made = rows(copy.copy(one))
    next(made)
    return made


def in_a_closure(one):
    one = copy.copy(one)
    return lambda: one.go()


def in_a_cycle(one):
    held = [copy.copy(one)]
    held.append(held)
    return held


WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda one: pickle.loads(pickle.dumps(one)),
    "an old pickle": lambda one: pickle.loads(pickle.dumps(one, 0)),
    "a copy of a copy": lambda one: copy.copy(copy.copy(one)),
    "its class called": lambda one: type(one)(),
    "its class's __new__": lambda one: object.__new__(type(one)),
    "replace": lambda one: dataclasses.replace(one, x=3),
    "a derived class's": derived,
    "the plugin's derived class's": lambda one: type(one).__subclasses__()[-1](),
    "returned by a method": lambda one: one.twin(),
    "in a list": lambda one: [[copy.copy(one)]],
    "in a generator": in_a_generator,
    "in a closure": in_a_closure,
    "in a cycle": in_a_cycle,
    "a method": lambda one: copy.copy(one).go,
    "a partial": lambda one: functools.partial(type(one).go, copy.copy(one)),
    "two": lambda one: (copy.copy(one), derived(one)),
}


def uses(held):
    """Use what is held, however it is held."""
    if isinstance(held, (list, tuple)):
        return all(uses(one) for one in held if one is not held)
    if hasattr(held, "__next__"):
        return next(held)
    return held.go() if hasattr(held, "go") else held()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_a_host_makes_of_an_instance_is_a_use(rt, make, way):
    held = way(make())
    cutover = rt.reload("p", drain_timeout=0.02)
    assert not cutover.drained
    assert "object" in [holder.kind for holder in cutover.holders]
    assert uses(held)
    del held
    gc.collect()
    assert drained_soon(rt)
    assert rt.reload("p").drained


def test_a_derived_class_is_a_use_before_it_has_an_instance(rt, make):
    class Derived(type(make())): ...

    assert not rt.reload("p", drain_timeout=0.02).drained
    assert Derived().go()
    del Derived
    gc.collect()
    assert drained_soon(rt)


def test_a_copy_that_is_made_of_a_copy_meanwhile_is_a_use(rt, make):
    held = copy.copy(make())
    assert not rt.reload("p", drain_timeout=0.02).drained
    other = copy.copy(held)
    del held
    assert not drained_while_held(rt)
    assert other.go()
    del other
    assert drained_soon(rt)


def drained_while_held(rt):
    deadline = time.monotonic() + 0.1
    while rt.draining and time.monotonic() < deadline:
        time.sleep(0.005)
    return not rt.draining


def test_a_copy_in_another_threads_variable_is_a_use(rt, make):
    ready, go, seen = threading.Event(), threading.Event(), []

    def work(one):
        one = copy.copy(one)
        ready.set()
        go.wait(10)
        seen.append(one.go())

    thread = threading.Thread(target=work, args=(make(),))
    thread.start()
    assert ready.wait(10)
    assert not rt.reload("p", drain_timeout=0.02).drained
    go.set()
    thread.join(10)
    assert seen == [True]
    assert drained_soon(rt)


# --- no use --------------------------------------------------------------------------------------


def test_a_plugin_whose_instances_are_gone_costs_no_look_through_the_heap(rt, make):
    make().keep()
    make()
    with mock.patch.object(kept_instances, "heap") as heap:
        assert rt.reload("p").drained
    assert not heap.instances.called


def test_a_plugin_without_exported_classes_costs_nothing(rt, plugins, monkeypatch):
    monkeypatch.setattr("epochal._core.generation.kept_instances._graph", None)
    rt.load(plugins.write("p", "class C: ...\n@tool\ndef f(): return C()"))
    kept = rt.epoch[tool]["p.f"]()
    assert rt.reload("p").drained
    assert kept is not None


def test_copies_that_only_the_plugin_keeps_are_no_use(rt, make):
    make().keep()
    held = make()
    held.keep()
    copy.copy(held).keep()
    del held
    assert rt.reload("p").drained


def test_a_copy_in_garbage_is_no_use(rt, make):
    in_a_cycle(make())
    derived(make())
    assert rt.reload("p", drain_timeout=5).drained


def test_a_weak_reference_to_a_copy_is_no_use(rt, make):
    held = copy.copy(make())
    ref = weakref.ref(held)
    del held
    assert rt.reload("p").drained
    assert ref() is None


OWN = {
    "a handler": "import logging\nclass Base(logging.Handler): ...\n",
    "a thread's variable": "import threading\nBase = object\n",
    "a context's thread": "Base = object\n",
    "a thread": "import threading\nclass Base(threading.Thread): ...\n",
    "an entry": "Base = object\n",
}
INITS = {
    "a handler": "logging.getLogger().addHandler(C())",
    "a thread's variable": "threading.Thread(target=C().serve, args=(ctx,)).start()",
    "a context's thread": "ctx.spawn(C().serve, ctx)",
    "a thread": "c = C(); c.run = c.serve; c.ctx = ctx; c.start()",
    "an entry": "import __main__; __main__.ENTRIES = getattr(__main__, 'ENTRIES', [])\n"
    "    __main__.ENTRIES.append(C()); ctx.defer(__main__.ENTRIES.clear)",
}


@pytest.mark.parametrize("what", OWN)
def test_an_instance_that_init_made_is_no_use(rt, plugins, what):
    code = f"{OWN[what]}@tool\nclass C(Base):\n"
    code += "    def serve(self, ctx=None):\n        one = type(self)()\n"
    code += "        (ctx or self.ctx).stopping.wait(20)\n"
    code += f"def init(ctx):\n    {INITS[what]}\n"
    before = list(logging.getLogger().handlers)
    rt.load(plugins.write("p", code))
    rt.epoch[tool]["p.C"]()
    assert rt.reload("p", drain_timeout=5).drained
    assert rt.remove("p", drain_timeout=5).drained
    assert logging.getLogger().handlers == before


ORDINARY = {
    "an abstract class": "import abc\nclass B(abc.ABC): ...\n@tool\nclass C(B): ...\n",
    "a dataclass with slots": "import dataclasses\n@tool\n"
    "@dataclasses.dataclass(slots=True, weakref_slot=True)\nclass C:\n    x: int = 0\n",
    "a metaclass with a table": "class M(type):\n    all = []\n"
    "    def __init__(c, *a): M.all.append(c)\n@tool\nclass C(metaclass=M): ...\n",
    "a base with a table": "class B:\n    all = []\n    def __init_subclass__(c): B.all.append(c)\n"
    "@tool\nclass C(B): ...\n",
    "an instance in a cycle": "@tool\nclass C:\n    def __init__(self): self.me = [self]\n",
    "a cached instance": "import functools\n@tool\nclass C: ...\n"
    "one = functools.cache(lambda: C())\none()\n",
    "a thread's own variable": "import threading\nL = threading.local()\n@tool\nclass C:\n"
    "    def __init__(self): L.x = self\n",
    "a context variable": "import contextvars\nV = contextvars.ContextVar('v')\n"
    "@tool\nclass C: ...\ndef init(ctx): V.set(C())\n",
    "a finalizer": "import weakref\n@tool\nclass C:\n"
    "    def __init__(self): weakref.finalize(self, int)\n",
    "an exit hook": "import atexit\n@tool\nclass C:\n    def bye(self): ...\n"
    "def init(ctx): atexit.register(C().bye)\n",
    "a hook": "import threading\n@tool\nclass C:\n    def hook(self, args): ...\n"
    "def init(ctx): threading.excepthook = C().hook\n",
    "an alias of typing": "import typing\n@tool\nclass C: ...\nX = typing.Optional[C]\n",
    "a generic class": "import typing\nT = typing.TypeVar('T')\n"
    "@tool\nclass C(typing.Generic[T]):\n    def __init__(self): C[int]\n",
    "a partial": "import functools\nclass D: ...\nC = tool(name='C')(functools.partial(D))\n",
}


@pytest.mark.parametrize("code", ORDINARY.values(), ids=ORDINARY)
def test_what_a_plugin_does_with_its_class_is_no_use(rt, plugins, code):
    rt.load(plugins.write("p", code))
    for _ in range(2):
        rt.epoch[tool]["p.C"]()
        assert rt.reload("p", drain_timeout=5).drained


def test_instances_that_a_thread_of_init_goes_on_making_are_no_use(rt, plugins):
    code = """
    import threading
    STOP = threading.Event()
    @tool
    class C:
        made = 0
    def work():
        while not STOP.wait(0.0001):
            one = C()
            C.made += 1
            del one
            other = [C(), C()]
    def init(ctx):
        global thread
        thread = threading.Thread(target=work)
        thread.start()
    def shutdown():
        STOP.set()
        thread.join()
    """
    rt.load(plugins.write("p", code))
    for _ in range(3):
        rt.epoch[tool]["p.C"]()
        assert rt.reload("p", drain_timeout=5).drained


BORROWER = """
def register(ctx):
    global inner
    inner = ctx.require("p")
@tool
def get(): return Mine()
@tool
def kept(): return KEPT
def link_later():
    global Mine
    class Mine(inner.C): ...
KEPT = []
def init(ctx):
    link_later()
    KEPT.append(inner.C())
    KEPT.append(Mine())
"""


def test_a_dependent_that_leaks_instances_keeps_nothing_in_use(rt, plugins, make):
    rt.load(plugins.write("q", BORROWER, requires=["p"]))
    make()
    leaked = rt.epoch[tool]["q.kept"]
    leaked = leaked.__globals__
    cutover = rt.reload("p", drain_timeout=5)
    assert all(swap.drained for swap in cutover.swaps)
    assert len(leaked) > 0


def test_a_dependents_derived_class_is_no_use_once_it_is_removed(rt, plugins, make):
    rt.load(plugins.write("q", BORROWER, requires=["p"]))
    make()
    rt.epoch[tool]["q.get"]()
    cutover = rt.reload("p", drain_timeout=5)
    assert all(swap.drained for swap in cutover.swaps)
    rt.remove("q")
    make()
    assert rt.reload("p", drain_timeout=5).drained
