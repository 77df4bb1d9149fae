"""A marked function is exported or refused, never skipped, whatever decorates it."""

import sys
import textwrap
from types import ModuleType

import pytest
from tests.conftest import tool

from epochal import Runtime
from epochal.errors import ExportError, LinkError
from epochal.kinds import (
    aggregate,
    data_type,
    index,
    job,
    mergeable_state,
    scalar,
    service,
    sink,
    source,
    storage,
    table_function,
    window,
)

HOST = """
import functools
from epochal.kinds import Hook
from tests.conftest import tool

happened = Hook("happened")

def timed(f):
    @functools.wraps(f)
    def inner(*args, **kw):
        return f(*args, **kw)
    return inner

def bare(f):
    def inner(*args, **kw):
        return f(*args, **kw)
    return inner

class Counted:
    def __init__(self, f):
        self.f = f
        functools.update_wrapper(self, f)
    def __call__(self, *args, **kw):
        return self.f(*args, **kw)

class Silent:
    def __init__(self, f):
        self.f = f
    def __call__(self, *args, **kw):
        return self.f(*args, **kw)

def exported(f):
    return tool(timed(f))

def derived(cls):
    return type(cls.__name__, (cls,), {})

def same(cls):
    return cls
"""


@pytest.fixture(autouse=True)
def host(monkeypatch):
    module = ModuleType("host_library")
    exec(HOST, vars(module))
    monkeypatch.setitem(sys.modules, "host_library", module)
    return module


def load(rt, plugins, code, version="2.0"):
    head = (
        "import contextlib, functools\n"
        "from typing import NamedTuple\n"
        "from collections.abc import Iterator\n"
        "from epochal.kinds import *\n"
        "from host_library import *\n"  # last: its `tool` is not the one of `epochal.kinds`
    )
    path = plugins.write("p", head + textwrap.dedent(code), version=version)
    return rt.reload("p", path) if "p" in rt.epoch.generations else rt.load(path)


EXPORTED = {
    "wraps": "@tool\n@timed\ndef f(): return 1",
    "wraps, twice": "@tool\n@timed\n@timed\ndef f(): return 1",
    "wraps, outermost": "@timed\n@tool\ndef f(): return 1",
    "without wraps": "@tool(name='f')\n@bare\ndef f(): return 1",
    "without wraps, twice": "@tool(name='f')\n@bare\n@bare\ndef f(): return 1",
    "a class": "@tool\n@Counted\ndef f(): return 1",
    "a class, outermost": "@Counted\n@tool\ndef f(): return 1",
    "a class without wraps": "@tool(name='f')\n@Silent\ndef f(): return 1",
    "contextmanager": "@tool\n@contextlib.contextmanager\ndef f(): yield 1",
    "singledispatch": "@tool(name='f')\n@timed\n@functools.singledispatch\ndef g(x): return 1\n"
    "f = functools.partial(g, 1)\ntool(name='f')(f)\ndel g",
    "lru_cache": "@tool\n@functools.lru_cache\n@timed\ndef f(): return 1",
    "lru_cache, outermost": "@functools.lru_cache\n@tool\ndef f(): return 1",
    "a partial": "def g(x): return x\nf = tool(name='f')(functools.partial(timed(g), 1))",
    "staticmethod": "@tool\n@staticmethod\ndef f(): return 1",
    "an object": "class F:\n    def __call__(self): return 1\nf = tool(name='f')(F())",
    "a builtin's partial": "f = tool(name='f')(functools.partial(len, 'a'))",
    "a marker of the host's own": "@exported\ndef f(): return 1",
    "within a function": "def make():\n    @tool\n    @bare\n    def f(): return 1\n"
    "    return tool(name='f')(f)\nf = make()",
    "a second definition": "@tool\ndef f(): return 0\nkept = {'f': f}\n@tool\ndef f(): return 1",
    "tenacity": "import tenacity\n@tool\n@tenacity.retry\ndef f(): return 1",
    "tenacity, outermost": "import tenacity\n@tenacity.retry\n@tool\ndef f(): return 1",
    "pydantic": "import pydantic\n@tool\n@pydantic.validate_call\ndef f(x: int = 1): return x",
    "pydantic, outermost": "import pydantic\n@pydantic.validate_call\n@tool\ndef f(): return 1",
    "beartype": "import beartype\n@tool\n@beartype.beartype\ndef f(x: int = 1) -> int: return x",
    "beartype, outermost": "import beartype\n@beartype.beartype\n@tool\ndef f(): return 1",
    "wrapt": "import wrapt\n@wrapt.decorator\ndef pass_on(f, _, args, kw): return f(*args, **kw)\n"
    "@tool\n@pass_on\ndef f(): return 1",
    "a method": "class P:\n    @tool\n    @timed\n    def f(self): return 1\nplugin = P()",
    "a method with lru_cache": "class P:\n    @tool\n    @functools.lru_cache\n"
    "    def f(self): return 1\nplugin = P()",
    "a static method": "class P:\n    @staticmethod\n    @tool\n    @timed\n    def f(): return 1\n"
    "plugin = P()",
    "a partial method": "class P:\n    def g(self, x): return x\n"
    "    f = tool(name='f')(functools.partialmethod(g, 1))\nplugin = P()",
}


@pytest.mark.parametrize("code", EXPORTED.values(), ids=EXPORTED)
def test_a_decorated_function_is_exported(rt, plugins, code):
    for library in ("tenacity", "pydantic", "beartype", "wrapt"):
        if library in code:
            pytest.importorskip(library)
    load(rt, plugins, "@tool\ndef f(): return 0", version="1.0")
    load(rt, plugins, code)
    result = rt.epoch[tool]["p.f"]()
    assert (result.__enter__() if hasattr(result, "__enter__") else result) == 1


HIDDEN = {
    "without wraps": "@bare\n@tool\ndef f(): return 1",
    "a class without wraps": "@Silent\n@tool\ndef f(): return 1",
    "twice": "@bare\n@timed\n@tool\ndef f(): return 1",
    "a method": "class P:\n    @bare\n    @tool\n    def f(self): return 1\nplugin = P()",
    "in a table": "TABLE = [tool(lambda: 1)]",
    "a subclass": "@derived\n@tool\nclass f: pass",
    "kept by a function": "def f():\n    @tool\n    def g(): ...\n    f.g = g\nf()",
}


@pytest.mark.parametrize("code", HIDDEN.values(), ids=HIDDEN)
def test_a_hidden_mark_is_refused_by_name(rt, plugins, code):
    with pytest.raises(ExportError, match=r"plugin 'p' marks '.*' as tool, but no name") as caught:
        load(rt, plugins, code)
    assert caught.value.plugin == "p"


def test_a_mark_on_an_object_that_is_gone_is_not_refused(rt, plugins):
    with pytest.warns(UserWarning, match=r"h\.<locals>\.i is marked with @tool inside a function"):
        load(rt, plugins, "@tool\ndef g(): ...\ndel g\ndef h():\n    @tool\n    def i(): i\nh()")
    assert not rt.epoch[tool]


def test_a_marked_function_that_was_only_imported_is_not_exported(rt, plugins, host):
    exec("@tool\ndef marked(): ...", vars(host))
    load(rt, plugins, "from host_library import marked as f")
    assert not rt.epoch[tool]


def test_a_librarys_object_keeps_the_marks_of_live_generations_alone(rt, plugins, host):
    code = "import host_library\ntool(name='f')(host_library.same)"
    load(rt, plugins, "from host_library import same\ntool(name='f')(same)")
    for _ in range(3):
        rt.reload("p")
    assert rt.epoch[tool]["p.f"](1) == 1
    assert len(host.same.__epochal_marks__) <= 2, code


def test_every_export_that_a_version_lacks_is_reported(rt, plugins):
    code = "@tool\ndef f(): ...\n@scalar\ndef g(x: int) -> int: return x\n@tool\ndef h(): ..."
    load(rt, plugins, code)
    cutover = load(rt, plugins, "@tool\ndef h(): ...", version="3.0")
    assert cutover.dropped == ("tool p.f", "scalar p.g")


ENTRY_POINTS = {
    "wraps": "@timed",
    "without wraps": "@bare",
    "an object": "@Silent",
    "a partial": "@functools.partial",
    "staticmethod": "@staticmethod",
}


@pytest.mark.parametrize("decorator", ENTRY_POINTS.values(), ids=ENTRY_POINTS)
def test_a_decorated_entry_point_is_called(rt, plugins, host, decorator):
    host.called = called = []
    names = {"register": "ctx", "init": "ctx", "shutdown": ""}
    code = "".join(
        f"{decorator}\ndef {name}({given}): host_library.called.append({name!r})\n"
        for name, given in names.items()
    )
    load(rt, plugins, "import host_library\n" + code)
    rt.remove("p")
    assert called == list(names)


@pytest.mark.parametrize("imported", ["timed as init", "silent as init", "bound as init"])
def test_an_imported_entry_point_is_refused(rt, plugins, host, imported):
    host.silent = host.Silent(len)
    host.bound = host.silent.__call__
    with pytest.raises(LinkError, match="'init' of plugin 'p' is something that it imported"):
        load(rt, plugins, f"from host_library import {imported}")


NOT_RUN = {
    "generator": "def {}(*_): yield",
    "context manager": "@contextlib.contextmanager\ndef {}(*_): yield",
    "coroutine": "@timed\nasync def {}(*_): ...",
    "async context manager": "@contextlib.asynccontextmanager\nasync def {}(*_): yield",
}


@pytest.mark.parametrize("code", NOT_RUN.values(), ids=NOT_RUN)
@pytest.mark.parametrize("name", ["register", "init"])
def test_an_entry_point_that_does_not_run_is_refused_by_name(rt, plugins, code, name):
    with pytest.raises(Exception, match=rf"{name}\(\) returned a .* ran none of its code"):
        load(rt, plugins, code.format(name))
    assert "p" not in rt.epoch.generations


@pytest.mark.parametrize("code", NOT_RUN.values(), ids=NOT_RUN)
def test_a_shutdown_that_does_not_run_is_reported(rt, plugins, code):
    load(rt, plugins, code.format("shutdown"))
    assert "ran none of its code" in rt.remove("p").failures[0]


def test_a_state_that_is_not_imported_is_refused(rt, plugins):
    load(rt, plugins, "def export_state(): return 1")
    code = "@timed\nasync def import_state(state, from_version): ...\ndef export_state(): ..."
    with pytest.raises(Exception, match=r"import_state\(\) returned a coroutine"):
        load(rt, plugins, code)


FUNCTIONS = {
    scalar: "@scalar\n{}\ndef f(x: int) -> int: return x",
    window: "@window\n{}\ndef f(x: list[int]) -> list[int]: return x",
    table_function: "class Row(NamedTuple):\n    x: int\n"
    "@table_function\n{}\ndef f(n: int = 1) -> Iterator[Row]: yield Row(1)",
    job: "@job(every='1h')\n{}\ndef f() -> None: ...",
    "happened": "@happened\n{}\ndef f(): ...",
}

CLASSES = {
    aggregate: "@aggregate\n{}\nclass f:\n    n: int = 0\n"
    "    def update(self, x: int) -> None: ...\n"
    "    def merge(self, other: 'f') -> None: ...\n    def evaluate(self) -> int: return 0",
    mergeable_state: "@mergeable_state\n{}\nclass f:\n    samples = [[(1,)]]\n"
    "    def __init__(self): self.n = 0\n"
    "    def update(self, x: int) -> None: ...\n    def merge(self, other: 'f') -> None: ...\n"
    "    def evaluate(self) -> int: return 0\n    def state(self) -> int: return 0\n"
    "    def restore(self, state: int) -> None: ...",
    data_type: "import pyarrow as pa\n@data_type\n{}\nclass f:\n    storage = pa.int64()\n"
    "    samples = [1]\n    @staticmethod\n    def encode(value): return value\n"
    "    @staticmethod\n    def decode(stored): return stored",
    service: "@service\n{}\nclass f:\n    def get(self): return 1",
    index: "class Row(NamedTuple):\n    x: int\n@index\n{}\nclass f:\n"
    "    def build(self, rows): ...\n"
    "    def persist(self, folder): ...\n    def open(self, folder): ...\n"
    "    def search(self, word: str) -> list[Row]: return []",
    storage: "@storage(scheme='thing')\n{}\nclass f:\n    def table(self, uri): ...",
    source: "@source\n{}\nclass f:\n    def start(self, position): ...\n"
    "    def read(self, limit): return []\n    def checkpoint(self): ...",
    sink: "@sink\n{}\nclass f:\n    def start(self, position): ...\n"
    "    def write(self, events): ...\n    def checkpoint(self): ...",
    tool: "@tool\n{}\nclass f: ...",
}

FUNCTION_DECORATORS = {
    "host": ("", "@timed"),
    "tenacity": ("import tenacity", "@tenacity.retry(stop=tenacity.stop_after_attempt(2))"),
    "pydantic": ("import pydantic", "@pydantic.validate_call"),
    "beartype": ("import beartype", "@beartype.beartype"),
}


def _every(codes, decorators):
    return [
        pytest.param(kind, code, *lines, id=f"{getattr(kind, 'name', kind)}-{name}")
        for kind, code in codes.items()
        for name, lines in decorators.items()
    ]


def _kind(host, kind):
    return host.happened if kind == "happened" else kind


@pytest.mark.parametrize(
    ("kind", "code", "imports", "decorator"), _every(FUNCTIONS, FUNCTION_DECORATORS)
)
@pytest.mark.parametrize("is_outermost", [False, True], ids=["marker first", "marker last"])
def test_every_kind_of_function_may_be_decorated(
    rt, plugins, host, kind, code, imports, decorator, is_outermost
):
    if imports:
        pytest.importorskip(imports.partition(" ")[2])
    code = code.format(decorator)
    if is_outermost:
        marker = next(line for line in code.splitlines() if line.startswith("@"))
        code = code.replace(f"{marker}\n{decorator}", f"{decorator}\n{marker}")
    load(rt, plugins, f"{imports}\n{code}")
    assert "p.f" in rt.epoch[_kind(host, kind)]


@pytest.mark.parametrize(
    ("kind", "code", "decorator"),
    _every(CLASSES, {"same": ("@same",), "derived": ("@derived",)}),
)
def test_every_kind_of_class_may_be_decorated(rt, plugins, host, kind, code, decorator):
    load(rt, plugins, code.format(decorator))
    assert "p.f" in rt.epoch[kind]


def test_the_command_refuses_a_hidden_mark(plugins, capsys):
    from epochal.cli import main

    path = plugins.write("p", "from host_library import *\n@bare\n@tool\ndef f(): ...")
    assert main(["check", str(path)]) != 0
    assert "no name at the top level" in capsys.readouterr().out


def test_a_decorated_function_is_drained(plugins):
    with Runtime() as rt:
        load(rt, plugins, "@tool\n@timed\ndef f():\n    yield 1\n    yield 2")
        rows = rt.epoch[tool]["p.f"]()
        assert next(rows) == 1
        assert not rt.remove("p", drain_timeout=0.01).drained
        assert next(rows) == 2
        del rows


INSIDE = {
    "of a function that is not called": "def make():\n    @scalar\n    def f(x: int) -> int: ...\n",
    "of init": "def init(ctx):\n    @scalar(name='g')\n    def f(x: int) -> int: ...\n",
    "of a method": "class P:\n    def go(self):\n        @kinds.scalar\n        def f(x): ...\n",
    "of one within it": "def a():\n    def b():\n        @scalar\n        def f(x): ...\n",
    "that imports the marker": (
        "def a():\n    from epochal.kinds import scalar as mark\n    @staticmethod\n    @mark\n"
        "    def f(x): ...\n"
    ),
    "that marks a class": "def a():\n    @kinds.aggregate\n    class f:\n        x = 1\n",
}


@pytest.mark.parametrize("case", INSIDE)
def test_a_mark_inside_a_function_is_warned_about_with_its_line(case, rt, plugins):
    code = "from epochal import kinds\nfrom epochal.kinds import scalar\n" + INSIDE[case]
    path = plugins.write("geo", code + "@scalar\ndef other(x: int) -> int: return x\n")
    line = 1 + next(
        number
        for number, text in enumerate(path.read_text().splitlines())
        if text.startswith("    ") and "@" in text
    )
    with pytest.warns(UserWarning, match=rf"f is marked with @.*geo\.py, line {line}\), so it is"):
        rt.load(path)
    assert "geo.other" in {name for _, name in rt.generation("geo").exports}


def test_a_definition_inside_a_function_that_is_exported_is_not_warned_about(rt, plugins):
    code = """
from epochal.kinds import scalar
def make(n):
    @scalar(name=f"g{n}")
    def made(x: int) -> int: return x
    return made
g1 = make(1)
def register(ctx):
    @scalar
    def f(x: int) -> int: return x
    def g(x: int) -> int: return x
    ctx.export(scalar, f)
    ctx.export(scalar, g)
    helper = lambda: scalar
"""
    rt.load(plugins.write("geo", code))
    names = sorted(name for _, name in rt.generation("geo").exports)
    assert names == ["geo.f", "geo.g", "geo.g1"]
