"""A new version finds what the host had, not what its predecessor put there."""

import builtins
import logging
import sys
import threading
import types
import warnings

import pytest
from tests.notes import notes_of
from tests.sizes import sized

from epochal.errors import InitError, PhaseTimeoutError

GO, AT = threading.Event(), threading.Event()
LOG = []


class Router:
    def resolve(self):
        return []


class Special(Router): ...


def answer():
    return []


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    GO.clear(), AT.clear(), LOG.clear()
    for module, name in (
        *((sys, "excepthook"), (sys, "displayhook"), (sys, "unraisablehook"), (sys, "stdout")),
        *((threading, "excepthook"), (builtins, "print"), (logging, "_logRecordFactory")),
        *((logging, "_loggerClass"), (warnings, "showwarning"), (warnings, "formatwarning")),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))
    yield
    GO.set()


def function_hook(module, name):
    """A plugin that puts a function over the one before; its chain is the versions it calls."""
    code = f"""
import {module.partition(".")[0]}, {module}
before = {module}.{name}
def hook(*args, **kw): return before(*args, **kw)
hook.chain = lambda: [V, *(before.chain() if hasattr(before, "chain") else [])]
{module}.{name} = hook
"""

    def chain():
        hook = getattr(sys.modules[module], name)
        return hook.chain() if hasattr(hook, "chain") else []

    return code, chain


HOOKS = {
    f"{module}.{name}": function_hook(module, name)
    for module, name in (
        *(("sys", "excepthook"), ("sys", "displayhook"), ("sys", "unraisablehook")),
        *(("threading", "excepthook"), ("builtins", "print")),
        *(("warnings", "showwarning"), ("warnings", "formatwarning")),
    )
}
HOOKS["sys.stdout"] = (
    """
import sys
class Tee:
    def __init__(self, before): self.before = before
    def write(self, text): return self.before.write(text)
    def flush(self): self.before.flush()
    def chain(self): return [V, *(self.before.chain() if hasattr(self.before, "chain") else [])]
sys.stdout = Tee(sys.stdout)
""",
    lambda: sys.stdout.chain() if hasattr(sys.stdout, "chain") else [],
)
HOOKS["logging.setLogRecordFactory"] = (
    """
import logging
before = logging.getLogRecordFactory()
def factory(*args, **kw):
    record = before(*args, **kw)
    record.chain = [V, *getattr(record, "chain", [])]
    return record
logging.setLogRecordFactory(factory)
""",
    lambda: getattr(logging.getLogRecordFactory()("n", 20, "f", 1, "m", (), None), "chain", []),
)
HOOKS["logging.setLogRecordFactory, by name"] = (
    HOOKS["logging.setLogRecordFactory"][0]
    .replace("import logging\n", "from logging import getLogRecordFactory, setLogRecordFactory\n")
    .replace("logging.get", "get")
    .replace("logging.set", "set"),
    HOOKS["logging.setLogRecordFactory"][1],
)
HOOKS["logging.setLoggerClass"] = (
    """
import logging
class Mine(logging.getLoggerClass()):
    chain = [V, *getattr(logging.getLoggerClass(), "chain", [])]
logging.setLoggerClass(Mine)
""",
    lambda: getattr(logging.getLoggerClass(), "chain", []),
)
PATCH = """
from tests.integration.test_hooks_over_hooks import Router, Special
before = Router.resolve
def resolve(self): return [V, *before(self)]
Router.resolve = resolve
"""
HOOKS["a patched method"] = (PATCH, lambda: Router().resolve())
HOOKS["a patched method, inherited"] = (
    PATCH.replace("Router.resolve", "Special.resolve"),
    lambda: Special().resolve(),
)
HOOKS["a patched function of a module"] = (
    "import tests.integration.test_hooks_over_hooks as host\nbefore = host.answer\n"
    "def answer(): return [V, *before()]\nhost.answer = answer\n",
    lambda: sys.modules[__name__].answer(),
)


def write(plugins, code, version, *, init=False, end="", plugin="geo"):
    if init:
        names = "before, chain"
        body = "\n".join(f"    {line}" for line in code.splitlines())
        code = f"def init(ctx):\n    global {names}\n{body}\n" if "class" not in code else code
    tail = "\n@tool\ndef f(): return V\n"
    return plugins.write(plugin, f"V = {version!r}\n{code}{tail}{end}")


FAILS = "def shut(): pass\ndef init(ctx): raise RuntimeError('no')\n"


@pytest.mark.parametrize("case", HOOKS)
@pytest.mark.parametrize("init", [False, True], ids=["link", "init"])
def test_one_version_is_over_the_hosts_after_any_number_of_reloads(rt, plugins, case, init):
    code, chain = HOOKS[case]
    rt.load(write(plugins, code, 0, init=init))
    assert chain() == [0]
    for version in range(1, 5):
        write(plugins, code, version, init=init)
        cut = rt.reload("geo")
        assert chain() == [version]
        assert cut.reclaimed, cut.leaks
    cut = rt.remove("geo")
    assert chain() == []
    assert cut.reclaimed, cut.leaks
    assert type(sys) is types.ModuleType


@pytest.mark.parametrize("case", HOOKS)
def test_a_refused_version_leaves_its_predecessors_hook_in_place(rt, plugins, case):
    code, chain = HOOKS[case]
    rt.load(write(plugins, code, 0))
    write(plugins, code, 1, end=FAILS)
    for _ in range(2):
        with pytest.raises(InitError) as caught:
            rt.reload("geo")
        assert chain() == [0]
        assert not notes_of(caught.value)
        del caught
    write(plugins, code, 2)
    cut = rt.reload("geo")
    assert chain() == [2]
    assert cut.reclaimed, cut.leaks
    rt.remove("geo")
    assert chain() == []


WAITS = "from tests.integration.test_hooks_over_hooks import AT, GO\nAT.set()\nGO.wait(20)\n"


@pytest.mark.parametrize("case", HOOKS)
def test_other_threads_keep_the_old_versions_hook_until_the_change_is_published(rt, plugins, case):
    """Only a class's attribute is the new one's, over the host's, from its assignment on."""
    code, chain = HOOKS[case]
    rt.load(write(plugins, code, 0))
    write(plugins, f"{WAITS.replace('AT.set()', 'pass').replace('GO.wait(20)', 'pass')}{code}", 1)
    plugins.write("geo", f"V = 1\n{code}{WAITS}\n@tool\ndef f(): return V\n")
    change = threading.Thread(target=rt.reload, args=("geo",))
    change.start()
    assert AT.wait(10)
    seen = chain()
    GO.set()
    change.join(20)
    assert seen == ([1] if "method" in case else [0])
    assert chain() == [1]


def test_every_record_passes_exactly_one_version_while_it_is_reloaded(rt, plugins):
    code, chain = HOOKS["logging.setLogRecordFactory"]
    patch, resolved = HOOKS["a patched method"]
    rt.load(write(plugins, code + patch.replace("before", "method"), 0))
    seen, ended = [], threading.Event()

    def ask():
        while not ended.is_set():
            seen.append((len(chain()), len(resolved())))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for version in range(1, sized(10, 30)):
        write(plugins, code + patch.replace("before", "method"), version)
        rt.reload("geo")
    ended.set()
    for thread in threads:
        thread.join(10)
    assert set(seen) == {(1, 1)}


def test_a_version_that_asks_whether_it_is_installed_installs_itself(rt, plugins):
    code = """
import logging
if not hasattr(logging.getLogRecordFactory(), "chain"):
    before = logging.getLogRecordFactory()
    def factory(*args, **kw): return before(*args, **kw)
    factory.chain = [V]
    logging.setLogRecordFactory(factory)
"""
    rt.load(write(plugins, code, 0))
    write(plugins, code, 1)
    rt.reload("geo")
    assert logging.getLogRecordFactory().chain == [1]


def test_a_version_sees_in_init_what_it_has_set_as_it_was_linked(rt, plugins):
    code, chain = HOOKS["sys.excepthook"]
    patch, _ = HOOKS["a patched method"]
    end = """
def init(ctx):
    import sys
    from tests.integration.test_hooks_over_hooks import LOG, Router
    LOG.append((sys.excepthook.chain(), Router().resolve()))
"""
    code += patch.replace("before", "method")
    rt.load(write(plugins, code, 0, end=end))
    write(plugins, code, 1, end=end)
    rt.reload("geo")
    assert LOG == [([0], [0]), ([1], [1])]
    assert chain() == [1]


def test_a_version_without_the_hook_gives_the_hosts_back(rt, plugins):
    code, chain = HOOKS["sys.excepthook"]
    host = sys.excepthook
    rt.load(write(plugins, code, 0))
    write(plugins, "", 1)
    rt.reload("geo")
    assert chain() == []
    assert sys.excepthook is host


@pytest.mark.parametrize("case", ["sys.excepthook", "a patched method"])
def test_two_plugins_of_one_change_stack_their_hooks_anew(rt, plugins, case):
    code, chain = HOOKS[case]
    for plugin in ("geo", "over"):
        rt.load(write(plugins, code, f"{plugin} 0", plugin=plugin))
    assert chain() == ["over 0", "geo 0"]
    for version in (1, 2):
        for plugin in ("geo", "over"):
            write(plugins, code, f"{plugin} {version}", plugin=plugin)
        with rt.change() as change:
            change.reload("geo")
            change.reload("over")
        assert chain() == [f"over {version}", f"geo {version}"]
        assert change.cutover.reclaimed, change.cutover.leaks
    rt.remove("over")
    assert chain() == ["geo 2"]
    rt.remove("geo")
    assert chain() == []


@pytest.mark.parametrize("case", HOOKS)
def test_removing_the_lower_of_two_hooks_leaves_the_upper_one_whole(rt, plugins, case):
    code, chain = HOOKS[case]
    rt.load(write(plugins, code, "lower"))
    rt.load(write(plugins, code, "upper", plugin="over"))
    assert chain() == ["upper", "lower"]
    cut = rt.remove("geo")
    assert not cut.reclaimed, "the upper one holds it, and is named"
    assert chain() == ["upper", "lower"]
    rt.remove("over")
    assert chain() == []


def test_a_hook_that_the_host_sets_meanwhile_stays(rt, plugins):
    code, _ = HOOKS["sys.excepthook"]
    rt.load(write(plugins, code, 0))
    plugins.write("geo", f"V = 1\n{code}{WAITS}\n@tool\ndef f(): return V\n")
    change = threading.Thread(target=rt.reload, args=("geo",))
    change.start()
    assert AT.wait(10)

    def hosts(*args): ...

    sys.excepthook = hosts
    GO.set()
    change.join(20)
    assert sys.excepthook is hosts


def test_a_version_that_hangs_leaves_the_tables_as_they_were(rt, plugins):
    code, chain = HOOKS["sys.excepthook"]
    patch, resolved = HOOKS["a patched method"]
    code += patch.replace("before", "method")
    rt.load(write(plugins, code, 0))
    plugins.write("geo", f"V = 1\n{code}{WAITS}\n@tool\ndef f(): return V\n")
    with pytest.raises(PhaseTimeoutError), rt.change(phase_timeout=0.3) as change:
        change.reload("geo")
    assert (chain(), resolved()) == ([0], [0])
    assert type(sys) is types.ModuleType
    GO.set()
    write(plugins, code, 2)
    rt.reload("geo")
    assert (chain(), resolved()) == ([2], [2])
