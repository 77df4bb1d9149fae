"""A generation's resources and side effects go with it: in reverse order, within their limits."""

import asyncio
import atexit
import builtins
import contextvars
import gc
import logging
import signal
import subprocess
import sys
import threading
import unittest
import warnings
import weakref

import pytest
from tests.conftest import tool

from epochal.errors import InitError, LinkError

LOG = []
EVENT = threading.Event()
STARTED = threading.Event()
HOST_VARIABLE = contextvars.ContextVar("host_variable")
WEAK_KEYS = weakref.WeakKeyDictionary()
WEAK_VALUES = weakref.WeakValueDictionary()
LOCAL = threading.local()


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    # pytest's own would keep the exceptions of threads, and so the plugins that raised them.
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    LOG.clear()
    EVENT.clear()
    yield
    EVENT.set()
    for thread in threading.enumerate():
        if thread.name.startswith("geo"):
            thread.join(10)  # how it ends is for this hook, not for the next test's


def write(plugins, code, plugin="geo"):
    head = "from tests.integration.test_resources import LOG, EVENT\n"
    return plugins.write(plugin, head + code + "\n@tool\ndef f(): return 1\n")


def epochal_threads():
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("geo")}


# --- the context's own ---------------------------------------------------------------------------


def test_resources_close_in_reverse_and_a_failure_stops_no_other(rt, plugins):
    code = """
import contextlib
@contextlib.contextmanager
def opened():
    LOG.append("open")
    try:
        yield
    finally:
        LOG.append("close")
def boom(): raise ValueError("cannot close")
def init(ctx):
    ctx.defer(LOG.append, "first")
    ctx.enter_context(opened())
    ctx.defer(boom)
    ctx.defer(LOG.append, "last")
def shutdown(): LOG.append("shutdown")
"""
    rt.load(write(plugins, code))
    cut = rt.remove("geo")
    assert LOG == ["open", "shutdown", "last", "close", "first"]
    assert cut.drained
    assert any("cannot close" in line for line in cut.failures)


def test_shutdown_asks_a_spawned_thread_to_end_and_waits_for_it(rt, plugins):
    code = """
def work(ctx, word):
    LOG.append(word)
    EVENT.set()
    ctx.stopping.wait(20)
    LOG.append("ended")
def init(ctx):
    ctx.defer(LOG.append, "deferred before")
    ctx.spawn(work, ctx, "began", name="geo-work")
"""
    rt.load(write(plugins, code))
    assert EVENT.wait(10)
    assert epochal_threads() == {"geo-work"}
    cut = rt.remove("geo")
    assert cut.drained
    assert cut.reclaimed, cut.leaks
    assert LOG == ["began", "ended", "deferred before"]
    assert not epochal_threads()


def test_a_task_runs_in_the_generations_own_loop_and_is_cancelled_at_its_end(rt, plugins):
    code = """
import asyncio
async def helper():
    try:
        await asyncio.sleep(20)
    finally:
        LOG.append("helper ended")
async def poll(ctx):
    child = asyncio.create_task(helper())
    await asyncio.sleep(0)
    EVENT.set()
    try:
        await asyncio.sleep(20)
    except asyncio.CancelledError:
        LOG.append("cancelled")
        await asyncio.sleep(0)
        raise
async def answer(): return 42
def init(ctx):
    LOG.append(ctx.create_task(answer()).result(10))
    ctx.create_task(poll(ctx), name="poll")
"""
    rt.load(write(plugins, code))
    assert EVENT.wait(10)
    cut = rt.remove("geo")
    assert cut.drained
    assert cut.failures == ()
    assert cut.reclaimed, cut.leaks
    assert LOG == [42, "cancelled", "helper ended"]
    assert not epochal_threads()


def test_a_thread_or_task_that_outlasts_its_limit_is_reported_and_stops_no_other(
    rt, plugins, monkeypatch
):
    monkeypatch.setattr("epochal._core.generation.resources._LIMIT_S", 0.02)
    monkeypatch.setattr("epochal._core.generation.orphan_threads._JOIN_S", 0.02)
    code = """
import asyncio, threading
BEGUN = threading.Barrier(3)
def deaf():
    BEGUN.wait(20)
    EVENT.wait(20)
async def stubborn():
    BEGUN.wait(20)
    while not EVENT.is_set():
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            continue
def init(ctx):
    ctx.defer(LOG.append, "the rest")
    ctx.spawn(deaf, name="geo-deaf", stop_timeout=0.02)
    ctx.create_task(stubborn(), name="stubborn", stop_timeout=0.02)
    BEGUN.wait(20)
"""
    rt.load(write(plugins, code))
    cut = rt.remove("geo")
    text = "\n".join(cut.failures)
    assert "'geo-deaf' did not end within 0.02 s" in text
    assert "'stubborn' did not end within 0.02 s" in text
    assert LOG == ["the rest"]
    EVENT.set()


def test_a_failed_task_is_reported_at_the_end(rt, plugins):
    code = """
async def boom(): raise ValueError("the task broke")
def init(ctx): ctx.create_task(boom()).exception(10)
"""
    rt.load(write(plugins, code))
    assert any("the task broke" in line for line in rt.remove("geo").failures)


def test_resources_are_closed_after_a_shutdown_that_blocks(rt, plugins):
    code = """
def block(): EVENT.wait(20)
def init(ctx):
    ctx.defer(LOG.append, "first")
    ctx.defer(block)
    ctx.defer(LOG.append, "last")
def shutdown(): EVENT.wait(20)
"""
    rt.load(write(plugins, code))
    with rt.change(phase_timeout=0.3) as change:
        change.remove("geo")
    assert LOG == ["last", "first"]
    # Besides, the search for leaks may take longer than that in a large process.
    late = [line for line in change.cutover.failures if line.startswith("shutdown of plugin")]
    assert ["did not return" in line for line in late] == [True, True]
    EVENT.set()


def test_a_removed_generation_can_acquire_no_resource(rt, plugins):
    code = """
CTX = []
def init(ctx): CTX.append(ctx)
@tool
def late():
    LOG.append(CTX[0])
"""
    rt.load(write(plugins, code))
    rt.epoch[tool]["geo.late"]()
    rt.remove("geo")
    with pytest.raises(Exception, match="geo#0 has been shut down"):
        LOG[0].defer(print)
    LOG.clear()


# --- behind the runtime's back -------------------------------------------------------------------

TRACES = {
    "a log handler of the root logger": "import logging\n"
    "logging.getLogger().addHandler(logging.NullHandler())",
    "a log filter": "import logging\nlogging.getLogger('host.x').addFilter(lambda record: True)",
    "a log handler of its own class": "import logging\nclass H(logging.Handler):\n"
    "    def emit(self, record): pass\nlogging.getLogger('host.y').addHandler(H())",
    "a warnings filter": "import warnings\nwarnings.filterwarnings('ignore', 'geo says')",
    "a warnings filter by its own class": "import warnings\nclass W(UserWarning): pass\n"
    "warnings.simplefilter('ignore', W)",
    "a collector callback": "import gc\ngc.callbacks.append(lambda phase, info: None)",
    "an excepthook": "import sys\nsys.excepthook = lambda *args: None",
    "a displayhook": "import sys\nsys.displayhook = lambda value: None",
    "an unraisablehook": "import sys\nsys.unraisablehook = lambda args: None",
    "a format of warnings": "import warnings\nwarnings.formatwarning = lambda *args: ''",
    "a thread excepthook": "import threading\nthreading.excepthook = lambda args: None",
    "a warnings hook": "import warnings\nwarnings.showwarning = lambda *args: None",
    "a replaced builtin": "import builtins\nbuiltins.open = lambda *args: None",
    "a new builtin": "import builtins\nbuiltins.geo_helper = lambda: 1",
    "an entry of sys.path": "import sys\nsys.path.append('/nowhere/geo')",
    "an import finder": "import sys\nclass F:\n    @staticmethod\n"
    "    def find_spec(name, path=None, target=None): return None\nsys.meta_path.append(F)",
    "a hand-made module": "import sys, types\nsys.modules['geo_compat'] = types.ModuleType('x')",
    "a replaced module": "import sys\nsys.modules['colorsys'] = sys.modules[__name__]",
    "a trace function of threads": "import threading\nthreading.settrace(lambda *args: None)",
    "a profile function of threads": "import threading\nthreading.setprofile(lambda *a: None)",
    "a class of loggers": "import logging\nclass L(logging.Logger): pass\n"
    "logging.setLoggerClass(L)",
    "a factory of log records": "import logging\ndef make(*a, **kw): return "
    "logging.LogRecord(*a, **kw)\nlogging.setLogRecordFactory(make)",
    "a unittest cleanup": "import unittest\ndef clean(): pass\nunittest.addModuleCleanup(clean)",
    "a copyreg reducer": "import copyreg\nclass C: pass\ncopyreg.pickle(C, lambda c: (C, ()))",
}


def footprint():
    root = logging.root
    loggers = [root, *map(logging.getLogger, ("host.x", "host.y"))]
    return {
        "handlers": [list(logger.handlers) for logger in loggers],
        "filters": [list(logger.filters) for logger in loggers],
        "warnings": list(warnings.filters),
        "callbacks": list(gc.callbacks),
        "hooks": (
            *(sys.excepthook, sys.unraisablehook, threading.excepthook),
            *(sys.displayhook, warnings.showwarning, warnings.formatwarning),
            *(threading._trace_hook, threading._profile_hook),
            *(logging.getLoggerClass(), logging.getLogRecordFactory()),
        ),
        "cleanups": list(unittest.case._module_cleanups),
        "builtins": dict(vars(builtins)),
        "path": list(sys.path),
        "finders": [finder for finder in sys.meta_path if "epochal" not in repr(finder)],
        "modules": {
            name: module
            for name, module in sys.modules.items()
            if not name.startswith(
                ("geo__", "encodings.")
            )  # a codec is imported as it is first used
        },
        "copyreg": set(__import__("copyreg").dispatch_table),
    }


@pytest.mark.parametrize("case", TRACES)
@pytest.mark.parametrize("where", ["link", "init", "call"])
def test_side_effects_go_with_the_generation(rt, plugins, case, where):
    body = TRACES[case]
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    code = {
        "link": body,
        "init": f"def init(ctx):\n{indented}",
        "call": f"@tool\ndef leave():\n{indented}",
    }[where]
    __import__("colorsys"), __import__("copyreg")
    before = footprint()
    rt.load(write(plugins, code))
    if where == "call":
        rt.epoch[tool]["geo.leave"]()
    cut = rt.remove("geo")
    if where != "call":
        assert footprint() == before
        assert cut.cleaned_up, "the report lists it"
        assert cut.reclaimed or "of threads" in case, cut.leaks
    else:
        # An object registered in a call is the plugin's only if its code is the plugin's.
        assert cut.drained
        restore(before)


def restore(before):
    sys.excepthook, sys.unraisablehook, threading.excepthook = before["hooks"][:3]
    sys.displayhook, warnings.showwarning, warnings.formatwarning = before["hooks"][3:6]
    threading._trace_hook, threading._profile_hook = before["hooks"][6:8]
    logging._loggerClass, logging._logRecordFactory = before["hooks"][8:]
    unittest.case._module_cleanups[:] = before["cleanups"]
    vars(builtins).update(before["builtins"])
    for name in set(vars(builtins)) - set(before["builtins"]):
        delattr(builtins, name)
    sys.path[:] = before["path"]
    warnings.filters[:] = before["warnings"]
    for name in set(sys.modules) - set(before["modules"]):
        if name == "geo_compat":
            del sys.modules[name]
    sys.modules["colorsys"] = before["modules"]["colorsys"]
    logging.root.handlers[:] = before["handlers"][0]


OWN_CODE = [
    "a log filter",
    "a log handler of its own class",
    "a warnings filter by its own class",
    "a collector callback",
    "a copyreg reducer",
    "a class of loggers",
    "a factory of log records",
    "a unittest cleanup",
]


@pytest.mark.parametrize("case", OWN_CODE)
def test_side_effects_of_a_call_are_found_by_their_code(rt, plugins, case):
    indented = "\n".join(f"    {line}" for line in TRACES[case].splitlines())
    before = footprint()
    rt.load(write(plugins, f"@tool\ndef leave():\n{indented}"))
    rt.epoch[tool]["geo.leave"]()
    cut = rt.remove("geo")
    assert cut.cleaned_up
    assert cut.reclaimed, cut.leaks
    assert footprint() == before


@pytest.mark.parametrize(
    "case", ["an excepthook", "a replaced builtin", "a replaced module", "a hand-made module"]
)
def test_a_value_that_two_generations_replaced_is_restored_to_the_hosts(rt, plugins, case):
    """Each generation finds its predecessor's value in place; the predecessor goes first."""
    __import__("colorsys")
    before = footprint()
    path = write(plugins, TRACES[case].replace("None)", "None)  # its own"))
    rt.load(path)
    for _ in range(3):
        cut = rt.reload("geo")
        assert cut.reclaimed, cut.leaks
    rt.remove("geo")
    after = footprint()
    imported = after.pop("modules")
    assert {"colorsys": before.pop("modules")["colorsys"]}.items() <= imported.items()
    assert "geo_compat" not in imported
    assert after == before


def test_a_library_that_a_plugin_imports_first_keeps_its_side_effects(rt, plugins, tmp_path):
    (tmp_path / "hostlib.py").write_text(
        "import sys, types\nsys.modules['hostlib.parts'] = parts = types.ModuleType('parts')\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        rt.load(write(plugins, "import hostlib"))
        rt.remove("geo")
        assert "hostlib.parts" in sys.modules
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("hostlib"), sys.modules.pop("hostlib.parts", None)


def test_a_copy_of_a_host_module_goes_with_the_plugin_that_made_it(rt, plugins):
    """(As `markdown` makes one of `html.parser`, to patch it.)"""
    code = """
import importlib.util, sys
spec = importlib.util.find_spec("html.parser")
copy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(copy)
sys.modules["geo_parser"] = copy
class Parser(copy.HTMLParser): pass
copy.HTMLParser = Parser
"""
    rt.load(write(plugins, code))
    for _ in range(2):
        cut = rt.reload("geo")
        assert cut.reclaimed, cut.leaks
    rt.remove("geo")
    assert "geo_parser" not in sys.modules


REPLACED_IN_A_CALL = {
    "a stream": ("class Stream: pass\nimport sys\nsys.stderr = Stream()", sys, "stderr"),
    "a warnings hook": (
        "import warnings\ndef show(*args): pass\nwarnings.showwarning = show",
        warnings,
        "showwarning",
    ),
    "a hook": ("import sys\ndef hook(*args): pass\nsys.excepthook = hook", sys, "excepthook"),
    "a builtin": ("import builtins\ndef hash(x): pass\nbuiltins.hash = hash", builtins, "hash"),
}


ORIGINALS = {"hash": hash, "showwarning": warnings._showwarning_orig}


@pytest.mark.parametrize("case", REPLACED_IN_A_CALL)
def test_a_value_that_a_call_replaced_is_restored_not_deleted(rt, plugins, case, monkeypatch):
    code, module, name = REPLACED_IN_A_CALL[case]
    monkeypatch.setattr(
        module, name, original := ORIGINALS.get(name) or getattr(module, f"__{name}__")
    )
    indented = "\n".join(f"    {line}" for line in code.splitlines())
    rt.load(write(plugins, f"@tool\ndef leave():\n{indented}"))
    rt.epoch[tool]["geo.leave"]()
    cut = rt.remove("geo")
    assert getattr(module, name) is original
    assert cut.reclaimed, cut.leaks


def test_finalizers_of_a_generation_run_at_its_exit(rt, plugins):
    code = """
import weakref
class Resource: pass
kept, quiet, gone = Resource(), Resource(), Resource()
def close(word): LOG.append(word)
weakref.finalize(kept, close, "kept")
weakref.finalize(quiet, close, "quiet").atexit = False
weakref.finalize(gone, close, "gone")
del gone
"""
    rt.load(write(plugins, code))
    assert LOG == ["gone"]
    others = weakref.finalize(plugins, print)
    cut = rt.reload("geo")
    assert LOG == ["gone", "gone", "kept"], "the second generation's, then the first's own"
    assert len([line for line in cut.cleaned_up if line.startswith("finalizer geo")]) == 2
    assert cut.reclaimed, cut.leaks
    assert others.detach(), "those of others are let alone"


def test_removing_loggers_of_a_plugins_class_keeps_the_logger_tree(rt, plugins):
    code = """
import logging
class L(logging.Logger): pass
logging.setLoggerClass(L)
logging.getLogger("geo_tree.own")
logging.setLoggerClass(logging.Logger)
"""
    rt.load(write(plugins, code))
    below = logging.getLogger("geo_tree.own.below")
    try:
        cut = rt.remove("geo")
        assert cut.reclaimed, cut.leaks
        assert below.parent is logging.root
        assert type(logging.getLogger("geo_tree.own")) is logging.Logger
        assert below.parent is logging.getLogger("geo_tree.own")
    finally:
        for name in ("geo_tree", "geo_tree.own", "geo_tree.own.below"):
            logging.root.manager.loggerDict.pop(name)


TRACE_HOOKS = (
    "import sys\ndef trace(*args): LOG.append(1)\nsys.settrace(trace)\nsys.setprofile(trace)"
)


def test_tracing_that_init_begins_ends_with_the_changes_thread(rt, plugins):
    """A change runs on a thread of its own."""
    rt.load(write(plugins, TRACE_HOOKS))
    assert sys.getprofile() is None
    LOG.clear()
    cut = rt.reload("geo", write(plugins, ""))
    assert LOG == []
    assert cut.reclaimed, cut.leaks


def test_a_signal_handler_in_init_is_the_plugins_error(rt, plugins):
    """Python lets the main thread alone install one, and a change runs on a thread of its own."""
    code = "import signal\ndef init(ctx): signal.signal(signal.SIGUSR1, lambda *args: None)"
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(InitError, match="only works in main thread"):
        rt.load(write(plugins, code))
    assert signal.getsignal(signal.SIGUSR1) is before
    assert "geo" not in rt.epoch.generations


def test_a_context_variable_set_in_init_is_not_visible_elsewhere(rt, plugins):
    code = """
from tests.integration.test_resources import HOST_VARIABLE
import contextvars
class Value: pass
HOST_VARIABLE.set(Value())
OWN = contextvars.ContextVar("own")
def init(ctx): OWN.set(Value())
"""
    rt.load(write(plugins, code))
    assert HOST_VARIABLE.get(None) is None
    cut = rt.remove("geo")
    assert cut.reclaimed, cut.leaks


def test_a_value_left_in_a_callers_context_is_reported_as_a_leak(rt, plugins):
    code = """
from tests.integration.test_resources import HOST_VARIABLE
class Value: pass
@tool
def leave(): HOST_VARIABLE.set(Value())
"""
    rt.load(write(plugins, code))

    def use():
        rt.epoch[tool]["geo.leave"]()
        return rt.remove("geo")

    cut = contextvars.copy_context().run(use)
    leak = "an instance of geo.Value is the value of context variable 'host_variable'"
    assert leak in map(str, cut.leaks)


def test_a_thread_started_in_a_call_counts_as_in_use_until_it_ends(rt, plugins):
    code = """
import threading
def poll(): EVENT.wait(20)
@tool
def start(): threading.Thread(target=poll, name="geo-poll", daemon=True).start()
"""
    rt.load(write(plugins, code))
    rt.epoch[tool]["geo.start"]()
    cut = rt.remove("geo", drain_timeout=0.0)
    assert not cut.drained
    assert any("geo-poll" in line for line in map(str, cut.holders)), cut.holders
    EVENT.set()


HARMLESS = {
    "linecache and tracebacks": "import linecache, traceback\nlinecache.getline(__file__, 1)\n"
    "try:\n    1 / 0\nexcept ZeroDivisionError:\n    traceback.format_exc()",
    "the cache of re": "import re\nclass Text(str): pass\nre.compile(Text('abc+'))\n"
    "re.sub(Text('a'), lambda match: 'x', 'aaa')",
    "an abstract class of the host's": "import collections.abc\nclass Mine: pass\n"
    "collections.abc.Sequence.register(Mine)\nclass Other(collections.abc.Sized): pass\n"
    "assert isinstance(Mine(), collections.abc.Sequence)\n"
    "assert issubclass(Other, collections.abc.Sized)",
    "weak tables of the host's": "import tests.integration.test_resources as host\n"
    "class Key: pass\nkey = Key()\nhost.WEAK_KEYS[key] = 1\nhost.WEAK_VALUES['geo'] = key",
    "a weak reference with a callback": "import weakref\nclass Key: pass\nkey = Key()\n"
    "def gone(ref): pass\nref = weakref.ref(EVENT, gone)\nown = weakref.ref(key, gone)",
    "hints": "import typing\nclass Own: pass\ndef g(x: 'typing.Optional[Own]'): ...\n"
    "typing.get_type_hints(g), typing.Dict[str, Own], typing.Union[Own, int]",
    "test cases": "import unittest, io\nclass T(unittest.TestCase):\n    def test(self): pass\n"
    "unittest.TextTestRunner(stream=io.StringIO()).run(\n"
    "    unittest.TestLoader().loadTestsFromTestCase(T))",
    "a warning of its own class": "import warnings\nclass W(UserWarning): pass\n"
    "with warnings.catch_warnings(record=True):\n    warnings.simplefilter('always')\n"
    "    warnings.warn('geo warns', W)",
    "a value in a thread-local of the host's": "import tests.integration.test_resources as host\n"
    "class Value: pass\nhost.LOCAL.value = Value()",
}


@pytest.mark.parametrize("case", HARMLESS)
def test_entries_in_standard_library_tables_go_with_the_generation(rt, plugins, case, capsys):
    rt.load(write(plugins, HARMLESS[case]))
    for _ in range(2):
        cut = rt.reload("geo")
        assert cut.reclaimed, cut.leaks
    assert not WEAK_KEYS or case.startswith("weak"), "it is empty but for the last generation's"


def test_a_second_name_of_main_that_a_library_adds_stays(rt, plugins):
    """(As `multiprocessing` does when it is imported first.)"""
    main, name = sys.modules["__main__"], "geo_second_main"
    try:
        rt.load(write(plugins, f"import sys\nsys.modules[{name!r}] = sys.modules['__main__']"))
        rt.remove("geo")
        assert sys.modules[name] is main
    finally:
        sys.modules.pop(name, None)


def test_side_effects_of_a_failed_change_are_taken_out(rt, plugins):
    original = builtins.open
    with pytest.raises(LinkError):
        rt.load(write(plugins, TRACES["a replaced builtin"] + "\n1 / 0"))
    assert builtins.open is original
    code = "def init(ctx):\n    import sys\n    sys.path.append('/nowhere/geo')\n    1 / 0"
    with pytest.raises(InitError):
        rt.load(write(plugins, code))
    assert "/nowhere/geo" not in sys.path


def test_a_value_that_other_code_replaced_since_stays(rt, plugins):
    rt.load(write(plugins, TRACES["an excepthook"]))

    def hook(*args):
        pass

    original, sys.excepthook = sys.__excepthook__, hook
    try:
        rt.remove("geo")
        assert sys.excepthook is hook
    finally:
        sys.excepthook = original


def test_an_exit_hook_runs_when_the_generation_exits(rt, plugins):
    code = """
import atexit
from atexit import register as at_exit
@atexit.register
def first(): LOG.append("first")
at_exit(LOG.append, "second")
@at_exit
def third(): LOG.append("third")
atexit.unregister(third)
def shutdown(): LOG.append("shutdown")
"""
    hooks = atexit._ncallbacks()
    rt.load(write(plugins, code))
    cut = rt.reload("geo")
    assert LOG == ["shutdown", "second", "first"]
    assert any("exit hook" in line for line in cut.cleaned_up)
    assert cut.reclaimed, cut.leaks
    rt.close()
    assert atexit._ncallbacks() == hooks


def test_an_imported_entry_point_is_refused_and_not_called(rt, plugins):
    with pytest.raises(LinkError, match=r"'register' of plugin 'geo'.*imported.*another name"):
        rt.load(write(plugins, "from atexit import register"))


def test_exit_hooks_of_active_plugins_run_as_the_process_exits(plugins, tmp_path):
    path = plugins.root / "geo.py"
    path.write_text(
        '# /// plugin\n# id = "geo"\n# version = "1"\n# ///\n'
        "import atexit\natexit.register(print, 'the plugin exits')\n"
    )
    code = f"import epochal; rt = epochal.Runtime(); rt.load({str(path)!r}); print('host ends')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.split("\n") == ["host ends", "the plugin exits", ""]


def test_a_timer_is_cancelled_and_a_thread_that_shutdown_left_is_ended(rt, plugins):
    code = """
import threading, time
def tick(): LOG.append("ticked")
def poll():
    EVENT.set()
    while True: time.sleep(0.001)
def init(ctx):
    timer = threading.Timer(3600, tick)
    timer.name = "geo-timer"
    timer.start()
    threading.Thread(target=poll, name="geo-poll", daemon=True).start()
"""
    rt.load(write(plugins, code))
    assert EVENT.wait(10)
    cut = rt.remove("geo")
    assert not epochal_threads()
    assert {"thread 'geo-timer', which shutdown() had left running"} <= set(cut.cleaned_up)
    assert {"thread 'geo-poll', which shutdown() had left running"} <= set(cut.cleaned_up)
    assert cut.reclaimed, cut.leaks
    assert LOG == []


def test_side_effects_of_every_reload_do_not_pile_up(rt, plugins):
    """An exit hook, a log handler and a thread at every swap: nothing piles up."""
    code = """
import atexit, logging, threading
BALLAST = "x" * 200_000
def clean(): pass
class Handler(logging.Handler):
    def emit(self, record): pass
stop = threading.Event()
def poll(): stop.wait(20)
def init(ctx):
    atexit.register(clean)
    logging.getLogger().addHandler(Handler())
    threading.Thread(target=poll, name="geo-poll", daemon=True).start()
def shutdown(): stop.set()
"""
    path = write(plugins, code)
    rt.load(path)
    handlers, hooks = len(logging.root.handlers), atexit._ncallbacks()
    for _ in range(5):
        cut = rt.reload("geo")
        assert cut.reclaimed, cut.leaks
    assert len(logging.root.handlers) == handlers
    assert atexit._ncallbacks() == hooks
    assert len([t for t in threading.enumerate() if t.name == "geo-poll"]) == 1


def test_tasks_in_the_hosts_loop_count_as_in_use_until_they_end(plugins):
    from epochal import Runtime

    code = """
import asyncio
TASKS = []
async def helper(): await asyncio.sleep(20)
@tool
async def start():
    TASKS.append(asyncio.create_task(helper(), name="geo-helper"))
"""

    async def main():
        async with Runtime() as rt:
            await rt.aload(write(plugins, code))
            await rt.epoch[tool]["geo.start"]()
            cut = await rt.areload("geo", drain_timeout=0.0)
            assert any("geo-helper" in line for line in map(str, cut.holders)), cut.holders
            for task in asyncio.all_tasks():
                if task.get_name() == "geo-helper":
                    task.cancel()

    asyncio.run(main())


def test_a_look_at_the_process_tables_keeps_no_generation_in_memory(rt, plugins):
    """One plugin links while another drains and is reclaimed."""
    code = """
from tests.integration.test_resources import EVENT, LOG
LOG.append("linking")
STARTED.set()
assert EVENT.wait(20)
""".replace("STARTED.set()", "from tests.integration.test_resources import STARTED\nSTARTED.set()")
    STARTED.clear()
    rt.load(write(plugins, ""))
    epoch = rt.epoch
    finished = []
    rt.events.subscribe(
        lambda event: finished.append(event) if type(event).__name__ == "ChangeFinished" else None
    )
    assert not rt.reload("geo", drain_timeout=0.0).drained
    draining = rt._queue._running.live()
    slow = threading.Thread(target=rt.load, args=(write(plugins, code, "slow"),))
    slow.start()
    try:
        assert STARTED.wait(10)
        del epoch
        assert all(ended.wait(10) for ended in draining)
    finally:
        EVENT.set()
        slow.join(10)
    rt.close()
    cutover = next(event.cutover for event in finished if event.change == 2)
    assert cutover.reclaimed, cutover.leaks


def test_a_policy_of_event_loops_goes_with_its_version(rt, plugins):
    """The default one, which the first loop makes, is the process's and stays."""
    code = """
import asyncio
class Mine(asyncio.DefaultEventLoopPolicy): pass
def init(ctx):
    asyncio.run(asyncio.sleep(0))
    asyncio.set_event_loop_policy(Mine())
"""
    asyncio.set_event_loop_policy(None)
    for _ in range(2):
        rt.load(write(plugins, code)) if not rt.epoch.generations else rt.reload("geo")
        assert type(asyncio.get_event_loop_policy()).__name__ == "Mine"
    assert rt.remove("geo").reclaimed
    policy = asyncio.get_event_loop_policy()
    assert type(policy) is asyncio.DefaultEventLoopPolicy
    rt.load(write(plugins, "import asyncio\ndef init(ctx): asyncio.run(asyncio.sleep(0))\n"))
    rt.remove("geo")
    assert asyncio.get_event_loop_policy() is policy
