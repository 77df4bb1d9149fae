"""A plugin that cannot be there twice is stopped before its new version starts."""

import asyncio
import socket
import sys
import threading
import types

import pytest
from tests.conftest import free_port, tool

from epochal import Runtime
from epochal.errors import (
    ChangeCancelledError,
    HandOverError,
    IncompatibleError,
    InitError,
    LinkError,
    ManifestError,
    PhaseTimeoutError,
    StopTimeoutError,
    UnknownExportError,
)
from epochal.kinds import service

HEAD = """\
# /// plugin
# id = "{id}"
# version = "{n}.0"
# requires = [{requires}]
# handover = "stop-first"
# ///
import asyncio
import the_host
from tests.conftest import tool
"""
CODE = """
the_host.enter("{id}")
@tool
def answer(): return {n}
@tool
def slow():
    the_host.inside.set(); the_host.go.wait(20); the_host.note("slow", {n})
    return {n}
@tool
async def later():
    await asyncio.sleep(0)
    return {n}
@tool
def rows():
    yield {n}
    yield {n}
@tool
async def arows():
    yield {n}
def init(ctx):
    the_host.note("init", {n})
def shutdown():
    the_host.note("shutdown", {n})
    the_host.entries.discard("{id}")
"""


@pytest.fixture
def host(monkeypatch):
    """A host's registry that refuses a second entry of a name."""
    module = types.ModuleType("the_host")
    module.entries, module.log = set(), []
    module.inside, module.go = threading.Event(), threading.Event()
    module.note = lambda *entry: module.log.append(entry)

    def enter(name):
        if name in module.entries:
            raise ValueError(f"{name!r} is registered already")
        module.entries.add(name)

    module.enter = enter
    monkeypatch.setitem(sys.modules, "the_host", module)
    yield module
    module.go.set()


def save(plugins, n, more="", plugin="geo", requires=()):
    path = plugins.root / f"{plugin}.py"
    names = ", ".join(f'"{name}"' for name in requires)
    head = HEAD.format(id=plugin, n=n, requires=names)
    path.write_text(head + CODE.format(id=plugin, n=n) + more)
    return path


def call(rt, name="geo.answer"):
    return rt.epoch[tool][name]()


def test_the_old_version_is_shut_down_before_the_new_one_runs_any_code(rt, plugins, host):
    rt.load(save(plugins, 1))
    save(plugins, 2)
    cut = rt.reload("geo")
    assert (call(rt), cut.drained, cut.reclaimed) == (2, True, True)
    assert host.log == [("init", 1), ("shutdown", 1), ("init", 2)]
    (swap,) = cut.swaps
    assert swap.pause_ms > 0
    names = [step.split()[0] for step in cut.steps]
    assert names[3:7] == ["pause", "stop", "link", "init"]
    assert names[-2:] == ["publish", "reclaim"]
    assert cut.epoch_after == cut.epoch_before + 1
    for n in range(3, 6):
        save(plugins, n)
        assert rt.reload("geo").reclaimed
    assert rt.remove("geo").drained
    assert rt.load(save(plugins, 6)).published


def test_a_port_goes_from_version_to_version(rt, plugins, host):
    port = free_port()
    more = f"""
import socket
def init(ctx):
    server = ctx.enter_context(socket.socket())
    server.bind(("127.0.0.1", {port}))
    server.listen()
"""
    rt.load(save(plugins, 1, more))
    save(plugins, 2, more)
    assert rt.reload("geo").drained
    socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_no_call_is_refused_or_sees_two_versions_at_once(rt, plugins, host):
    rt.load(save(plugins, 0))
    stop, wrong, calls = threading.Event(), [], [0]

    def ask():
        seen = 0
        while not stop.is_set():
            try:
                epoch = rt.epoch
                table = epoch[tool]
                first = table["geo.answer"]()
                if first < seen or table["geo.answer"]() != first:
                    wrong.append((seen, first))
                if list(table["geo.rows"]()) != [first, first]:
                    wrong.append("rows")
                if asyncio.run(table["geo.later"]()) != first:
                    wrong.append("later")
                seen, calls[0] = first, calls[0] + 1
            except BaseException as error:  # noqa: BLE001  the test's outcome
                wrong.append(error)
                return
            del epoch, table

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for n in range(1, 6):
            save(plugins, n)
            assert rt.reload("geo").drained
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert not wrong
    assert calls[0]


def test_calls_wait_for_the_new_version_each_in_its_own_way(rt, plugins, host):
    rt.load(save(plugins, 1))
    answers, paused = [], threading.Event()
    host.paused, host.started = paused, threading.Event()
    more = "the_host.paused.set(); the_host.started.wait(20)\n"
    save(plugins, 2, more)
    change = threading.Thread(target=lambda: rt.reload("geo"))
    change.start()
    assert paused.wait(20)  # the new version links: the old one is gone
    table = rt.epoch[tool]
    assert rt.epoch.number == 1

    async def all_of_them():
        async def listed():
            return [n async for n in table["geo.arows"]()]

        return await asyncio.gather(table["geo.later"](), listed())

    waiting = [
        threading.Thread(target=lambda: answers.append(table["geo.answer"]())),
        threading.Thread(target=lambda: answers.append(list(table["geo.rows"]()))),
        threading.Thread(target=lambda: answers.append(asyncio.run(all_of_them()))),
    ]
    for thread in waiting:
        thread.start()
    assert not answers
    host.started.set()
    for thread in (*waiting, change):
        thread.join(20)
    assert sorted(map(str, answers)) == ["2", "[2, 2]", "[2, [2]]"]


def test_a_call_inside_ends_before_the_shutdown(rt, plugins, host):
    rt.load(save(plugins, 1))
    thread = threading.Thread(target=rt.epoch[tool]["geo.slow"])
    thread.start()
    assert host.inside.wait(20)
    save(plugins, 2)
    change = threading.Thread(target=lambda: rt.reload("geo"))
    change.start()
    for _ in range(2000):
        if rt.generation("geo").state.name == "DRAINING":
            break
        threading.Event().wait(0.005)
    assert ("shutdown", 1) not in host.log
    host.go.set()
    thread.join(20), change.join(20)
    assert host.log.index(("slow", 1)) < host.log.index(("shutdown", 1))
    assert call(rt) == 2


def test_a_call_from_inside_the_old_version_does_not_wait_for_the_pause(rt, plugins, host):
    host.rt = rt
    more = """
@tool
def outer():
    the_host.inside.set(); the_host.go.wait(20)
    return the_host.rt.epoch[tool]["geo.answer"]()
"""
    rt.load(save(plugins, 1, more))
    answers = []
    function = rt.epoch[tool]["geo.outer"]
    thread = threading.Thread(target=lambda f: answers.append(f()), args=(function,))
    thread.start()
    del function
    assert host.inside.wait(20)
    save(plugins, 2, more)
    change = threading.Thread(target=lambda: rt.reload("geo"))
    change.start()
    for _ in range(2000):
        if rt.generation("geo").state.name == "DRAINING":
            break
        threading.Event().wait(0.005)
    host.go.set()
    thread.join(20), change.join(20)
    assert (answers, call(rt)) == ([1], 2)


# --- failures ----------------------------------------------------------------------------------


def test_a_use_that_does_not_end_in_time_refuses_the_change(plugins, host):
    with Runtime(pause_timeout=0.2, drain_timeout=5.0) as rt:
        rt.load(save(plugins, 1))
        with rt.operation("a long report") as operation:
            epoch = rt.epoch
            save(plugins, 2)
            with pytest.raises(StopTimeoutError, match="a long report") as caught:
                rt.reload("geo")
            assert "calls of geo waited for" in "\n".join(caught.value.__notes__)
            assert rt.epoch is epoch  # the very same (E5)
            assert (call(rt), rt.generation("geo").state.name) == (1, "ACTIVE")
            assert host.log == [("init", 1)]
            del epoch, operation
        assert rt.reload("geo").drained
        assert call(rt) == 2


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ("1/0\n", LinkError),
        ("def init(ctx): 1/0\n", InitError),
        ("def init(ctx):\n    ctx.defer(the_host.note, 'deferred', 2)\n    1/0\n", InitError),
        ("import asyncio as a\na.x = tool\ndef init(ctx): ctx.demand('net:x')\n", Exception),
    ],
)
def test_the_old_version_is_started_again_if_the_new_one_fails(rt, plugins, host, more, error):
    rt.load(save(plugins, 1))
    number, identity = rt.epoch.number, rt.epoch.id
    text = (plugins.root / "geo.py").read_text()
    save(plugins, 2, "def shutdown(): the_host.entries.discard('geo')\n" + more)
    if error is LinkError:
        # Its module ran, but there is no shutdown to call: it must let go by itself.
        save(plugins, 2, "the_host.entries.discard('geo')\n" + more)
    if error is InitError:
        more = more.replace("1/0", "the_host.entries.discard('geo'); 1/0")
        save(plugins, 2, more)
    if error is Exception:
        save(
            plugins, 2, more.replace("def init(ctx): ", "def init(ctx): the_host.entries.clear(); ")
        )
    with pytest.raises(error) as caught:
        rt.reload("geo")
    assert "geo was started again, as geo#2" in "\n".join(caught.value.__notes__)
    assert (call(rt), rt.epoch.number, rt.epoch.id) == (1, number, identity)
    assert [entry for entry in host.log if entry[0] != "deferred"][-1] == ("init", 1)
    assert rt.generation("geo").state.name == "ACTIVE"
    del caught
    (plugins.root / "geo.py").write_text(text.replace("return 1", "return 3"))
    assert rt.reload("geo").reclaimed
    assert call(rt) == 3


def test_a_version_that_cannot_be_started_again_is_gone_and_named(rt, plugins, host):
    rt.load(save(plugins, 1))
    rt.load(save(plugins, 1, plugin="other"))
    save(plugins, 2, "1/0\n")  # the entry of its module stays: a second start is refused
    with pytest.raises(LinkError) as caught:
        rt.reload("geo")
    assert "geo could not be started again: LinkError" in "\n".join(caught.value.__notes__)
    assert list(rt.epoch.generations) == ["other"]
    assert call(rt, "other.answer") == 1
    host.entries.discard("geo")
    rt.load(save(plugins, 3))
    assert call(rt) == 3


def test_calls_that_wait_for_a_version_that_is_gone_are_told(rt, plugins, host):
    rt.load(save(plugins, 1))
    paused, errors = threading.Event(), []
    host.paused, host.started = paused, threading.Event()
    save(plugins, 2, "the_host.paused.set(); the_host.started.wait(20); 1/0\n")

    def reload():
        with pytest.raises(LinkError):
            rt.reload("geo")

    def ask():
        with pytest.raises(UnknownExportError) as caught:
            call(rt)
        errors.append(caught.value)

    change = threading.Thread(target=reload)
    change.start()
    assert paused.wait(20)
    waiting = threading.Thread(target=ask)
    waiting.start()
    host.started.set()
    change.join(20), waiting.join(20)
    assert len(errors) == 1


def test_a_shutdown_that_raises_is_reported_and_the_new_version_starts(rt, plugins, host):
    more = "def shutdown(): the_host.entries.discard('geo'); 1/0\n"
    rt.load(save(plugins, 1, more))
    save(plugins, 2)
    cut = rt.reload("geo")
    assert (call(rt), len(cut.failures)) == (2, 1)


def test_a_shutdown_that_does_not_return_refuses_the_change(plugins, host):
    more = "def shutdown(): the_host.entries.discard('geo'); the_host.go.wait(20)\n"
    with Runtime(phase_timeout=0.2, drain_timeout=5.0) as rt:
        rt.load(save(plugins, 1, more))
        save(plugins, 2)
        with pytest.raises(PhaseTimeoutError) as caught:
            rt.reload("geo")
        assert "geo was started again" in "\n".join(caught.value.__notes__)
        assert call(rt) == 1
        host.go.set()


def test_an_init_that_does_not_return_starts_the_old_version_again(plugins, host):
    more = "def init(ctx): the_host.entries.discard('geo'); the_host.go.wait(20)\n"
    with Runtime(phase_timeout=0.2, drain_timeout=5.0) as rt:
        rt.load(save(plugins, 1))
        save(plugins, 2, more)
        with pytest.raises(PhaseTimeoutError):
            rt.reload("geo")
        assert call(rt) == 1
        host.go.set()


def test_a_cancelled_change_serves_the_old_version(rt, plugins, host):
    rt.load(save(plugins, 1))
    save(plugins, 2)

    async def cancelled():
        task = asyncio.ensure_future(rt.areload("geo"))
        while rt.generation("geo").state.name != "DRAINING":
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, ChangeCancelledError)):
            await task

    with rt.operation("holds it"):
        asyncio.run(cancelled())
    assert (call(rt), host.log) == (1, [("init", 1)])


def test_a_dry_run_stops_nothing(rt, plugins, host):
    rt.load(save(plugins, 1))
    save(plugins, 2)
    with rt.change(dry_run=True) as change:
        change.reload("geo")
    assert "stop geo generation 0" in change.cutover.steps
    assert (host.log, call(rt)) == ([("init", 1)], 1)


# --- other plugins, state, tables -----------------------------------------------------------------


def test_plugins_that_require_it_are_stopped_and_started_with_it(rt, plugins, host):
    code = """
import the_host
def init(ctx): global geo; geo = ctx.require('geo')
def shutdown(): the_host.note('shutdown', 'area')
@tool
def twice(): return 2 * geo.answer()
"""
    rt.load(save(plugins, 1))
    rt.load(plugins.write("area", code, requires=["geo"]))
    save(plugins, 2)
    cut = rt.reload("geo")
    assert (rt.epoch[tool]["area.twice"](), cut.drained) == (4, True)
    assert host.log.index(("shutdown", "area")) < host.log.index(("shutdown", 1))
    save(plugins, 3, "the_host.entries.discard('geo'); 1/0\n")
    with pytest.raises(LinkError):
        rt.reload("geo")
    assert rt.epoch[tool]["area.twice"]() == 4


def test_the_plugins_own_state_moves(rt, plugins, host):
    more = """
count = 0
@tool
def add():
    global count
    count += 1
    return count
def export_state(): return count
def import_state(state, version):
    global count
    count = state
"""
    rt.load(save(plugins, 1, more))
    assert [call(rt, "geo.add") for _ in range(3)] == [1, 2, 3]
    save(plugins, 2, more)
    rt.reload("geo")
    assert call(rt, "geo.add") == 4
    save(plugins, 3, more + "the_host.entries.discard('geo')\n1/0\n")
    with pytest.raises(LinkError):
        rt.reload("geo")
    assert call(rt, "geo.add") == 5
    save(plugins, 4)
    assert len(rt.reload("geo").dropped) == 1


@pytest.mark.parametrize(
    "code",
    ["    yield", "    raise ValueError('no')", "    raise KeyError('no')"],
    ids=["ran nothing", "refused", "raised"],
)
def test_state_that_is_not_taken_over_refuses_the_change(rt, plugins, host, code):
    """A generator runs none of its code: its state would be lost without a word."""
    state = "def export_state(): return 7\ndef import_state(state, version):\n"
    rt.load(save(plugins, 1, state + "    the_host.state = state\n"))
    save(plugins, 2, state + code)
    refused = "the state of plugin 'geo' could not be handed over"
    with pytest.raises((IncompatibleError, HandOverError), match=refused):
        rt.reload("geo")
    assert (call(rt), host.state) == (1, 7)


@pytest.mark.parametrize(
    "code",
    ["    yield 7", "    raise ValueError('no')", "    raise KeyError('no')"],
    ids=["ran nothing", "refused", "raised"],
)
def test_state_that_is_not_exported_refuses_the_change_before_the_shutdown(rt, plugins, host, code):
    state = f"def export_state():\n{code}\ndef import_state(state, version): pass\n"
    rt.load(save(plugins, 1, state))
    save(plugins, 2, state)
    refused = "the state of plugin 'geo' could not be exported"
    with pytest.raises((IncompatibleError, HandOverError), match=refused):
        rt.reload("geo")
    assert (call(rt), host.log) == (1, [("init", 1)])
    assert rt.epoch.generations["geo"].number == 0
    assert rt.remove("geo").drained


def test_an_export_of_state_that_does_not_return_refuses_the_change(plugins, host):
    state = "def export_state(): the_host.go.wait(20)\ndef import_state(state, version): pass\n"
    with Runtime(phase_timeout=0.1) as rt:
        rt.load(save(plugins, 1, state))
        save(plugins, 2, state)
        with pytest.raises(PhaseTimeoutError, match="geo#0"):
            rt.reload("geo")
        assert (call(rt), host.log) == (1, [("init", 1)])
        host.go.set()
        assert rt.remove("geo").drained


def test_entries_in_tables_go_and_come_with_it(rt, plugins, host):
    host.tools = {}
    more = "def init(ctx): ctx.register(the_host.tools, 'geo', answer)\n"
    rt.load(save(plugins, 1, more))
    save(plugins, 2, more)
    assert rt.reload("geo").drained
    assert host.tools["geo"]() == 2
    save(plugins, 3, "the_host.entries.discard('geo'); 1/0\n")
    with pytest.raises(LinkError):
        rt.reload("geo")
    assert host.tools["geo"]() == 2
    assert rt.remove("geo").drained
    assert not host.tools


def test_either_version_may_ask_for_it(rt, plugins, host):
    text = save(plugins, 1).read_text()
    path = plugins.root / "geo.py"
    path.write_text(text.replace("stop-first", "side-by-side"))
    rt.load(path)
    path.write_text(text)
    assert rt.reload("geo").drained
    path.write_text(text.replace("stop-first", "side-by-side"))
    assert rt.reload("geo").drained


def test_exports_that_need_both_versions_are_refused(rt, plugins, host):
    assert service is not None
    more = "from epochal.kinds import service\n@service\nclass Counter: pass\n"
    rt.load(save(plugins, 1, more))
    with pytest.raises(IncompatibleError, match=r"service geo\.Counter needs both"):
        rt.reload("geo")
    assert host.log == [("init", 1)]


def test_another_value_is_refused(rt, plugins, host):
    path = save(plugins, 1)
    path.write_text(path.read_text().replace("stop-first", "stop"))
    with pytest.raises(ManifestError, match="expected 'side-by-side' or 'stop-first'"):
        rt.load(path)


def test_a_restart_from_the_store_serves_what_was_started_again(start, plugins, host):
    rt = start()
    rt.load(save(plugins, 1))
    save(plugins, 2, "the_host.entries.discard('geo'); 1/0\n")
    with pytest.raises(LinkError):
        rt.reload("geo")
    identity = rt.epoch.id
    rt.close()
    rt = start()
    assert (call(rt), rt.epoch.id) == (1, identity)
    save(plugins, 3)
    assert rt.reload("geo").published
    rt.close()
    assert call(start()) == 3


def test_a_plugin_that_could_not_be_started_again_is_gone_from_the_store(start, plugins, host):
    rt = start()
    rt.load(save(plugins, 1))
    rt.load(save(plugins, 1, plugin="other"))
    save(plugins, 2, "1/0\n")
    with pytest.raises(LinkError):
        rt.reload("geo")
    rt.close()
    host.entries.clear()
    rt = start()
    assert list(rt.epoch.generations) == ["other"]
