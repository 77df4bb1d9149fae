"""A new version finds a list of the process without its predecessor's items, and adds its own."""

import gc
import logging
import sys
import threading
import types
import warnings
from functools import singledispatch, wraps
from itertools import count
from types import MappingProxyType

import pytest
from tests.conftest import tool

from epochal.errors import InitError, LinkError

MADE = []
LISTS = {
    "basicConfig": (
        """
import logging
def add(): logging.basicConfig(handlers=[logging.NullHandler()])
""",
        lambda: logging.root.handlers,
    ),
    "if not handlers": (
        """
import logging
logger = logging.getLogger("a.library")
def add():
    if not logger.handlers: logger.addHandler(logging.NullHandler())
""",
        lambda: logging.getLogger("a.library").handlers,
    ),
    "filters": (
        """
import logging
logger = logging.getLogger("a.library")
class Mine:
    def filter(self, record): return True
def add():
    if not any(type(each).__name__ == "Mine" for each in logger.filters): logger.addFilter(Mine())
""",
        lambda: logging.getLogger("a.library").filters,
    ),
    "filters of a handler": (
        """
from tests.integration.test_lists_over_lists import HANDLER
def mine(record): return True
def add():
    if not HANDLER.filters: HANDLER.addFilter(mine)
""",
        lambda: HANDLER.filters,
    ),
    "the host's own handler": (
        """
import logging
from tests.integration.test_lists_over_lists import HANDLER
def add(): logging.getLogger("a.library").addHandler(HANDLER)
""",
        lambda: logging.getLogger("a.library").handlers,
    ),
    "sys.path": (
        """
import sys
def add():
    if "the_plugins" not in sys.path: sys.path.insert(0, "the_plugins")
""",
        lambda: [path for path in sys.path if path == "the_plugins"],
    ),
    "sys.meta_path": (
        """
import sys
class Mine:
    def find_spec(self, *args): return None
def add():
    if not any(type(each).__name__ == "Mine" for each in sys.meta_path):
        sys.meta_path.append(Mine())
""",
        lambda: [finder for finder in sys.meta_path if type(finder).__name__ == "Mine"],
    ),
    "sys.path_hooks": (
        """
import sys
def mine(path): raise ImportError
def add():
    if all(each.__name__ != "mine" for each in sys.path_hooks if hasattr(each, "__name__")):
        sys.path_hooks.append(mine)
""",
        lambda: [hook for hook in sys.path_hooks if getattr(hook, "__name__", "") == "mine"],
    ),
    "warnings.filters": (
        """
import warnings
def add(): warnings.simplefilter("ignore", UnicodeWarning, append=True)
""",
        lambda: [each for each in warnings.filters if each[2] is UnicodeWarning],
    ),
    "gc.callbacks": (
        """
import gc
def mine(phase, info): pass
def add():
    if not any(getattr(each, "__name__", "") == "mine" for each in gc.callbacks):
        gc.callbacks.append(mine)
""",
        lambda: [each for each in gc.callbacks if getattr(each, "__name__", "") == "mine"],
    ),
}
SAME = ("the host's own handler", "sys.path")  # every version puts in the very same object
HANDLER = logging.NullHandler()
logging.getLogger("the.host").addHandler(HANDLER)


@singledispatch
def render(thing):
    return ["host"]


INSIDE, GO = threading.Event(), threading.Event()


def bare_root(test):
    """Without pytest's own handlers, which would keep basicConfig from adding one."""

    @wraps(test)
    def run(*args, **kw):
        handlers, logging.root.handlers = logging.root.handlers, []
        try:
            test(*args, **kw)
        finally:
            logging.root.handlers = handlers

    return run


@pytest.fixture(autouse=True)
def _as_before():
    INSIDE.clear(), GO.clear()
    owners = [logging.getLogger("a.library"), HANDLER]
    before = [(type(owner), dict(vars(owner))) for owner in owners]
    yield
    GO.set()
    for owner, (cls, names) in zip(owners, before, strict=True):
        assert type(owner) is cls
        assert vars(owner) == names


def write(plugins, code, when, end=""):
    called = "add()\n" if when == "link" else "def init(ctx):\n    add()\n"
    return plugins.write("geo", f"{code}{called}{end}\n@tool\ndef f(): return 1\n")


@pytest.mark.parametrize("case", LISTS)
@pytest.mark.parametrize("when", ["link", "init"])
@bare_root
def test_each_version_has_an_item_and_the_last_one_leaves_none(rt, plugins, case, when):
    code, items = LISTS[case]
    rt.load(write(plugins, code, when))
    assert len(items()) == 1
    for _ in range(3):
        cut = rt.reload("geo")
        assert len(items()) == 1
        assert cut.reclaimed, cut.leaks
    write(plugins, code, when, end="    1/0\n" if when == "init" else "1/0\n")
    with pytest.raises(Exception, match="ZeroDivision"):
        rt.reload("geo")
    assert len(items()) == 1
    assert rt.remove("geo").reclaimed
    assert items() == []


@pytest.mark.parametrize("case", LISTS)
@bare_root
def test_a_version_that_drains_is_not_seen_either(rt, plugins, case):
    code, items = LISTS[case]
    rt.load(write(plugins, code, "init"))
    kept = rt.epoch[tool]["geo.f"]
    assert not rt.reload("geo", drain_timeout=0).drained
    middle = rt.epoch[tool]["geo.f"]
    rt.reload("geo", drain_timeout=0)
    assert len(items()) == (1 if case in SAME else 3)
    del kept, middle
    rt._queue.wait(20)
    assert len(items()) == 1
    assert rt.remove("geo").drained
    assert items() == []


def test_a_new_version_dispatches_over_the_hosts_implementations(rt, plugins):
    code = """
from tests.integration.test_lists_over_lists import render
before = render.dispatch(dict)
if dict not in render.registry:
    @render.register(dict)
    def one(thing): return [V, *before(thing)]
if tuple not in render.registry: render.register(tuple, lambda thing: [V])
"""
    for version in range(4):
        path = plugins.write("geo", f"V = {version}\n{code}@tool\ndef f(): return 1\n")
        cut = rt.reload("geo") if version else rt.load(path)
        assert cut.reclaimed or not version, cut.leaks
        assert (render({}), render(())) == ([version, "host"], [version])
    kept = rt.epoch[tool]["geo.f"]
    rt.reload("geo", drain_timeout=0)
    rt.reload("geo", drain_timeout=0)
    assert render({}) == [3, "host"]
    del kept
    plugins.write("geo", f"V = 4\n{code}1/0\n")
    with pytest.raises(LinkError):
        rt.reload("geo")
    assert (render({}), render(())) == ([3, "host"], [3])
    rt.remove("geo")
    assert (render({}), list(render.registry)) == (["host"], [object])
    assert type(render.registry) is MappingProxyType


@bare_root
def test_other_threads_miss_no_item_meanwhile(rt, plugins):
    code, _ = LISTS["basicConfig"]
    rt.load(write(plugins, code, "init"))
    (old,) = logging.root.handlers
    wait = (
        "    from tests.integration.test_lists_over_lists import INSIDE, GO\n"
        "    assert not logging.root.handlers[1:]\n    INSIDE.set(); GO.wait(20)\n"
    )
    write(plugins, code, "init", end=wait)
    reload = threading.Thread(target=rt.reload, args=("geo",))
    reload.start()
    assert INSIDE.wait(20)
    assert logging.root.handlers == [old]
    other = logging.NullHandler()
    logging.root.addHandler(other)
    GO.set()
    reload.join(20)
    assert len(logging.root.handlers) == 2
    assert other in logging.root.handlers
    logging.root.removeHandler(other)


@bare_root
def test_what_is_made_of_an_owners_class_meanwhile_is_the_hosts(rt, plugins):
    """The import system makes modules of `type(sys)`, in every thread, also while a change runs."""
    code = """
import copy, logging, sys
from tests.integration.test_lists_over_lists import MADE
class Finder:
    def find_spec(self, *_): return None
def add():
    sys.meta_path.append(Finder())
    logging.basicConfig(handlers=[logging.NullHandler()])
    MADE[:] = type(sys)("made"), copy.copy(logging.root), type(logging.root)(10)
"""
    rt.load(write(plugins, code, "init"))
    rt.reload("geo")
    module, *loggers = MADE
    assert type(module) is types.ModuleType
    assert module.__name__ == "made"
    assert [type(logger) for logger in loggers] == [logging.RootLogger] * 2
    assert loggers[1].level == 10
    MADE.clear()


def test_items_keep_their_place_and_removals_count(rt, plugins):
    code = """
import sys
def add():
    sys.path.insert(1, f"second {V}"); sys.path.append(f"last {V}")
    if "the host's" in sys.path: sys.path.remove("the host's")
"""
    before = list(sys.path)
    versions = count()
    rt.load(write(plugins, f"V = {next(versions)}\n{code}", "init"))
    sys.path.append("the host's")
    write(plugins, f"V = {next(versions)}\n{code}", "init")
    rt.reload("geo")
    assert sys.path == [before[0], "second 1", *before[1:], "last 1"]
    rt.remove("geo")
    assert sys.path == before


def test_what_a_library_adds_as_it_is_imported_stays(rt, plugins, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lib_of_lists.py").write_text(
        "import logging\nlogging.getLogger('a.library').addHandler(logging.NullHandler())\n"
    )
    code, items = LISTS["if not handlers"]
    rt.load(write(plugins, code, "init"))
    write(plugins, "import lib_of_lists\n" + code, "init")
    rt.reload("geo")
    rt.remove("geo")
    (stays,) = items()
    logging.getLogger("a.library").removeHandler(stays)
    monkeypatch.delitem(sys.modules, "lib_of_lists")


@bare_root
def test_a_refused_version_leaves_the_lists_as_they_were(rt, plugins):
    code, items = LISTS["basicConfig"]
    rt.load(write(plugins, code, "init"))
    before = list(items())
    write(plugins, code, "init", end="    1/0\n")
    with pytest.raises(InitError):
        rt.reload("geo")
    assert items() == before
    gc.collect()
