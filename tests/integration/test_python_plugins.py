"""The loader's promises to plugins in Python: two generations side by side, each whole."""

import importlib
import inspect
import json
import linecache
import logging
import sys
import threading
import traceback

import pytest
from tests.conftest import tool

from epochal.errors import ExportError, LinkError


def call(rt, name, *args):
    return rt.epoch[tool][name](*args)


TOOL = "from tests.conftest import tool\n"


# --- two generations ------------------------------------------------------------------------------

LATE = (
    TOOL
    + """
@tool
def late(how):
    if how == "statement":
        from geo import part
    elif how == "dotted":
        import geo.part
        part = geo.part
    elif how == "relative":
        from . import part
    elif how == "import_module":
        import importlib
        part = importlib.import_module("geo.part")
    elif how == "imported function":
        from importlib import import_module
        part = import_module("geo.part")
    elif how == "relative import_module":
        from importlib import import_module
        part = import_module(".part", __package__)
    else:
        part = __import__("geo.part", fromlist=["VALUE"])
    return part.VALUE

@tool
def same():
    import geo
    return geo.late is late or geo.__dict__ is globals()
"""
)
WAYS = (
    "statement",
    "dotted",
    "relative",
    "import_module",
    "imported function",
    "relative import_module",
    "__import__",
)


@pytest.mark.parametrize("how", WAYS)
def test_a_late_import_of_an_old_generation_gets_its_own_modules(rt, package, how):
    rt.load(package("geo", {"__init__.py": LATE, "part.py": "VALUE = 1"}))
    old = rt.epoch[tool]["geo.late"]
    rt.reload("geo", package("geo", {"part.py": "VALUE = 2"}, "2.0"), drain_timeout=0.0)
    assert call(rt, "geo.late", how) == 2
    assert old(how) == 1, "the module was first imported after the reload, and is the old one"


def test_a_plugin_that_imports_itself_gets_itself(rt, package):
    rt.load(package("geo", {"__init__.py": LATE, "part.py": ""}))
    assert call(rt, "geo.same")


def test_submodules_that_import_each_other_by_name_are_of_one_generation(rt, package):
    files = {
        "__init__.py": TOOL + "from geo.a import f\nfrom . import b\nfrom .sub import deep\n",
        "a.py": TOOL + "import geo.b\nfrom geo.b import VALUE\n@tool\ndef f(): return VALUE\n",
        "b.py": "VALUE = 'mine'\n",
        "sub/__init__.py": "from ..b import VALUE\nfrom . import deep\n",
        "sub/deep.py": "from geo.sub import VALUE\nimport geo.a\n",
    }
    rt.load(package("geo", files))
    assert call(rt, "geo.f") == "mine"


def test_a_circular_import_behaves_as_in_python(rt, package):
    files = {
        "__init__.py": TOOL + "from . import a\n@tool\ndef f(): return a.get()\n",
        "a.py": "from . import b\nVALUE = 1\ndef get(): return b.a.VALUE\n",
        "b.py": "from . import a\n",
    }
    rt.load(package("geo", files))
    assert call(rt, "geo.f") == 1
    files["b.py"] = "from .a import VALUE\n"
    with pytest.raises(LinkError, match="circular import"):
        rt.reload("geo", package("geo", files))


def test_a_submodule_is_executed_once_however_many_threads_import_it(rt, package):
    count = "import builtins\nbuiltins.geo_count = getattr(builtins, 'geo_count', 0) + 1\n"
    code = TOOL + "@tool\ndef f():\n    from geo.slow import VALUE\n    return VALUE\n"
    rt.load(package("geo", {"__init__.py": code, "slow.py": count + "VALUE = object()\n"}))
    import builtins

    try:
        barrier, values = threading.Barrier(8), []

        def work():
            barrier.wait(10)
            values.append(call(rt, "geo.f"))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert len(values) == 8
        assert len({id(value) for value in values}) == 1
        assert builtins.geo_count == 1
    finally:
        del builtins.geo_count


# --- names ----------------------------------------------------------------------------------------


def test_a_plugin_named_like_an_installed_module_does_not_replace_it(rt, plugins):
    code = """
def dumps(value): return "mine"
@tool
def itself():
    import json
    return json.dumps(1)
@tool
def through_another_module():
    import logging.config, email.message  # modules that may import json themselves
    from importlib import import_module
    return import_module("json").dumps(1)
"""
    before = sys.modules["json"]
    rt.load(plugins.write("json", code))
    assert call(rt, "json.itself") == "mine"
    assert call(rt, "json.through_another_module") == "mine"
    assert json.dumps([1]) == "[1]"
    assert importlib.import_module("json") is before
    rt.remove("json")
    assert sys.modules["json"] is before


def test_other_modules_that_a_plugin_imports_are_shared(rt, plugins):
    code = "import colorsys\n@tool\ndef module(): return colorsys\n"
    rt.load(plugins.write("geo", code))
    import colorsys

    assert call(rt, "geo.module") is colorsys


def test_a_module_is_not_main_and_knows_its_file(rt, plugins):
    code = """
if __name__ == "__main__":
    raise AssertionError
@tool
def where(): return __file__, __name__, __spec__.name, __loader__ is not None
"""
    path = plugins.write("geo", code)
    rt.load(path)
    file, name, spec, has_loader = call(rt, "geo.where")
    assert file.startswith(str(path))
    assert name == "geo"
    assert spec.startswith("geo__g0_")
    assert has_loader


def test_no_process_wide_table_knows_a_removed_plugin(rt, package):
    files = {
        "__init__.py": TOOL + "import logging\nfrom . import a\nlogging.getLogger(__name__)\n",
        "a.py": "import warnings\nwarnings.warn('x', UserWarning)\n",
    }
    tables = {
        "sys.modules": sys.modules,
        "linecache": linecache.cache,
        "path_importer_cache": sys.path_importer_cache,
        "loggers": logging.root.manager.loggerDict,
        "finders": sys.meta_path,
    }
    before = {name: list(table) for name, table in tables.items()}
    with pytest.warns(UserWarning, match="x"):
        rt.load(package("geo", files))
    assert any("geo" in name for name in set(sys.modules) - set(before["sys.modules"]))
    rt.remove("geo")
    for name, table in tables.items():
        left = [entry for entry in table if entry not in before[name]]
        # Its logger is the plugin's, not the generation's.
        assert left in ([], ["geo"] if name == "loggers" else []), name


def test_a_logger_belongs_to_the_plugin_across_generations(rt, package, caplog):
    code = TOOL + "import logging\nfrom . import a\n@tool\ndef f(): a.LOG.warning('hello')\n"
    files = {
        "__init__.py": code,
        "a.py": "from logging import getLogger\nLOG = getLogger(__name__)",
    }
    rt.load(package("geo", files))
    for _ in range(2):
        call(rt, "geo.f")
        rt.reload("geo")
    assert [(r.name, r.message) for r in caplog.records] == [("geo.a", "hello")] * 2


def test_a_late_import_of_a_removed_generation_raises_a_clear_error(rt, package):
    code = (
        TOOL
        + "@tool\ndef leak():\n    def late():\n        from geo import part\n    return late\n"
    )
    rt.load(package("geo", {"__init__.py": code, "part.py": ""}))
    late = call(rt, "geo.leak")
    rt.remove("geo")
    with pytest.raises(ImportError, match="generation 0 of plugin 'geo' was removed"):
        late()


# --- source ---------------------------------------------------------------------------------------

SOURCE = """
class Shape:
    "The {n} shape."
    def area(self):
        return {n}
@tool
def boom():
    raise ValueError("{n}")  # line of {n}
@tool
def things(): return boom, Shape
"""


def test_tracebacks_and_inspect_show_each_generations_own_source(rt, plugins):
    path = plugins.write("geo", SOURCE.format(n="first"))
    rt.load(path)
    old_boom, old_things = rt.epoch[tool]["geo.boom"], rt.epoch[tool]["geo.things"]
    plugins.write("geo", "# a line more\n\n\n" + SOURCE.format(n="second"))
    rt.reload("geo", drain_timeout=0.0)
    plugins.write("geo", "# something else altogether")
    for tidy in (lambda: None, linecache.checkcache):
        tidy()
        for boom, things, n in (
            (old_boom, old_things, "first"),
            (rt.epoch[tool]["geo.boom"], rt.epoch[tool]["geo.things"], "second"),
        ):
            with pytest.raises(ValueError, match=n) as caught:
                boom()
            text = "".join(traceback.format_exception(caught.value))
            assert f"# line of {n}" in text
            function, cls = things()
            assert f'raise ValueError("{n}")' in inspect.getsource(function)
            assert f'"The {n} shape."' in inspect.getsource(cls)
            assert inspect.getsource(cls.area).strip().endswith(f"return {n}")
            del caught


def test_a_syntax_error_names_the_file_and_the_line(rt, plugins):
    with pytest.raises(LinkError, match=r"SyntaxError.*geo\.py.*line") as caught:
        rt.load(plugins.write("geo", "x = = 1\n"))
    assert isinstance(caught.value.__cause__, SyntaxError)


@pytest.mark.parametrize(
    "head", [b"\xef\xbb\xbf", b"# -*- coding: utf-8 -*-\n", b"# coding: utf-8\r\n"]
)
def test_files_are_utf_8_with_or_without_a_mark(rt, tmp_path, head):
    text = '# /// plugin\n# id = "geo"\n# version = "1"\n# ///\n' + TOOL
    text += '@tool\ndef f(): return "é"\n'
    (tmp_path / "geo.py").write_bytes(head + text.encode())
    rt.load(tmp_path / "geo.py")
    assert call(rt, "geo.f") == "é"


# --- the standard library's magic -----------------------------------------------------------------

MAGIC = """
from __future__ import annotations
import abc, dataclasses, enum, functools, typing

@dataclasses.dataclass(slots=True, kw_only=True, order=True)
class Node:
    value: int
    parent: Node | None = None

class Colour(enum.Enum):
    RED = enum.auto()

class Level(enum.IntFlag):
    LOW = 1

class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self) -> float: ...

class Square(Shape):
    def area(self) -> float: return 1.0

class Row(typing.NamedTuple):
    x: int
    y: Node | None = None

class Options(typing.TypedDict, total=False):
    node: Node

@typing.runtime_checkable
class Sized(typing.Protocol):
    def area(self) -> float: ...

@functools.singledispatch
def show(value) -> str: return "?"
@show.register
def _(value: Node) -> str: return "node"
@show.register(int)
def _(value) -> str: return "int"

@functools.cache
def cached(x): return [x]

@tool
def check() -> Node:
    hints = typing.get_type_hints(Node)
    assert hints["parent"] == (Node | None), hints
    assert typing.get_type_hints(Options)["node"] is Node
    assert typing.get_type_hints(Row)["y"] == (Node | None)
    assert dataclasses.asdict(Node(value=1)) == {"value": 1, "parent": None}
    assert Node(value=1) < Node(value=2)
    assert Colour["RED"] is Colour(1) and Level.LOW | 2
    assert isinstance(Square(), Shape) and isinstance(Square(), Sized)
    assert show(Node(value=1)) == "node" and show(1) == "int" and show("") == "?"
    assert cached(1) is cached(1)
    try:
        Shape()
    except TypeError:
        return Node(value=1)
"""


def test_dataclasses_hints_enums_abstract_classes_and_dispatch_work(rt, tmp_path):
    head = '# /// plugin\n# id = "geo"\n# version = "1"\n# ///\n'
    body = MAGIC.replace("import abc,", TOOL + "import abc,")
    (tmp_path / "geo.py").write_text(head + body)
    rt.load(tmp_path / "geo.py")
    node = call(rt, "geo.check")
    assert typing_hints(type(node))["value"] is int
    del node
    assert rt.reload("geo").reclaimed


def typing_hints(cls):
    import typing

    return typing.get_type_hints(cls)


# --- files of a package ---------------------------------------------------------------------------


def test_resource_files_are_read_from_the_artifact_not_from_disk(rt, package):
    code = (
        TOOL
        + """
import importlib.resources, pkgutil
@tool
def read():
    files = importlib.resources.files(__package__)
    with importlib.resources.as_file(files / "data" / "x.txt") as path:
        on_disk = path.read_text()
    return (
        (files / "data" / "x.txt").read_text(),
        on_disk,
        pkgutil.get_data(__package__, "data/x.txt").decode(),
        sorted(entry.name for entry in files.iterdir() if not entry.name.startswith("__")),
    )
"""
    )
    root = package("geo", {"__init__.py": code, "data/x.txt": "first"})
    rt.load(root)
    (root / "data" / "x.txt").write_text("second")
    assert call(rt, "geo.read") == ("first", "first", "first", ["data", "plugin.toml"])
    rt.reload("geo")
    assert call(rt, "geo.read")[0] == "second"


# --- objects --------------------------------------------------------------------------------------

OBJECT = (
    TOOL
    + """
class Base:
    @tool
    def inherited(self): return ("inherited", self.x)
    @tool
    def overridden(self): return 1
class Plugin(Base):
    def __init__(self, x): self.x = x
    @tool
    def own(self): return ("own", self.x)
    @tool
    @staticmethod
    def static(): return "static"
    @tool
    @classmethod
    def of_class(cls): return cls.__name__
    @tool(name="renamed")
    def other(self): return "renamed"
    def overridden(self): return 2
    @property
    def never(self): raise AssertionError("a mark is looked for, not called for")
"""
)


def test_marked_methods_of_an_object_are_exported(rt, package):
    files = {"__init__.py": "from geo.inner import plugin\n"}
    rt.load(package("geo", {**files, "inner.py": OBJECT + "plugin = Plugin(1)\n"}))
    assert sorted(rt.epoch[tool]) == [
        "geo.inherited",
        "geo.of_class",
        "geo.own",
        "geo.renamed",
        "geo.static",
    ]
    assert call(rt, "geo.own") == ("own", 1)
    assert call(rt, "geo.inherited") == ("inherited", 1)
    assert call(rt, "geo.of_class") == "Plugin"
    assert call(rt, "geo.static") == "static"
    cut = rt.reload("geo", package("geo", {**files, "inner.py": OBJECT + "plugin = Plugin(2)\n"}))
    assert cut.drained, cut.holders
    assert cut.reclaimed, cut.leaks
    assert call(rt, "geo.own") == ("own", 2)


def test_marked_methods_without_an_object_are_warned_about(rt, package):
    with pytest.warns(UserWarning, match="plugin 'geo': methods of Base are marked as tool"):
        rt.load(package("geo", {"__init__.py": OBJECT.partition("class Plugin")[0]}))
    assert not rt.epoch[tool]


def test_two_objects_of_one_class_cannot_export_one_name_twice(rt, package):
    with pytest.raises(ExportError, match="exports two tools named"):
        rt.load(package("geo", {"__init__.py": OBJECT + "one, two = Plugin(1), Plugin(2)\n"}))


def test_an_object_that_raises_on_a_look_has_no_marks(rt, plugins):
    """A proxy for the current request, for example, raises outside of a request."""
    code = """
class Proxy:
    def __getattribute__(self, name): raise RuntimeError("there is no request")
request = Proxy()
@tool
def f(): return 1
"""
    rt.load(plugins.write("geo", code))
    assert rt.epoch[tool]["geo.f"]() == 1
