"""A plugin may do anything at any step: the host sees the change fail, and nothing else."""

import builtins
import logging
import os
import subprocess
import sys
import textwrap
import threading

import pytest
from tests.conftest import PluginFolder, tool
from tests.integration.test_resources import footprint
from tests.sizes import sized

from epochal import LifecycleState, Runtime
from epochal.errors import EpochalError, PhaseTimeoutError

GATE = threading.Event()

ABORTS = {
    "an Exception": "raise ValueError('no')",
    "a BaseException of its own": "raise type('Mine', (BaseException,), {})('no')",
    "SystemExit": "raise SystemExit(3)",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "MemoryError": "raise MemoryError",
    "GeneratorExit": "raise GeneratorExit",
    "StopIteration": "raise StopIteration",
    "an ExceptionGroup": "raise ExceptionGroup('several', [ValueError('a'), TypeError('b')])",
    "recursion without end": "def again(): again()\nagain()",
    "an exception that cannot be printed": (
        "class E(Exception):\n"
        "    def __str__(self): raise SystemExit\n    __repr__ = __str__\nraise E"
    ),
    "sys.exit in a finally": "try:\n    1 / 0\nfinally:\n    __import__('sys').exit(1)",
    "a thread, then an error": (
        "import threading\nthreading.Thread(target=print, args=('',), name='geo-x').start()\n1 / 0"
    ),
    "a replaced builtin, then an error": "import builtins\nbuiltins.len = None\nraise ValueError",
    "a replaced module, then an error": "import sys\nsys.modules['json'] = None\nraise ValueError",
    "sys.path, then an error": "import sys\nsys.path.insert(0, '/nowhere')\nraise ValueError",
    "a log handler, then an error": (
        "import logging\nlogging.getLogger().addHandler(logging.NullHandler())\nraise ValueError"
    ),
    "a signal handler": "import signal\nsignal.signal(signal.SIGTERM, lambda *a: None)",
    "a context variable, then an error": (
        "import contextvars\nV = contextvars.ContextVar('v')\nV.set(1)\nraise ValueError"
    ),
    "a change of its own": "from tests.integration.test_faults import RT\nRT[0].load('x.py')",
}
WHERE = ("link", "register", "init")
RT = []

GOOD = """
@tool
def version(): return {n}
"""


def plugin(where, fault):
    body = textwrap.indent(fault, "    ")
    code = {
        "link": fault,
        "register": f"def register(ctx):\n{body}",
        "init": f"def init(ctx):\n{body}",
    }[where]
    return f"{code}\n{GOOD.format(n=2)}"


@pytest.fixture
def host(rt, plugins):
    """Two plugins, one of which requires the other, both in use."""
    rt.load(plugins.write("base", GOOD.format(n=1)))
    rt.load(plugins.write("geo", GOOD.format(n=1), requires=["base"]))
    RT[:] = [rt]
    yield rt
    RT.clear()
    GATE.set()


def unharmed(rt, epoch, before, threads):
    assert rt.epoch is epoch, "the current epoch is the same object as before"
    for name in ("base", "geo"):
        assert rt.generation(name).state is LifecycleState.ACTIVE
        assert rt.epoch[tool][f"{name}.version"]() == 1
    assert footprint() == before
    left = {t for t in threading.enumerate() if not t.name.startswith("epochal")} - threads
    for thread in left:
        thread.join(10)
    assert not any(thread.is_alive() for thread in left if thread.name.startswith("geo"))


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(
    ("faulty", "case"),
    [
        # Of the first plugin, every sixth in a quick run: the code around the step is the same.
        *(("base", case) for case in list(ABORTS)[:: sized(6, 1)]),
        *(("geo", case) for case in ABORTS),
    ],
)
def test_an_aborted_step_leaves_everything_as_it_was(host, plugins, case, where, faulty):
    """Each step of each plugin of a change of two: the first, and the one that depends on it."""
    code = {"base": GOOD.format(n=2), "geo": GOOD.format(n=2)}
    code[faulty] = plugin(where, ABORTS[case])
    base = plugins.write("base", code["base"])
    geo = plugins.write("geo", code["geo"], requires=["base"])
    epoch, before = host.epoch, footprint()
    threads = set(threading.enumerate())
    blamed = "by code that a change" if case == "a change of its own" else f"'{faulty}'"
    with pytest.raises(EpochalError, match=blamed), host.change() as change:
        change.reload("base", base)
        change.reload("geo", geo)
    unharmed(host, epoch, before, threads)
    del epoch, before  # the list of modules would keep this version's
    with host.change() as change:  # and the runtime goes on
        change.reload("base", plugins.write("base", GOOD.format(n=3)))
    assert host.epoch[tool]["base.version"]() == 3


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("faulty", ["base", "geo"])
def test_a_step_that_blocks_for_ever_is_abandoned_and_its_thread_named(
    host, plugins, where, faulty
):
    GATE.clear()
    block = "from tests.integration.test_faults import GATE\nGATE.wait(30)"
    code = {"base": GOOD.format(n=2), "geo": GOOD.format(n=2)}
    code[faulty] = plugin(where, block)
    base = plugins.write("base", code["base"])
    geo = plugins.write("geo", code["geo"], requires=["base"])
    epoch, before = host.epoch, footprint()
    threads = set(threading.enumerate())
    given_up = pytest.raises(PhaseTimeoutError, match="thread 'epochal change")
    with given_up, host.change(phase_timeout=0.05) as change:
        change.reload("base", base)
        change.reload("geo", geo)
    unharmed(host, epoch, before, threads)
    del epoch, before  # their frame is in a circle with the error
    GATE.set()


@pytest.mark.parametrize("case", ["an Exception", "SystemExit", "recursion without end"])
def test_a_failing_shutdown_is_reported_and_blocks_nothing(host, plugins, case):
    body = textwrap.indent(ABORTS[case], "    ")
    host.reload("geo", plugins.write("geo", f"def shutdown():\n{body}\n{GOOD.format(n=1)}"))
    cut = host.reload("geo", plugins.write("geo", GOOD.format(n=2)))
    assert cut.drained
    assert any("shutdown()" in line for line in cut.failures)
    assert host.epoch[tool]["geo.version"]() == 2


def test_a_patch_of_a_host_module_goes_with_the_plugin(host, plugins):
    code = """
import tests.integration.test_faults as victim
def fake(): return "fake"
victim.patched = fake
"""
    host.load(plugins.write("evil", code))
    assert globals()["patched"]() == "fake"
    cut = host.remove("evil")
    assert "patched" not in globals()
    assert any("test_faults.patched" in line for line in cut.cleaned_up), cut.cleaned_up
    assert cut.reclaimed, cut.leaks


def test_an_event_loop_task_left_behind_is_named(plugins):
    import asyncio

    code = """
import asyncio
async def helper(): await asyncio.sleep(20)
TASKS = []
@tool
async def start(): TASKS.append(asyncio.create_task(helper(), name="left-behind"))
"""

    async def main():
        async with Runtime() as rt:
            await rt.aload(plugins.write("geo", code))
            await rt.epoch[tool]["geo.start"]()
            cut = await rt.aremove("geo", drain_timeout=0.0)
            assert any("left-behind" in line for line in map(str, cut.holders))
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    asyncio.run(main())


# --- what cannot be undone, and what would take the test process along: in a process of its own ---

PROLOGUE = """
import os, sys, threading
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.conftest import PluginFolder, tool
from epochal import Runtime
plugins = PluginFolder(Path({folder!r}))
rt = Runtime()
"""


def in_a_process(tmp_path, code):
    root = os.fspath(__import__("pathlib").Path(__file__).parents[2])
    prologue = PROLOGUE.format(root=root, folder=os.fspath(tmp_path))
    return subprocess.run(
        [sys.executable, "-c", prologue + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize(
    "hold",
    [
        "import sys\ndef hook(*args): pass\nsys.addaudithook(hook)",
        "import os\ndef hook(): pass\nos.register_at_fork(before=hook)",
    ],
)
def test_what_nothing_can_undo_is_named(tmp_path, hold):
    done = in_a_process(
        tmp_path,
        f"""
        rt.load(plugins.write("geo", {hold!r}))
        cut = rt.remove("geo")
        print(cut.drained, cut.reclaimed, cut.leaks)
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True False")
    assert "geo.hook" in done.stdout
    assert "audit hook" in done.stdout


def test_a_fork_inside_a_step_runs_nothing_of_the_host_in_the_child(tmp_path):
    done = in_a_process(
        tmp_path,
        """
        code = "import os\\ndef init(ctx):\\n    if os.fork():\\n        os.wait()\\n"
        rt.load(plugins.write("geo", code + "@tool\\ndef f(): return 1\\n"))
        print("loaded in", os.getpid() == MAIN, rt.epoch[tool]["geo.f"](), flush=True)
        rt.close()
        """.replace("MAIN", "__import__('os').getpid()"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "loaded in True 1\n"


def test_ctrl_c_during_a_step_rolls_the_change_back(tmp_path):
    done = in_a_process(
        tmp_path,
        """
        code = '''
        import os, signal, threading
        gate = threading.Event()
        def init(ctx):
            os.kill(os.getpid(), signal.SIGINT)
            gate.wait(30)
        '''
        import signal, textwrap
        # A wait misses a signal that comes in the instant before it begins; the next one wakes it.
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
        try:
            rt.load(plugins.write("geo", textwrap.dedent(code)))
        except KeyboardInterrupt:
            print("interrupted", rt.epoch.number, list(rt.epoch.generations), flush=True)
        os._exit(0)
        """,
    )
    assert done.stdout == "interrupted 0 []\n", done.stderr


def test_the_catalogue_is_worth_its_name():
    assert len(ABORTS) >= 18
    assert builtins.len is len
    assert logging.root
    assert PluginFolder
