"""A program built on pluggy, with plugins that are reloaded: what pluggy promises holds."""

import gc
import threading

import pluggy
import pytest

from epochal import Runtime
from epochal._core.artifact import Artifact
from epochal.errors import ExportError
from epochal.pluggy import HookimplMarker, PluginManager

hookspec = pluggy.HookspecMarker("shop")
hookimpl = HookimplMarker("shop")


class Specs:
    @hookspec
    def each(self, x): ...

    @hookspec(firstresult=True)
    def one(self, x): ...

    @hookspec(historic=True)
    def started(self, x): ...


HEADER = """
# /// plugin
# id = "{id}"
# version = "1"
# ///
from tests.integration.test_pluggy import CALLS, hookimpl
"""
CALLS = []


def plugin(name, body):
    return Artifact(name, {f"{name}.py": (HEADER.format(id=name) + body).encode()})


def answering(name, answer, options="", hook="each"):
    return plugin(name, f"@hookimpl{options}\ndef {hook}(x): return {answer!r}\n")


@pytest.fixture
def rt():
    CALLS.clear()
    with Runtime() as runtime:
        yield runtime


@pytest.fixture
def pm(rt):
    manager = PluginManager("shop", rt)
    manager.add_hookspecs(Specs)
    yield manager
    manager._kind.specs = ()


def test_later_registrations_are_called_first_as_in_pluggy(rt, pm):
    rt.load(answering("a", 1))
    rt.load(answering("b", 2))
    assert pm.hook.each(x=0) == [2, 1]


def test_a_reloaded_plugin_is_one_that_was_registered_anew(rt, pm):
    rt.load(answering("a", 1))
    rt.load(answering("b", 2))
    rt.reload("a", answering("a", 3))
    assert pm.hook.each(x=0) == [3, 2]
    rt.remove("b")
    assert pm.hook.each(x=0) == [3]


def test_tryfirst_and_trylast(rt, pm):
    rt.load(answering("a", "first", "(tryfirst=True)"))
    rt.load(answering("b", "last", "(trylast=True)"))
    rt.load(answering("c", "middle"))
    assert pm.hook.each(x=0) == ["first", "middle", "last"]


def test_firstresult(rt, pm):
    rt.load(answering("a", 1, hook="one"))
    rt.load(answering("b", None, hook="one"))
    assert pm.hook.one(x=0) == 1


def test_wrappers_of_both_sorts(rt, pm):
    rt.load(answering("a", 1))
    new = "@hookimpl(wrapper=True)\ndef each(x):\n    return [*(yield), 'wrapped']\n"
    old = (
        "@hookimpl(hookwrapper=True)\ndef each(x):\n"
        "    outcome = yield\n    outcome.force_result([*outcome.get_result(), 'hooked'])\n"
    )
    rt.load(plugin("b", new))
    rt.load(plugin("c", old))
    assert pm.hook.each(x=0) == [1, "wrapped", "hooked"]


def test_a_historic_call_reaches_whoever_comes_later_once(rt, pm):
    body = "@hookimpl\ndef started(x): CALLS.append(({!r}, x)); return {!r}\n"
    rt.load(plugin("a", body.format("a0", "a0")))
    results = []
    pm.hook.started.call_historic(kwargs={"x": 1}, result_callback=results.append)
    assert CALLS == [("a0", 1)]
    rt.load(plugin("b", body.format("b0", "b0")))
    assert len(pm.list_name_plugin()) == len(pm.list_name_plugin()) == 2
    assert CALLS == [("a0", 1), ("b0", 1)]
    rt.reload("a", plugin("a", body.format("a1", "a1")))
    assert len(pm.list_name_plugin()) == 2
    assert CALLS == [("a0", 1), ("b0", 1), ("a1", 1)]
    assert results == ["a0", "b0", "a1"]


def test_an_implementation_that_does_not_fit_its_specification_is_refused(rt, pm):
    rt.load(answering("a", 1))
    with pytest.raises(ExportError, match="y"):
        rt.reload("a", plugin("a", "@hookimpl\ndef each(x, y): return 2\n"))
    assert pm.hook.each(x=0) == [1]


def test_objects_of_the_host_take_part(rt, pm):
    class Mine:
        @pluggy.HookimplMarker("shop")
        def each(self, x):
            return "host"

    rt.load(answering("a", 1))
    name = pm.register(Mine(), "mine")
    assert pm.hook.each(x=0) == [1, "host"]
    with pytest.raises(ValueError, match="registered already"):
        pm.register(Mine(), "mine")
    pm.unregister(name)
    assert pm.hook.each(x=0) == [1]
    with pytest.raises(ValueError, match="no plugin 'mine'"):
        pm.unregister(name)


def test_an_operation_goes_on_with_its_epochs_hooks(rt, pm):
    rt.load(answering("a", 1))
    with rt.operation("one") as op:
        rt.reload("a", answering("a", 2), drain_timeout=0.0)
        assert pm.at(op).each(x=0) == [1]
        assert pm.hook.each(x=0) == [2]


def test_nothing_is_held_though_nobody_collects(rt, pm):
    gc.collect()
    gc.disable()
    try:
        rt.load(answering("a", 1))
        pm.hook.each(x=0)
        cut = rt.reload("a", answering("a", 2), drain_timeout=2.0)
        assert cut.drained, cut.holders
        assert cut.reclaimed, cut.leaks
    finally:
        gc.enable()


def test_a_hook_that_is_kept_holds_and_goes_on(rt, pm):
    rt.load(answering("a", 1))
    kept = pm.hook.each
    assert not rt.reload("a", answering("a", 2), drain_timeout=0.0).drained
    assert kept(x=0) == [1]


def test_calls_flow_while_plugins_are_swapped(rt, pm):
    rt.load(answering("a", 1))
    stop, wrong = threading.Event(), []

    def work():
        while not stop.is_set():
            if len(answer := pm.hook.each(x=0)) != 1:
                wrong.append(answer)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(30):
        rt.reload("a", answering("a", number))
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not wrong


def test_what_pluggy_offers_besides_is_there(rt, pm):
    rt.load(answering("a", 1))
    assert [impl.plugin_name for impl in pm.hook.each.get_hookimpls()] == ["a"]
    assert [name for name, _ in pm.list_name_plugin()] == ["a"]
    assert pm.hook.started.is_historic()
    with pytest.raises(AttributeError):
        _ = pm.hook.nothing
