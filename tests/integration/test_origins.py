"""What `init` began is the plugin's own to end, whatever it is; what others began is a use."""

import asyncio
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.conftest import tool

from epochal.errors import NestedChangeError

LOG = []
GO_ON = threading.Event()
INSIDE = threading.Event()
POOL = ThreadPoolExecutor(1)
LOOPS = []
PORTS = []


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    global POOL
    # pytest's own would keep the exceptions of threads, and so the plugins that raised them.
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    for table in (LOG, LOOPS, PORTS):
        table.clear()
    GO_ON.clear()
    INSIDE.clear()
    POOL = ThreadPoolExecutor(1)
    yield
    GO_ON.set()
    POOL.shutdown()


@pytest.fixture
def loop():
    """An event loop of the host, on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    LOOPS.append(loop)
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


HEAD = """
import asyncio, queue, threading, time
import tests.integration.test_origins as host
from tests.integration.test_origins import GO_ON, INSIDE, LOG, LOOPS
stop = threading.Event()
def wait():
    INSIDE.set()
    assert GO_ON.wait(20)
    LOG.append("went on")
def until_stopped():
    INSIDE.set()
    assert stop.wait(20)
async def poll():
    INSIDE.set()
    while not stop.is_set():
        await asyncio.sleep(0.001)
@tool
def handler(): return lambda: wait()
"""


def load(rt, plugins, code):
    rt.load(plugins.write("geo", HEAD + code))


# --- threads -------------------------------------------------------------------------------------


def is_held_by(rt, thread):
    """Whether a thread that is inside the plugin's code, without a lease, is a use of it."""
    assert INSIDE.wait(10)
    cut = rt.remove("geo", drain_timeout=0.05)
    GO_ON.set()
    thread.join(10)
    return not cut.drained and any(repr(thread.name) in str(line) for line in cut.holders)


def test_a_thread_that_the_host_starts_while_init_runs_is_the_hosts(rt, plugins):
    loaded = threading.Event()

    def request():
        assert loaded.wait(20)
        rt.epoch[tool]["geo.handler"]()()

    def server():
        assert INSIDE.wait(20)
        thread.start()
        GO_ON.set()

    thread = threading.Thread(target=request, name="request 17")
    threading.Thread(target=server).start()
    load(rt, plugins, "def init(ctx): wait()")
    INSIDE.clear()
    GO_ON.clear()
    loaded.set()
    assert is_held_by(rt, thread)


def test_a_thread_with_the_ident_of_the_plugins_own_is_the_hosts(rt, plugins):
    code = """
def init(ctx):
    thread = threading.Thread(target=INSIDE.set)
    thread.start()
    thread.join(20)
    LOG.append(thread.ident)
"""
    load(rt, plugins, code)
    INSIDE.clear()
    thread = threading.Thread(target=rt.epoch[tool]["geo.handler"]())
    thread.start()  # CPython gives it the ident of the last thread that ended
    assert is_held_by(rt, thread)
    assert [LOG[0], "went on"] == LOG


@pytest.mark.parametrize("start", ["submit", "from a task"])
def test_the_worker_of_the_hosts_executor_is_the_hosts(rt, plugins, loop, start):
    code = {
        "submit": "def init(ctx): host.POOL.submit(int).result(20)",
        "from a task": """
async def work(): await asyncio.to_thread(int)
def init(ctx): asyncio.run_coroutine_threadsafe(work(), LOOPS[0]).result(20)
""",
    }[start]
    load(rt, plugins, code)
    function = rt.epoch[tool]["geo.handler"]()
    if start == "submit":
        done = POOL.submit(function)
    else:
        done = asyncio.run_coroutine_threadsafe(asyncio.to_thread(function), loop)
    del function
    assert INSIDE.wait(10)
    cut = rt.remove("geo", drain_timeout=0.05)
    assert not cut.drained
    GO_ON.set()
    done.result(10)
    assert LOG == ["went on"]


class Unbound:
    """A proxy such as werkzeug's, outside of its context."""

    @property
    def __class__(self):
        raise RuntimeError("working outside of a context")


BEGUN_IN_INIT = {
    "thread": "threading.Thread(target=until_stopped).start()",
    "thread of a thread": """threading.Thread(
        target=lambda: threading.Thread(target=until_stopped).start()).start()""",
    "thread with a proxy": """threading.Thread(
        target=lambda _: until_stopped(), args=(host.Unbound(),)).start()""",
    "own executor": "pool.submit(until_stopped)",
    "own executor with a queue": "for _ in range(3): pool.submit(until_stopped)",
    "own process-wide start": "import _thread; _thread.start_new_thread(until_stopped, ())",
    "own loop in a thread": "threading.Thread(target=asyncio.run, args=(poll(),)).start()",
    "asyncio.run in spawn": "ctx.spawn(asyncio.run, poll())",
    "task in spawn": "ctx.spawn(lambda: asyncio.run(gathered()))",
    "task of the host's loop": "asyncio.run_coroutine_threadsafe(poll(), LOOPS[0])",
    "task of a task": "asyncio.run_coroutine_threadsafe(successor(), LOOPS[0])",
    "asynchronous generator": "asyncio.run_coroutine_threadsafe(iterate(), LOOPS[0])",
    "to_thread of a task": "asyncio.run_coroutine_threadsafe(in_thread(), LOOPS[0])",
}


@pytest.mark.parametrize("begin", BEGUN_IN_INIT)
def test_what_init_began_is_ended_by_shutdown_and_holds_up_no_drain(rt, plugins, loop, begin):
    code = f"""
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)
async def gathered(): await asyncio.gather(poll(), poll())
async def successor(): asyncio.get_running_loop().create_task(poll())
async def ticks():
    while not stop.is_set():
        yield await asyncio.sleep(0.001)
async def iterate():
    INSIDE.set()
    async for _ in ticks(): pass
async def in_thread(): threading.Thread(target=until_stopped).start()
def init(ctx):
    {BEGUN_IN_INIT[begin]}
    assert INSIDE.wait(20)
def shutdown():
    LOG.append("shut down")
    stop.set()
    pool.shutdown()
"""
    load(rt, plugins, code)
    cut = rt.remove("geo", drain_timeout=10)
    assert cut.drained, cut.holders
    assert LOG == ["shut down"]


def test_a_task_that_shutdown_leaves_is_cancelled(rt, plugins, loop):
    code = """
def init(ctx):
    asyncio.run_coroutine_threadsafe(poll(), LOOPS[0])
    assert INSIDE.wait(20)
"""
    load(rt, plugins, code)
    cut = rt.remove("geo")
    assert any("which shutdown() had left running" in line for line in cut.cleaned_up)
    assert cut.reclaimed, cut.leaks


def test_closing_the_runtime_ends_what_init_began(rt, plugins, loop):
    code = """
def init(ctx):
    ctx.defer(stop.set)
    asyncio.run_coroutine_threadsafe(poll(), LOOPS[0])
    assert INSIDE.wait(20)
def shutdown(): LOG.append("shut down")
"""
    load(rt, plugins, code)
    rt.close()
    assert LOG == ["shut down"]


def test_a_call_that_is_inside_counts_where_init_began_its_task(rt, plugins, loop):
    code = """
async def work():
    INSIDE.set()
    await asyncio.to_thread(GO_ON.wait, 20)
async def call():
    await host.EXPORT()
def init(ctx): LOG.append(call)
@tool
async def export(): await work()
"""
    global EXPORT
    load(rt, plugins, code)
    EXPORT = rt.epoch[tool]["geo.export"]
    begun = asyncio.run_coroutine_threadsafe(LOG.pop()(), loop)
    assert INSIDE.wait(10)
    del EXPORT
    cut = rt.remove("geo", drain_timeout=0.05)
    assert not cut.drained
    GO_ON.set()
    begun.result(10)


# --- left running --------------------------------------------------------------------------------


def test_a_thread_that_nothing_ends_is_named_and_its_plugin_is_not_gone(rt, plugins, monkeypatch):
    monkeypatch.setattr("epochal._core.generation.orphan_threads._JOIN_S", 0.02)
    code = """
def init(ctx):
    threading.Thread(target=GO_ON.wait, args=(20,), name="library").start()
"""
    load(rt, plugins, code)
    cut = rt.remove("geo")
    (line,) = cut.failures
    assert line.startswith("thread 'library', begun by init() at geo.py:28 in init, still runs at ")
    assert not cut.reclaimed


def test_a_thread_that_a_call_began_is_named(rt, plugins, monkeypatch):
    monkeypatch.setattr("epochal._core.generation.orphan_threads._JOIN_S", 0.02)
    code = """
@tool
def begin(): threading.Thread(target=GO_ON.wait, args=(20,), name="library").start()
"""
    load(rt, plugins, code)
    rt.epoch[tool]["geo.begin"]()
    cut = rt.remove("geo")
    assert cut.drained
    (line,) = cut.failures
    assert line.startswith("thread 'library', begun by a call at geo.py:28 in begin, still runs at")


def test_the_hosts_threads_are_not_named(rt, plugins):
    code = """
def init(ctx): host.POOL.submit(int).result(20)
@tool
def begin(): host.POOL.submit(int).result(20)
"""
    load(rt, plugins, code)
    rt.epoch[tool]["geo.begin"]()
    cut = rt.remove("geo")
    assert cut.failures == ()
    assert POOL.submit(int).result(10) == 0


LIBRARIES = {
    "a socket server": """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200); self.end_headers()
def init(ctx):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    host.PORTS.append(server.server_port)
    threading.Thread(target=server.serve_forever, name="library").start()
""",
    "a log queue's listener": """
import logging, logging.handlers
class Handler(logging.Handler):
    def emit(self, record): pass
def init(ctx):
    listener = logging.handlers.QueueListener(queue.Queue(), Handler())
    listener.start()
    listener._thread.name = "library"
""",
    "an executor": """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1, thread_name_prefix="library")
def init(ctx):
    for _ in range(100): pool.submit(time.sleep, 0.05)
""",
    "an event loop": """
loop = asyncio.new_event_loop()
def init(ctx): threading.Thread(target=loop.run_forever, name="library").start()
def shutdown(): LOG.append(loop)
""",
    "a timer": """
def init(ctx):
    timer = threading.Timer(60, wait)
    timer.name = "library"
    timer.start()
""",
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_librarys_thread_ends_where_the_library_has_a_way(rt, plugins, library):
    load(rt, plugins, LIBRARIES[library])
    cut = rt.remove("geo")
    assert not any(t.name.startswith("library") for t in threading.enumerate())
    assert any("thread 'library" in line for line in cut.cleaned_up), cut
    assert cut.failures == ()
    assert cut.reclaimed, cut.leaks
    for port in PORTS:
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
    for loop in LOG:
        loop.close()


# --- changes asked for by the plugin's own work --------------------------------------------------

ASKED = {
    "task": "ctx.create_task(ask())",
    "host's loop": "asyncio.run_coroutine_threadsafe(ask(), LOOPS[0])",
    "spawn": "ctx.spawn(lambda: asyncio.run(ask()))",
    "thread": "threading.Thread(target=asyncio.run, args=(ask(),)).start()",
}


@pytest.mark.parametrize("begin", ASKED)
def test_work_that_init_began_may_ask_for_changes_afterwards(rt, plugins, loop, begin):
    global RT
    RT = rt
    rt.load(plugins.write("other", "@tool\ndef f(): return 1\n"))
    code = f"""
async def ask():
    assert await asyncio.to_thread(GO_ON.wait, 20)
    try:
        await host.RT.areload("other")
        LOG.append("reloaded")
    except Exception as error:
        LOG.append(error)
    INSIDE.set()
def init(ctx): {ASKED[begin]}
"""
    load(rt, plugins, code)
    GO_ON.set()
    assert INSIDE.wait(10)
    assert LOG == ["reloaded"]


def test_a_task_may_not_ask_for_a_change_while_init_waits_for_it(rt, plugins, loop):
    global RT
    RT = rt
    code = """
async def ask(): await host.RT.areload("geo")
def init(ctx):
    try:
        asyncio.run_coroutine_threadsafe(ask(), LOOPS[0]).result(20)
    except Exception as error:
        LOG.append(type(error))
"""
    load(rt, plugins, code)
    assert [NestedChangeError] == LOG
