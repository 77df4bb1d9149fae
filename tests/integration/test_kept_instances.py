"""Instances of exported classes: in use while a caller has one, and no longer."""

import copy
import time

import pytest
from tests.conftest import tool

from epochal.errors import ExportError

pytestmark = pytest.mark.usefixtures("whole_heap")

KEPT = {
    "a registry": "@tool\nclass C:\n    everybody = []\n"
    "    def __init__(self): C.everybody.append(self)",
    "a singleton": "@tool\nclass C:\n    one = None\n    def __new__(cls):\n"
    "        cls.one = cls.one or object.__new__(cls)\n        return cls.one",
    "a cycle": "@tool\nclass C:\n    everybody = []\n    def __init__(self):\n"
    "        self.others = C.everybody\n        self.others.append(self)",
    "a module's pool": "from collections import deque\nPOOL = deque()\n@tool\nclass C:\n"
    "    def __init__(self): POOL.append(self)",
    "a closure": "def keep():\n    kept = {}\n"
    "    return lambda one: kept.setdefault(id(one), one)\n"
    "keep = keep()\n@tool\nclass C:\n    def __init__(self): keep(self)",
    "a cache": "import functools\n@functools.cache\ndef made(): return object.__new__(C)\n"
    "@tool\nclass C:\n    def __new__(cls): return made()",
    "an enumeration": "import enum\nclass Fruit(enum.Enum):\n    APPLE = 1\ntool(name='C')(Fruit)",
}


@pytest.fixture
def make(rt, plugins):
    def make(code):
        rt.load(plugins.write("p", code))
        args = (1,) if "enum" in code else ()
        return rt.epoch[tool]["p.C"](*args)

    return make


@pytest.mark.parametrize("code", KEPT.values(), ids=KEPT)
def test_an_instance_that_only_the_plugin_keeps_is_no_use(rt, make, code):
    make(code)
    assert rt.reload("p").drained


@pytest.mark.parametrize("code", KEPT.values(), ids=KEPT)
def test_a_kept_instance_is_a_use_while_a_caller_has_it(rt, make, code):
    kept = make(code)
    cutover = rt.reload("p", drain_timeout=0.05)
    assert not cutover.drained
    assert [holder.kind for holder in cutover.holders] == ["object"]
    del kept
    deadline = time.monotonic() + 10
    while rt.draining and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not rt.draining


UNTIED = {
    "a named tuple": "import typing\n@tool\nclass C(typing.NamedTuple):\n    x: int = 0",
    "slots": "@tool\nclass C:\n    __slots__ = ('x',)",
    "a number": "@tool\nclass C(int): ...",
}


@pytest.mark.parametrize("code", UNTIED.values(), ids=UNTIED)
def test_a_class_whose_instances_cannot_be_tied_is_refused(rt, plugins, code):
    rt.load(plugins.write("p", "@tool\nclass C: ..."))
    with pytest.raises(ExportError, match=r"p\.C cannot be exported: its instances cannot be tied"):
        rt.reload("p", plugins.write("p", code, version="2.0"))
    rt.epoch[tool]["p.C"]()


@pytest.mark.parametrize("base", ["Enum", "IntEnum", "StrEnum", "Flag"])
def test_an_enumeration_is_exported(rt, plugins, base):
    value = "'1'" if base == "StrEnum" else "1"
    code = f"import enum\n@tool\nclass C(enum.{base}):\n    A = {value}"
    rt.load(plugins.write("p", code))
    assert rt.epoch[tool]["p.C"]("1" if base == "StrEnum" else 1).name == "A"
    assert rt.reload("p").drained


def test_a_partial_of_a_librarys_class_is_exported(rt, plugins):
    rt.load(plugins.write("p", "import functools\nC = tool(name='C')(functools.partial(int, '1'))"))
    assert rt.epoch[tool]["p.C"]() == 1


def test_a_copy_of_an_export_is_a_use(rt, plugins):
    code = "import functools\n@functools.lru_cache(maxsize=0)\ndef f(x): return x\ntool(f)"
    rt.load(plugins.write("p", code))
    twin = copy.copy(rt.epoch[tool]["p.f"])
    assert not rt.reload("p", drain_timeout=0.01).drained
    assert twin(1) == 1
