"""A library that a plugin imports first keeps what it registered; the plugin's own goes."""

import builtins
import copyreg
import importlib.util
import logging
import sys
import threading
import warnings

import pytest
from tests.conftest import tool

from epochal.errors import LinkError, PhaseTimeoutError

REGISTERS = """
import builtins, copyreg, logging, sys, types, warnings
class Thing: pass
copyreg.pickle(Thing, lambda thing: (Thing, ()))
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None): return None
sys.meta_path.append(Finder)
sys.modules["firstlib.parts"] = types.ModuleType("parts")
warnings.filterwarnings("ignore", "firstlib says")
builtins.firstlib_says = print
logging.getLogger("firstlib").addHandler(logging.NullHandler())
hook = sys.excepthook
sys.excepthook = lambda *args: hook(*args)
def install(): logging.getLogger("firstlib.late").addHandler(logging.NullHandler())
"""
EVENT, BEGUN = threading.Event(), threading.Event()


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Writes a library; its modules and what they register are gone after the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    EVENT.clear(), BEGUN.clear()
    known, finders = set(sys.modules), list(sys.meta_path)
    reducers, filters = dict(copyreg.dispatch_table), list(warnings.filters)

    def write(code=REGISTERS, name="firstlib"):
        (tmp_path / f"{name}.py").write_text(code)

    yield write
    EVENT.set()
    for name in set(sys.modules) - known:
        if name.startswith("firstlib"):
            del sys.modules[name]
    sys.meta_path[:] = [finder for finder in sys.meta_path if finder in finders]
    copyreg.dispatch_table.clear(), copyreg.dispatch_table.update(reducers)
    warnings.filters[:] = filters
    vars(builtins).pop("firstlib_says", None)
    for name in ("firstlib", "firstlib.late"):
        logging.getLogger(name).handlers.clear()


def left():
    """The parts of what the library registers that are still there."""
    thing = getattr(sys.modules["firstlib"], "Thing", None)
    return {
        "reducer": thing in copyreg.dispatch_table,
        "finder": any(getattr(f, "__module__", "") == "firstlib" for f in sys.meta_path),
        "module": "firstlib.parts" in sys.modules,
        "filter": any(f[1] and f[1].pattern == "firstlib says" for f in warnings.filters),
        "builtin": hasattr(builtins, "firstlib_says"),
        "handler": bool(logging.getLogger("firstlib").handlers),
        "hook": getattr(sys.excepthook, "__module__", "") == "firstlib",
    }


LAZY = """
import importlib.util, sys
module = sys.modules.get("firstlib")
if module is None:
    spec = importlib.util.find_spec("firstlib")
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = sys.modules["firstlib"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
"""
WAYS = {
    "a statement": "import firstlib",
    "a from": "from firstlib import Thing",
    "a string": "import importlib\nimportlib.import_module('firstlib')",
    "the builtin": "__import__('firstlib')",
    "the real importlib": "import sys\nsys.modules['importlib'].import_module('firstlib')",
    "init": "def init(ctx): import firstlib",
    "shutdown": "def shutdown(): import firstlib",
    "another library": "import firstlib_outer\nfirstlib_outer.load()",
    "a thread": "import threading\ndef load(): import firstlib\n"
    "thread = threading.Thread(target=load)\nthread.start()\nthread.join(20)",
    "a lazy module": f"{LAZY}\nmodule.Thing",
    "a lazy module, later": f"{LAZY}\ndef init(ctx): module.Thing",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_library_keeps_what_it_registered_as_it_was_imported(rt, plugins, library, way):
    library()
    library("def load():\n    import firstlib", "firstlib_outer")
    rt.load(plugins.write("geo", f"{WAYS[way]}\n@tool\ndef f(): return 1\n"))
    rt.reload("geo")
    cut = rt.remove("geo")
    assert all(left().values()), left()
    assert not any("firstlib" in line for line in cut.cleaned_up), cut.cleaned_up


def test_a_refused_first_load_leaves_a_library_whole(rt, plugins, library):
    library()
    with pytest.raises(LinkError):
        rt.load(plugins.write("geo", "import firstlib\nraise ValueError('no')"))
    assert all(left().values()), left()


def test_a_library_that_fails_halfway_leaves_what_python_leaves(rt, plugins, library):
    library(f"{REGISTERS}\nraise ImportError('no accelerator')")
    code = "try:\n    import firstlib\nexcept ImportError: pass\n@tool\ndef f(): return 1\n"
    rt.load(plugins.write("geo", code))
    rt.remove("geo")
    assert hasattr(builtins, "firstlib_says")
    assert "firstlib.parts" in sys.modules


def test_what_a_library_registers_for_the_plugin_later_is_the_plugins(rt, plugins, library):
    library()
    code = """
import firstlib, copyreg, logging, sys
firstlib.install()
class Own: pass
copyreg.pickle(Own, lambda own: (Own, ()))
sys.excepthook = lambda *args: None
"""
    rt.load(plugins.write("geo", f"{code}\n@tool\ndef f(): return 1\n"))
    cut = rt.remove("geo")
    assert all(left().values()), "the library's hook is back, over the host's"
    assert not logging.getLogger("firstlib.late").handlers
    assert len(cut.cleaned_up) == 3, cut.cleaned_up


def test_what_the_plugins_code_registers_within_a_librarys_import_is_the_plugins(
    rt, plugins, library, monkeypatch
):
    def hosts_hook(value): ...

    monkeypatch.setattr(sys, "displayhook", hosts_hook)
    library("import sys\nwhile sys.firstlib_calls: sys.firstlib_calls.pop()()")
    code = """
import copyreg, sys
class Own: pass
def hook(value): pass
def enroll():
    copyreg.pickle(Own, lambda own: (Own, ()))
    sys.displayhook = hook
sys.firstlib_calls = [enroll]
try:
    import firstlib
finally:
    del sys.firstlib_calls
"""
    rt.load(plugins.write("geo", f"{code}\n@tool\ndef f(): return 1\n"))
    cut = rt.remove("geo")
    assert [line for line in cut.cleaned_up if "Own" in line], cut.cleaned_up
    assert sys.displayhook is hosts_hook
    assert cut.reclaimed, cut.leaks


SLOW = f"{REGISTERS}\nfrom tests.integration.test_first_imports import BEGUN, EVENT\n" + (
    "BEGUN.set()\nEVENT.wait(20)\nbuiltins.firstlib_says = print\n"
)


def import_on_a_thread():
    thread = threading.Thread(target=lambda: importlib.import_module("firstlib"))
    thread.start()
    assert BEGUN.wait(10)
    return thread


@pytest.mark.parametrize("began", ["before", "within"])
@pytest.mark.parametrize("ends", ["within", "after"])
def test_an_import_of_the_hosts_thread_is_the_librarys(rt, plugins, library, began, ends):
    library(SLOW)
    rt.load(plugins.write("other", "@tool\ndef f(): return 1\n"))
    code = f"""
from tests.integration import test_first_imports as tests
import copyreg, logging, sys
class Own: pass
copyreg.pickle(Own, lambda own: (Own, ()))
tests.AT_LINK()
class Later: pass
copyreg.pickle(Later, lambda own: (Later, ()))
{"tests.EVENT.set(), tests.THREADS[0].join(10)" if ends == "within" else ""}
@tool
def f(): return 1
"""
    THREADS.clear()
    if began == "before":
        THREADS.append(import_on_a_thread())
    rt.load(plugins.write("geo", code))
    EVENT.set()
    THREADS[0].join(10)
    cut = rt.remove("geo")
    assert all(left().values()), left()
    assert len(cut.cleaned_up) == 2, cut.cleaned_up
    assert cut.reclaimed, cut.leaks


THREADS = []


def AT_LINK():  # noqa: N802  the plugin's hook into the test
    if not THREADS:
        THREADS.append(import_on_a_thread())


def test_two_plugins_that_import_a_library_at_once_leave_it_whole(rt, plugins, library):
    from epochal import Runtime

    library(SLOW)
    code = "import firstlib\n@tool\ndef f(): return firstlib.Thing\n"
    with Runtime(drain_timeout=10.0, phase_timeout=20.0) as other:
        paths = [plugins.write(name, code) for name in ("geo", "geo_b")]
        threads = [
            threading.Thread(target=runtime.load, args=(path,))
            for runtime, path in zip((rt, other), paths, strict=True)
        ]
        for thread in threads:
            thread.start()
        assert BEGUN.wait(10)
        EVENT.set()
        for thread in threads:
            thread.join(20)
        assert rt.epoch[tool]["geo.f"]() is other.epoch[tool]["geo_b.f"]()
        for runtime, name in ((other, "geo_b"), (rt, "geo")):
            assert not any("firstlib" in line for line in runtime.remove(name).cleaned_up)
    assert all(left().values()), left()


def test_an_import_that_never_returns_holds_no_other_plugin(rt, plugins, library):
    library(SLOW)
    hook = "import sys\ndef hook(*args): pass\nsys.displayhook = hook\n@tool\ndef f(): return 1\n"
    rt.load(plugins.write("other", hook))
    with pytest.raises(PhaseTimeoutError), rt.change(phase_timeout=0.2) as change:
        change.load(plugins.write("geo", "import firstlib"))
    cut = rt.remove("other")
    assert cut.reclaimed, cut.leaks
    assert any("sys.displayhook" in line for line in cut.cleaned_up)


def test_imports_leave_no_trace_of_being_noted(rt, plugins, library):
    library("import warnings, traceback\nSTACK = [f.filename for f in traceback.extract_stack()]\n")
    rt.load(plugins.write("geo", "@tool\ndef f(): return 1\n"))
    module = importlib.import_module("firstlib")
    assert type(module.__spec__) is importlib.machinery.ModuleSpec
    assert type(module.__spec__.loader) is importlib.machinery.SourceFileLoader
    assert module.__loader__ is module.__spec__.loader
    assert not any("epochal/loaders" in name for name in module.STACK)
