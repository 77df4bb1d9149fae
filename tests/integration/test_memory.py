"""E7: after REMOVED a generation's code is gone; if not, the leak is named by its path."""

import codecs
import dataclasses
import functools
import gc
import textwrap
import threading
import typing
import weakref

import pytest
from tests.conftest import tool

pytestmark = pytest.mark.usefixtures("whole_heap")

KEPT = []
"""A host's own list, into which plugins put things."""


@functools.singledispatch
def host_render(value):
    return str(value)


class HostBase:
    """A host's class that plugins derive from."""


@functools.lru_cache
def host_cache(key):
    return str(key)


@functools.cache
def host_memory(key):
    return str(key)


@dataclasses.dataclass(frozen=True)
class HostKey:
    """A key of a host's cache, around a function."""

    call: object


HOST_MAKES = []
"""What a host's cached function returns."""


@functools.cache
def host_answer(name):
    return HOST_MAKES[0]


class HostView:
    """A host's object that computes once."""

    @functools.cached_property
    def answer(self):
        return HOST_MAKES[0]


HOST_VIEW = HostView()


def watch(rt, plugin):
    """Weak references to every function and class of a plugin's modules, and to the modules."""
    modules = list(rt.generation(plugin)._namespace.modules.values())
    refs = [weakref.ref(module) for module in modules]
    for module in modules:
        for value in vars(module).values():
            if getattr(value, "__module__", None) == module.__name__:
                try:
                    refs.append(weakref.ref(value))
                except TypeError:
                    continue
    return refs


HARMLESS = {
    "a class with methods": """
        class Point:
            count = 0
            def where(self): return Point, self
            @classmethod
            def make(cls): return cls()
            @property
            def x(self): return super().__hash__()
        ORIGIN = Point()
    """,
    "a dataclass with forward references": """
        import dataclasses, typing
        @dataclasses.dataclass(slots=True, order=True)
        class Node:
            value: int
            parent: "Node | None" = None
        @dataclasses.dataclass
        class Tree:
            root: Node = dataclasses.field(default_factory=lambda: Node(1))
        HINTS = typing.get_type_hints(Node)
        TREE = Tree()
    """,
    "an enum": """
        import enum
        class Colour(enum.Enum):
            RED = 1
            BLUE = 2
        class Level(enum.IntFlag):
            LOW = 1
    """,
    "an abstract class and its caches": """
        import abc
        class Base(abc.ABC):
            @abc.abstractmethod
            def f(self): ...
        class Derived(Base):
            def f(self): return 1
        Base.register(int)
        assert isinstance(3, Base) and isinstance(Derived(), Base)
    """,
    "a singledispatch of its own": """
        import functools
        @functools.singledispatch
        def show(x): return "?"
        class Mine: pass
        @show.register
        def _(x: Mine): return "mine"
        assert show(Mine()) == "mine" and show(1) == "?"
    """,
    "a cache of its own": """
        import functools
        class Key: pass
        @functools.lru_cache
        def f(x): return x
        f(Key()); f(1)
        @functools.cache
        def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
        fib(20)
    """,
    "typing caches": """
        import typing
        class Mine: pass
        T = typing.TypeVar("T")
        class Box(typing.Generic[T]): pass
        A = typing.Optional[Mine]
        B = Box[Mine]
        C = list[Mine] | None
        D = typing.Union[Mine, int]
    """,
    "a protocol and named tuples": """
        import typing, collections
        @typing.runtime_checkable
        class P(typing.Protocol):
            def f(self) -> int: ...
        class N(typing.NamedTuple):
            x: int
            y: "N | None" = None
        M = collections.namedtuple("M", "a b")
        class TD(typing.TypedDict):
            a: int
        assert not isinstance(3, P)
        ROW = N(1, N(2))
    """,
    "closures that call themselves": """
        def outer():
            def inner(n): return n and inner(n - 1)
            return inner
        f = outer()
        f(3)
    """,
    "instances without any slot": """
        class Marker:
            __slots__ = ()
        M = Marker()
        ALL = [M, Marker()]
    """,
    "objects in a circle": """
        class Node:
            def __init__(self): self.me = self
        A, B = Node(), Node()
        A.other, B.other = B, A
        RING = [A]; RING.append(RING)
    """,
    "a weak dictionary, a regular expression, a logger, a lock": """
        import weakref, re, logging, threading, contextvars
        class Key: pass
        K = Key()
        W = weakref.WeakKeyDictionary({K: 1})
        R = re.compile("a+")
        LOG = logging.getLogger(__name__)
        LOCK = threading.RLock()
    """,
    "a suspended generator of its own": """
        def rows():
            try:
                yield 1
                yield 2
            finally:
                pass
        G = rows()
        next(G)
    """,
    "a class of the host's as base": """
        from tests.integration.test_memory import HostBase
        class Mine(HostBase):
            def f(self): return Mine
        class Meta(type):
            def __getattribute__(cls, name):
                return super().__getattribute__(name)
        class Odd(metaclass=Meta):
            def f(self): return Odd
    """,
    "an exception caught and forgotten": """
        class Oops(Exception): pass
        def f():
            try:
                raise Oops
            except Oops as error:
                kept = error
                kept.me = kept
        f()
    """,
    "decorators, partials, bound methods": """
        import functools, contextlib
        def deco(f):
            @functools.wraps(f)
            def wrapper(*a): return f(*a)
            return wrapper
        class C:
            @deco
            def m(self): return 1
            @staticmethod
            def s(): return 2
            @functools.cached_property
            def p(self): return 3
        c = C()
        m, p = c.m, functools.partial(c.m)
        c.p
        @contextlib.contextmanager
        def manager(): yield 1
        with manager(): pass
    """,
}


@pytest.mark.parametrize("case", HARMLESS)
def test_cycles_within_a_plugin_are_taken_apart_without_a_collection(rt, plugins, case):
    """Only the shells of classes wait for a collection."""
    rt.load(plugins.write("geo", HARMLESS[case] + "\n        @tool\n        def f(): return 1\n"))
    refs = watch(rt, "geo")
    gc.collect()
    runs = []
    gc.callbacks.append(note := lambda phase, info: runs.append(info["generation"]))
    try:
        cut = rt.remove("geo")
    finally:
        gc.callbacks.remove(note)
    assert cut.leaks == ()
    assert cut.reclaimed
    if "typing" not in case:
        assert 2 not in runs, "a full collection is the last resort"
    gc.collect()
    assert [ref() for ref in refs if ref() is not None] == []


def test_functions_and_globals_are_freed_at_once_without_a_collection(rt, plugins):
    code = """
    class Point:
        def where(self): return helper
    BIG = Point()
    def helper(): return BIG
    @tool
    def f(): return helper()
    """
    rt.load(plugins.write("geo", code))
    namespace = rt.generation("geo")._namespace
    module = next(iter(namespace.modules.values()))
    refs = [weakref.ref(module.helper), weakref.ref(module.f), weakref.ref(module.BIG)]
    del namespace, module
    gc.collect()
    gc.disable()
    try:
        assert rt.remove("geo").reclaimed
        assert [ref() for ref in refs] == [None] * 3
    finally:
        gc.enable()


def test_finalizers_run_before_the_code_that_they_use_is_taken_apart(rt, plugins):
    code = """
    import weakref
    from tests.integration.test_memory import KEPT
    SUFFIX = "!"
    def say(word): KEPT.append(word + SUFFIX)
    class Resource:
        def __init__(self, name): self.name = name
        def __del__(self): say(self.name)
    plain = Resource("plain")
    ring = Resource("ring")
    ring.me = ring
    @tool
    def f(): return 1
    """
    try:
        rt.load(plugins.write("geo", code))
        assert rt.remove("geo").reclaimed
        assert KEPT[:1] == ["plain!"]
        gc.collect()
        assert KEPT == ["plain!", "ring!"], "one in a circle is finalized whole, by the collector"
    finally:
        KEPT.clear()


def test_modules_that_a_plugin_only_imported_stay_whole(rt, plugins):
    """A broad look opens the host's closures, too; they stay the host's."""

    def counter():
        count = [0]

        def again(n):
            count[0] += 1
            return again(n - 1) if n else count[0]

        return again

    KEPT.append(counter())
    code = """
    from tests.integration.test_memory import KEPT, host_render
    COUNT = KEPT[0]
    import functools
    @functools.singledispatch
    def show(x): return "?"
    class Mine: pass
    @show.register
    def _(x: Mine): return "mine"
    del KEPT
    """
    try:
        rt.load(plugins.write("geo", code))
        assert rt.remove("geo").reclaimed
        assert KEPT[0](3) == 4
        assert host_render(1) == "1"
    finally:
        KEPT.clear()


LEAKS = {
    "an instance in a host's list": (
        "class Point: pass\nKEPT.append(Point())",
        ["instance of", "Point", "KEPT[0]"],
    ),
    "a class in a host's dictionary": (
        "class Point: pass\nKEPT.append({'by name': Point})",
        ["class", "Point", "KEPT[0]['by name']"],
    ),
    "a function in an object of the host": (
        "def callback(): pass\n"
        "from tests.integration.test_memory import HostBase\n"
        "one = HostBase()\none.callback = callback\nKEPT.append(one)",
        ["function", "callback", "KEPT[0].callback"],
    ),
    "a bound method": (
        "class A:\n    def m(self): pass\nKEPT.append(A().m)",
        ["instance of", "A", "KEPT[0].__self__"],
    ),
    "a kept exception of its class": (
        "class Oops(Exception): pass\nKEPT.append(Oops('x'))",
        ["instance of", "Oops", "KEPT[0]"],
    ),
    "a kept exception with its frames": (
        "def boom(): 1 / 0\ntry:\n    boom()\nexcept ZeroDivisionError as e:\n    KEPT.append(e)",
        ["KEPT[0]", "geo.py"],
    ),
    "a suspended generator": (
        "def rows():\n    yield 1\ng = rows()\nnext(g)\nKEPT.append(g)",
        ["KEPT[0]", "rows"],
    ),
    "a module": (
        "import sys\nKEPT.append(sys.modules[__spec__.name])",
        ["module", "KEPT[0]"],
    ),
    "a monkeypatch": (
        "from tests.integration.test_memory import HostBase\ndef pat(self): pass\n"
        "setattr(HostBase, pat.__name__ + 'ched', pat)",
        ["pat", "HostBase.patched"],
    ),
}


@pytest.mark.parametrize("case", LEAKS)
def test_a_leak_is_named_by_its_path(rt, plugins, case):
    code, words = LEAKS[case]
    code = f"from tests.integration.test_memory import KEPT\n{code}\n@tool\ndef f(): return 1\n"
    events = []
    rt.events.subscribe(events.append)
    rt.load(plugins.write("geo", code))
    refs = watch(rt, "geo")
    try:
        cut = rt.remove("geo")
        assert cut.drained
        assert not cut.reclaimed
        text = "\n".join(map(str, cut.leaks))
        assert all(word in text for word in words), text
        assert "__g0" not in text, "the private name means nothing to a person"
    finally:
        KEPT.clear()
        if hasattr(HostBase, "patched"):
            del HostBase.patched
    gc.collect()
    assert [ref() for ref in refs if ref() is not None] == [], "nothing was held but by the leak"


LETTING_GO = {
    "an argument in a host's lru_cache": (
        "class Key: pass\nfrom tests.integration.test_memory import host_cache\nhost_cache(Key())",
        "functools.lru_cache of tests.integration.test_memory.host_cache",
    ),
    "an argument in a host's functools.cache": (
        "class Key: pass\n"
        "from tests.integration.test_memory import host_memory\nhost_memory(Key())",
        "functools.lru_cache of tests.integration.test_memory.host_memory",
    ),
    "a class in a host's functools.cache": (
        "class Key: pass\nfrom tests.integration.test_memory import host_memory\nhost_memory(Key)",
        "functools.lru_cache of tests.integration.test_memory.host_memory",
    ),
    "a function in a key object": (
        "def key(): return 1\nfrom tests.integration.test_memory import HostKey, host_cache\n"
        "host_cache((HostKey(key), 1))",
        "functools.lru_cache of tests.integration.test_memory.host_cache, which was emptied",
    ),
    "a result of a host's functools.cache": (
        "def answer(): return 1\n"
        "from tests.integration.test_memory import HOST_MAKES, HostKey, host_answer\n"
        "HOST_MAKES.append(HostKey(answer))\nhost_answer('x')\nHOST_MAKES.clear()",
        "functools.lru_cache of tests.integration.test_memory.host_answer, 1 entry",
    ),
    "a cached_property of a host's object": (
        "def answer(): return 1\nfrom tests.integration.test_memory import HOST_MAKES, HOST_VIEW\n"
        "HOST_MAKES.append((answer, 1))\nHOST_VIEW.answer\nHOST_MAKES.clear()",
        "functools.cached_property 'answer' of an instance of tests.integration.test_memory.Host",
    ),
    "a class in a host's singledispatch": (
        "class Mine: pass\nfrom tests.integration.test_memory import host_render\n"
        "@host_render.register(Mine)\ndef _(x): return 'mine'\n"
        "assert host_render(Mine()) == 'mine'",
        "functools.singledispatch of tests.integration.test_memory.host_render: Mine",
    ),
    "a codec search function": (
        "import codecs\ndef search(name): return None\ncodecs.register(search)",
        "codec search function geo",
    ),
    "a codec error handler": (
        "import codecs\ndef handle(error): return ('?', error.end)\n"
        "codecs.register_error('geo-handler', handle)",
        "codec error handler: geo-handler",
    ),
}


@pytest.mark.parametrize("case", LETTING_GO)
def test_the_hosts_caches_and_registries_drop_a_generation(rt, plugins, case):
    code, line = LETTING_GO[case]
    host_cache("kept")
    rt.load(plugins.write("geo", f"{code}\n@tool\ndef f(): return 1\n"))
    refs = watch(rt, "geo")
    cut = rt.remove("geo")
    assert cut.reclaimed, cut.leaks
    assert any(line in report for report in cut.cleaned_up), cut.cleaned_up
    gc.collect()
    assert [ref() for ref in refs if ref() is not None] == []
    assert host_render(1) == "1"
    with pytest.raises(LookupError):
        codecs.lookup_error("geo-handler")


def test_leaked_code_keeps_working_for_its_holder(rt, plugins):
    code = """
    from tests.integration.test_memory import KEPT
    RATE = 2
    class Point:
        def twice(self): return helper() * RATE
    def helper(): return 21
    KEPT.append(Point())
    @tool
    def f(): return 1
    """
    try:
        rt.load(plugins.write("geo", code))
        assert not rt.remove("geo").reclaimed
        assert KEPT[0].twice() == 42
    finally:
        KEPT.clear()


HELD = {
    "a singledispatch": (
        """
        @functools.singledispatch
        def held(x): return "any"
        @held.register
        def _(x: int): return "int"
        """,
        lambda held: (held("x"), held(1)),
    ),
    "a singledispatch from a function of a library": (
        """
        held = functools.singledispatch(repr)
        @held.register
        def _(x: int): return "int"
        """,
        lambda held: (held("x"), held(1)),
    ),
    "a singledispatchmethod": (
        """
        class View:
            @functools.singledispatchmethod
            def show(self, x): return "any"
            @show.register
            def _(self, x: int): return "int"
        held = View().show
        """,
        lambda held: (held("x"), held(1)),
    ),
    "a cache": (
        """
        class Mine: pass
        @functools.cache
        def held(): return Mine()
        """,
        lambda held: held(),
    ),
    "a registry by class": (
        """
        class Base:
            known = {}
            def __init_subclass__(cls): Base.known[cls.__name__] = cls
        class Mine(Base): pass
        held = Base
        """,
        lambda held: dict(held.known),
    ),
    "a closure over a cache of a host's function": (
        """
        from tests.integration.test_memory import HostKey
        make = functools.lru_cache(HostKey)
        def held(): return id(make(1))
        """,
        lambda held: held(),
    ),
}


@pytest.mark.parametrize("case", HELD)
def test_what_the_host_still_holds_stays_whole(rt, plugins, case):
    code, use = HELD[case]
    head = "import functools\nfrom tests.integration.test_memory import KEPT\n"
    code = head + textwrap.dedent(code) + "KEPT.append(held)\n@tool\ndef f(): return 1\n"
    try:
        rt.load(plugins.write("geo", code))
        before = use(KEPT[0])
        cut = rt.reload("geo")
        assert not cut.reclaimed
        assert cut.leaks
        assert use(KEPT[0]) == before
    finally:
        KEPT.clear()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_outlives_its_generation_is_reported(rt, plugins):
    """`init` started it, `shutdown` did not end it, and it blocks, so it cannot be ended."""
    code = """
    import threading
    from tests.integration.test_memory import KEPT
    def poll(event): event.wait(20)
    def init(ctx):
        KEPT.append(threading.Event())
        KEPT.append(threading.Thread(target=poll, args=(KEPT[0],), name="geo-worker", daemon=True))
        KEPT[1].start()
    @tool
    def f(): return 1
    """
    try:
        rt.load(plugins.write("geo", code))
        cut = rt.remove("geo")
        assert any("geo-worker" in line and "geo.py" in line for line in map(str, cut.leaks)), (
            cut.leaks
        )
    finally:
        KEPT[0].set()
        KEPT[1].join(10)
        KEPT.clear()


def test_hostile_objects_do_not_break_the_search(rt, plugins):
    code = """
    from tests.integration.test_memory import KEPT
    class Hostile:
        def __repr__(self): raise SystemExit
        __eq__ = __hash__ = __bool__ = __len__ = __getattribute__ = __repr__
    KEPT.append({"x": Hostile()})
    @tool
    def f(): return 1
    """
    try:
        rt.load(plugins.write("geo", code))
        cut = rt.remove("geo")
        assert any("Hostile" in line and "KEPT[0]['x']" in line for line in map(str, cut.leaks)), (
            cut.leaks
        )
    finally:
        KEPT.clear()


def test_a_leak_in_a_local_variable_is_named_with_its_thread(rt, plugins):
    code = """
    class Point: pass
    @tool
    def make(): return Point()
    """
    rt.load(plugins.write("geo", code))
    made = rt.epoch[tool]["geo.make"]()
    cut = rt.remove("geo")
    assert any("local variable 'made'" in line for line in map(str, cut.leaks)), cut.leaks
    assert any(threading.current_thread().name in line for line in map(str, cut.leaks)), cut.leaks
    del made


def test_the_caches_of_typing_drop_a_generations_classes(rt, plugins):
    rt.load(plugins.write("geo", "class Point: pass\n@tool\ndef cls(): return Point\n"))
    hint = typing.Optional.__getitem__(rt.epoch[tool]["geo.cls"]())
    del hint
    assert rt.remove("geo").reclaimed
