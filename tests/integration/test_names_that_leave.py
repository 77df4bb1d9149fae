"""Names that leave the process are the plugin's own, and are looked up in the generation meant."""

import dataclasses
import inspect
import pickle
import shelve
import subprocess
import sys
import typing

import pytest
from tests.conftest import tool

from epochal import Runtime

RECORD = """
    import dataclasses, pickle, shelve, typing
    from tests.conftest import tool
    VERSION = {n}
    @dataclasses.dataclass
    class Record:
        n: int
        of: "Record | None" = None
        version: typing.ClassVar = {n}
        class Inner: pass
    @tool
    def make(n): return Record(n)
    @tool
    def dump(n): return pickle.dumps(Record(n))
    @tool
    def load(data): return pickle.loads(data)
    @tool
    def call(function, *args): return function(*args)
"""


@pytest.fixture
def keeper(plugins):
    """Writes version n of plugin keeper."""
    return lambda n: plugins.write("keeper", RECORD.format(n=n), version=f"{n}.0")


def call(rt, name, *args):
    return rt.epoch[tool][f"keeper.{name}"](*args)


def test_what_one_version_pickled_every_version_reads(rt, keeper, tmp_path):
    rt.load(keeper(1))
    data = call(rt, "dump", 7)
    with shelve.open(str(tmp_path / "shelf")) as shelf:
        shelf["r"] = call(rt, "make", 8)
    for n in (1, 2, 3):
        rt.reload("keeper", keeper(n))
        assert (call(rt, "load", data).n, call(rt, "load", data).version) == (7, n)
        assert pickle.loads(data) == call(rt, "make", 7), "the host reads it"
        with shelve.open(str(tmp_path / "shelf")) as shelf:
            assert shelf["r"] == call(rt, "make", 8)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_draining_version_goes_on_with_its_own_objects(rt, keeper, protocol):
    rt.load(keeper(1))
    epoch = rt.epoch
    old = epoch[tool]["keeper.make"](1)
    rt.reload("keeper", keeper(2), drain_timeout=0.0)
    new = call(rt, "make", 2)
    # Inside: its own code is on the stack. Outside: the caller has the object in a variable.
    inside = epoch[tool]["keeper.call"]
    for one, version in ((old, 1), (new, 2)):
        data = pickle.dumps(one, protocol)
        assert pickle.loads(data).version == 2
        assert inside(pickle.loads, data).version == 1
        assert pickle.loads(pickle.dumps([{"x": one}], protocol))[0]["x"].version == 2
        assert pickle.loads(pickle.dumps(type(one).Inner(), protocol))
        assert typing.get_type_hints(type(one))["of"] == type(one) | None
        assert f"version: typing.ClassVar = {version}" in inspect.getsource(type(one))
        assert dataclasses.replace(one, n=3).version == version


def test_the_host_pickles_an_export_and_reads_back_the_export(rt, keeper):
    rt.load(keeper(1))
    export = rt.epoch[tool]["keeper.make"]
    data = pickle.dumps(export)
    assert pickle.loads(data) is export
    rt.reload("keeper", keeper(2), drain_timeout=0.0)
    assert pickle.dumps(export) == data, "an older version's, too"
    assert pickle.loads(data) is rt.epoch[tool]["keeper.make"]
    del export
    read = pickle.loads(data)
    cut = rt.reload("keeper", drain_timeout=0.0)
    assert not cut.drained, "what was read back counts as use"
    assert read(1).n == 1


def test_an_operation_reads_with_its_own_version(rt, keeper):
    rt.load(keeper(1))
    data = call(rt, "dump", 7)
    with rt.operation("outer") as outer:
        rt.reload("keeper", keeper(2), drain_timeout=0.0)
        assert pickle.loads(data).version == 1
        outer.narrow(["keeper"])
        assert pickle.loads(data).version == 1
    assert pickle.loads(data).version == 2


def test_names_are_the_same_in_every_generation(rt, package):
    code = (
        "from tests.conftest import tool\nfrom geo import sub\n"
        "@tool\ndef names(): return (__name__, names.__module__, sub.C.__module__, sub.__name__,\n"
        "    repr(sub.C), sub.f.__module__, sub.named())\n"
    )
    sub = (
        "import sys\nclass C: pass\ndef f(): pass\n"
        "def named(): return sys._getframe().f_globals['__name__']\n"
    )
    rt.load(package("geo", {"__init__.py": code, "sub.py": sub}))
    names = rt.epoch[tool]["geo.names"]()
    *own, in_sub, module, described, function, frame = names
    assert own == ["geo", "geo"]
    assert {in_sub, module, function, frame} == {"geo.sub"}
    assert described == "<class 'geo.sub.C'>"
    rt.reload("geo")
    assert rt.epoch[tool]["geo.names"]() == names


def test_a_submodule_is_found_by_name_before_its_generation_imported_it(rt, package):
    code = (
        "from tests.conftest import tool\n@tool\ndef make():\n    from geo.sub import C\n"
        "    return C()\n@tool\ndef lazy():\n    import geo.other.deep as d\n"
        "    return d.__name__\n"
    )
    files = {"sub.py": "class C: version = {n}\n", "other/deep.py": ""}
    rt.load(package("geo", {"__init__.py": code, **files, "sub.py": "class C: version = 1"}))
    data = pickle.dumps(rt.epoch[tool]["geo.make"]())
    rt.reload("geo", package("geo", {"__init__.py": code + "#", "sub.py": "class C: version = 2"}))
    assert pickle.loads(data).version == 2
    assert rt.epoch[tool]["geo.lazy"]() == "geo.other.deep"
    assert __import__("geo.other.deep").make() is not None, "from the root, as in Python"
    with pytest.raises(ModuleNotFoundError, match=r"geo\.absent"):
        __import__("geo.absent")


def test_a_name_that_the_host_has_stays_the_hosts(rt, plugins):
    import colorsys

    code = """
    import pickle
    from tests.conftest import tool
    class Red: pass
    @tool
    def own():
        import colorsys
        return colorsys.Red is Red and type(pickle.loads(pickle.dumps(Red()))) is Red
    @tool
    def make(): return Red()
    """
    rt.load(plugins.write("colorsys", code))
    assert sys.modules["colorsys"] is colorsys is __import__("colorsys")
    for _ in range(2):
        assert rt.epoch[tool]["colorsys.own"]()
        red = rt.epoch[tool]["colorsys.make"]()
        assert type(red).__module__ == "colorsys@plugin"
        assert type(pickle.loads(pickle.dumps(red))) is type(red)
        rt.reload("colorsys")
    rt.remove("colorsys")
    assert not any(name.startswith("colorsys@") for name in sys.modules)


READER = """
import pickle, sys
from epochal import Runtime
with Runtime() as rt:
    rt.load(sys.argv[1])
    print(pickle.loads(bytes.fromhex(sys.argv[2])).version)
"""


def test_another_process_reads_it(rt, keeper):
    rt.load(keeper(1))
    data = call(rt, "dump", 7)
    command = [sys.executable, "-c", READER, str(keeper(2)), data.hex()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "2\n", done.stderr


def test_a_class_that_is_missing_is_missed_in_a_version_that_is_named(rt, keeper, plugins):
    rt.load(keeper(1))
    data = call(rt, "dump", 7)
    rt.reload("keeper", plugins.write("keeper", "", version="2.0"))
    with pytest.raises(AttributeError, match=r"'Record' on <module 'keeper' of plugin 'keeper' 2"):
        pickle.loads(data)
    rt.remove("keeper")
    with pytest.raises(ModuleNotFoundError, match="keeper"):
        pickle.loads(data)


def test_two_runtimes_share_a_name(rt, keeper):
    rt.load(keeper(1))
    with Runtime() as other:
        other.load(keeper(2))
        for one, n in ((rt, 1), (other, 2)):
            made = call(one, "make", n)
            assert pickle.dumps(made)
            data = call(one, "dump", n)
            assert type(call(one, "load", data)) is type(made), "each reads its own"
    assert type(pickle.loads(data)) is type(call(rt, "make", 1))


MADE = {
    "a module that replaces itself": (
        "import sys\nclass Lazy:\n    value = 7\nsys.modules[__name__] = Lazy()\n",
        "from geo import sub\nimport geo.sub as again\nassert sub is again\nVALUE = sub.value",
    ),
    "a module that changes its class": (
        "import sys, types\nclass Lazy(types.ModuleType):\n    value = property(lambda self: 7)\n"
        "sys.modules[__name__].__class__ = Lazy\n",
        "from . import sub\nVALUE = sub.value",
    ),
    "a module made by hand": (
        "import sys, types\nmade = sys.modules[__name__ + '.made'] = types.ModuleType('made')\n"
        "made.value = 7\n__path__ = []\n",
        "import geo.sub\nfrom geo.sub.made import value as VALUE",
    ),
    "a finder of its own": (
        "import sys, types\nfrom importlib.machinery import ModuleSpec\n__path__ = []\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        return ModuleSpec(name, self) if name == __name__ + '.made' else None\n"
        "    def create_module(self, spec): return None\n"
        "    def exec_module(self, module): module.value = 7\n"
        "sys.meta_path.append(Finder())\n",
        "import geo.sub\nfrom geo.sub.made import value as VALUE",
    ),
    "an attribute set from inside": (
        "import sys\nsys.modules[__name__].value = 7\nassert value == 7\n"
        "vars(sys.modules[__name__])['value'] += 1\n",
        "from geo import sub\nVALUE = sub.value - 1",
    ),
    "a circular import": (
        "from . import VALUES\nvalue = VALUES[0]\n",
        "VALUES = [7]\nfrom geo import sub\nVALUE = sub.value",
    ),
}


@pytest.mark.parametrize("case", MADE)
def test_modules_that_look_themselves_up_by_name_work(rt, package, case):
    sub, code = MADE[case]
    code += "\nfrom tests.conftest import tool\n@tool\ndef value(): return VALUE\n"
    rt.load(package("geo", {"__init__.py": code, "sub.py": sub}))
    for _ in range(2):
        assert rt.epoch[tool]["geo.value"]() == 7
        rt.reload("geo")
    assert rt.remove("geo").reclaimed
    assert not [name for name in sys.modules if name.partition(".")[0] == "geo"]


OVERLOADS = """
    import typing
    from tests.conftest import tool
    @typing.overload
    def f(x: int) -> int: ...
    @typing.overload
    def f(x: str) -> str: ...
    def f(x): return x
    @tool
    def count(): return len(typing.get_overloads(f))
"""


def test_overloads_of_two_generations_go_one_at_a_time(rt, plugins):
    rt.load(plugins.write("geo", OVERLOADS))
    old = rt.epoch
    rt.reload("geo", plugins.write("geo", "    # a line more" + OVERLOADS), drain_timeout=0.0)
    assert rt.epoch[tool]["geo.count"]() >= 2
    del old
    assert rt.reload("geo").reclaimed
    assert rt.epoch[tool]["geo.count"]() >= 2
