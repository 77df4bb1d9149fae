"""A program built on pluggy, with plugins that are reloaded: pluggy's promises hold."""

import gc
import importlib.resources
import sys
import threading
import weakref
from dataclasses import dataclass

import pluggy
import pytest
from tests.notes import notes_of
from tests.sizes import sized

from epochal import LifecycleState, Runtime
from epochal.artifact import Artifact
from epochal.errors import CapabilityError, ExportError, OperationEndedError, PrepareError
from epochal.events import StateChanged
from epochal.pluggy import HookimplMarker, PluginManager, PluginValidationError, kind_of
from epochal.pluggy._epoch_manager import EpochManager

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
# requires = {requires}
# ///
from tests.integration.test_pluggy import CALLS, hookimpl
"""
CALLS = []


def plugin(name, body, requires=()):
    header = HEADER.format(id=name, requires=str(list(requires)).replace("'", '"'))
    return Artifact(name, {f"{name}.py": (header + body).encode()})


def answering(name, answer, options="", hook="each"):
    return plugin(name, f"@hookimpl{options}\ndef {hook}(x): return {answer!r}\n")


def again(rt, name, **options):
    """Reload identical code."""
    return rt.reload(name, rt.generation(name).candidate.artifact, **options)


@pytest.fixture
def rt():
    CALLS.clear()
    with Runtime() as runtime:
        yield runtime


@pytest.fixture
def pm(rt):
    manager = PluginManager("shop", rt)
    manager.add_hookspecs(Specs)
    return manager


def test_later_registrations_are_called_first_as_in_pluggy(rt, pm):
    rt.load(answering("a", 1))
    rt.load(answering("b", 2))
    assert pm.hook.each(x=0) == [2, 1]


@pytest.mark.parametrize("hook", ["each", "one"])
def test_a_reload_of_identical_code_gives_the_same_answers(rt, pm, hook):
    class Mine:
        @hookimpl(specname=hook)
        def mine(self, x):
            return "host"

    rt.load(answering("b", 1, hook=hook))
    rt.load(plugin("d", f"@hookimpl\ndef {hook}(x): return 4\n", requires=["b"]))
    pm.register(Mine(), "mine")
    rt.load(answering("a", 2, hook=hook))
    before = getattr(pm.hook, hook)(x=0)
    assert before == ([2, "host", 4, 1] if hook == "each" else 2)
    for name in ("a", "b"):  # d is linked anew with b
        again(rt, name)
        assert getattr(pm.hook, hook)(x=0) == before
    assert [name for name, _ in pm.list_name_plugin()] == ["b", "d", "mine", "a"]


def test_a_plugin_that_was_removed_comes_last_when_it_comes_again(rt, pm):
    for name in "ab":
        rt.load(answering(name, name))
    rt.remove("a")
    rt.load(answering("a", "a"))
    assert pm.hook.each(x=0) == ["a", "b"]


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


def test_a_historic_call_is_repeated_once_for_each_newcomer(rt, pm):
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
    assert pm.hook.each(x=0) == ["host", 1]
    with pytest.raises(ValueError, match="already registered"):
        pm.register(Mine(), "mine")
    pm.unregister(name=name)
    assert pm.hook.each(x=0) == [1]
    assert pm.unregister(name=name) is None
    with pytest.raises(ValueError, match=r"a plugin of the runtime.*rt\.remove"):
        pm.unregister(name="a")
    assert pm.hook.each(x=0) == [1]


def test_an_operation_goes_on_with_its_epochs_hooks_until_it_ends(rt, pm):
    rt.load(answering("a", 1))
    with rt.operation("one") as op:
        rt.reload("a", answering("a", 2), drain_timeout=0.0)
        assert pm.at(op).each(x=0) == [1]
        assert pm.hook.each(x=0) == [1]
        assert pm.at(rt.epoch).each(x=0) == [2]
        with rt.operation("two", epoch=rt.epoch):
            assert pm.hook.each(x=0) == [2]
        op.end()
        with pytest.raises(OperationEndedError, match="one"):
            pm.hook.each(x=0)
    assert pm.hook.each(x=0) == [2]


def test_a_registration_builds_no_manager(rt, pm, monkeypatch):
    rt.load(answering("a", 1))
    assert pm.hook.each(x=0) == [1]
    monkeypatch.setattr(EpochManager, "__init__", None)
    objects = [Answering(number) for number in range(3)]
    for number, each in enumerate(objects):
        pm.register(each, f"object {number}")
    assert pm.hook.each(x=0) == [2, 1, 0, 1]
    assert pm.unregister(objects[1]) is objects[1]
    assert pm.unregister(name="object 0") is objects[0]
    assert pm.hook.each(x=0) == [2, 1]
    assert pm.get_plugins() == {objects[2], pm.get_plugin("a")}
    pm.register(objects[1])
    assert pm.hook.each(x=0) == [1, 2, 1]
    with pytest.raises(ValueError, match="do not agree"):
        pm.unregister(objects[1], "object 2")


class Answering:
    def __init__(self, number):
        self.number = number

    @hookimpl
    def each(self, x):
        return self.number


def test_an_object_keeps_its_place_when_the_managers_are_built_again(rt, pm):
    rt.load(answering("a", "a"))
    pm.register(Answering(0))
    rt.load(answering("b", "b"))
    pm.register(Answering(1))
    assert pm.hook.each(x=0) == [1, "b", 0, "a"]
    rt.reload("a", answering("a", "A"))
    assert pm.hook.each(x=0) == [1, "b", 0, "A"]


def test_a_call_ends_with_the_objects_that_it_began_with(pm):
    class Leaving:
        @hookimpl
        def each(self, x):
            pm.unregister(name="second")
            pm.register(Answering(3))
            return 1

    class Second:
        @hookimpl
        def each(self, x):
            return 2

    pm.register(Second(), "second")
    pm.register(Leaving())
    assert pm.hook.each(x=0) == [1, 2]
    assert pm.hook.each(x=0)[:1] == [3]


def test_a_warning_names_the_line_of_the_call(pm):
    for call in (
        lambda: pm.hook.each(),
        lambda: pm.hook.each.call_extra([], {}),
        lambda: pm.hook.started.call_historic(),
        lambda: pm.subset_hook_caller("each", [])(),
    ):
        with pytest.warns(UserWarning, match="'x'.*cannot be found in this hook call") as caught:
            call()
        (warning,) = caught
        assert warning.filename == __file__


def test_callers_of_one_hook_are_equal(rt, pm):
    mine = Answering(1)
    pm.register(mine)
    assert pm.get_hookcallers(mine) == pm.get_hookcallers(mine) == [pm.hook.each]
    assert pm.hook.each is pm.hook.each
    assert isinstance(pm.hook.each, pluggy.HookCaller)
    assert pm.hook.each != pm.hook.one
    assert pm.hook.each != pm.subset_hook_caller("each", [mine])
    assert pm.subset_hook_caller("each", [mine]) == pm.subset_hook_caller("each", [mine])
    assert len({pm.hook.each, *pm.get_hookcallers(mine)}) == 1


def test_a_history_may_be_emptied(rt, pm):
    pm.hook.started.call_historic(kwargs={"x": 1})
    assert pm.hook.started._call_history == [({"x": 1}, None)]
    pm.hook.started._call_history = []
    assert pm.hook.started.is_historic()
    assert pm.hook.each._call_history is None
    rt.load(plugin("late", "@hookimpl\ndef started(x): CALLS.append(x)\n"))
    assert CALLS == []


def test_an_answer_has_the_attributes_of_the_plugins_module(rt, pm, tmp_path):
    files = {
        "plugin.toml": 'id = "geo"\nversion = "1"\n',
        "__init__.py": "from tests.integration.test_pluggy import hookimpl\nfrom . import part\n"
        "__version__ = '9'\ndef helper(): return 'helped'\n@hookimpl\ndef each(x): return 1\n",
        "part.py": "ANSWER = 42\n",
        "templates/page.html": "hello",
    }
    for name, content in files.items():
        path = tmp_path / "geo" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    rt.load(tmp_path / "geo")
    geo = pm.get_plugin("geo")
    assert (geo.__version__, geo.helper(), geo.part.ANSWER) == ("9", "helped", 42)
    assert "__init__.py" in geo.__file__
    template = importlib.resources.files(geo.__name__) / "templates" / "page.html"
    assert template.read_text() == "hello"
    assert pm.get_name(geo) == "geo"
    with pytest.raises(AttributeError):
        _ = geo.missing
    module = weakref.ref(sys.modules[geo.__name__])
    del geo, template
    cut = rt.remove("geo")
    assert cut.drained, cut.holders
    assert cut.reclaimed, cut.leaks
    assert module() is None


def test_calls_hold_no_generation_even_without_the_collector(rt, pm):
    gc.collect()
    gc.disable()
    try:
        rt.load(answering("a", 1))
        pm.hook.each(x=0)
        pm.hook.each.get_hookimpls()
        manager = weakref.ref(pm.current_manager())
        rt.load(answering("b", 3))  # drains nothing, and so collects nothing
        assert manager() is None
        # No time at all: a drain that waits runs the collector after 50 ms.
        cut = rt.reload("a", answering("a", 2), drain_timeout=0.0)
        assert cut.drained, cut.holders
        assert cut.reclaimed, cut.leaks
    finally:
        gc.enable()


def test_kept_hooks_are_live_and_hold_no_generation(rt, pm):
    rt.load(answering("a", 1))
    hooks, caller = pm.hook, pm.hook.each
    call, extra, impls = caller.__call__, caller.call_extra, caller.get_hookimpls
    subset = pm.subset_hook_caller("each", [])
    (of_a,) = pm.get_hookcallers(pm.get_plugin("a"))
    cut = rt.reload("a", answering("a", 2), drain_timeout=5.0)
    assert cut.drained, cut.holders
    assert cut.reclaimed, cut.leaks
    for stored in (hooks.each, caller, call, subset, of_a):
        assert stored(x=0) == [2]
    assert extra([lambda x: 7], {"x": 0}) == [7, 2]
    assert [impl.plugin.number for impl in impls()] == [1]


def test_pinned_hooks_hold_their_epoch_in_use(rt, pm):
    rt.load(answering("a", 1))
    pinned = pm.at(rt.epoch)
    caller, extra = pinned.each, pinned.each.call_extra
    impls, taken = pinned.each.get_hookimpls(), pm.get_plugin("a")
    assert not rt.reload("a", answering("a", 2), drain_timeout=0.0).drained
    assert pinned.each(x=0) == caller(x=0) == [1]
    assert extra([lambda x: 7], {"x": 0}) == [7, 1]
    assert [impl.function(0) for impl in impls] == [1]
    assert taken.each(0) == 1
    with pytest.raises(TypeError, match=r"pm\.hook\.started\.call_historic"):
        pinned.started.call_historic(kwargs={"x": 1})
    old = rt.draining[0]
    assert old.holders()
    removed = threading.Event()

    def on_event(event):
        if isinstance(event, StateChanged) and event.new is LifecycleState.REMOVED:
            removed.set()

    rt.events.subscribe(on_event)
    del pinned, caller, extra, impls, taken
    assert removed.wait(30), old.holders()  # by the change that retired it, on its own thread
    again(rt, "a", drain_timeout=5.0)
    assert not rt.draining


def test_a_running_call_ends_on_the_code_it_began_with(rt, pm):
    body = "@hookimpl\ndef each(x):\n    x()\n    return 1\n"
    rt.load(plugin("a", body))
    rt.load(plugin("b", body))

    def swap():
        if rt.epoch.number == 2:
            with rt.change(drain_timeout=0.0) as change:
                change.reload("a", answering("a", 2))
                change.reload("b", answering("b", 2))

    assert pm.hook.each(x=swap) == [1, 1]
    assert pm.hook.each(x=0) == [2, 2]


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
    for number in range(sized(8, 30)):
        rt.reload("a", answering("a", number))
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not wrong


def test_callers_answer_pluggys_other_queries(rt, pm):
    rt.load(answering("a", 1))
    assert [impl.plugin_name for impl in pm.hook.each.get_hookimpls()] == ["a"]
    assert [name for name, _ in pm.list_name_plugin()] == ["a"]
    assert pm.hook.started.is_historic()
    with pytest.raises(AttributeError):
        _ = pm.hook.nothing


# --- managers -------------------------------------------------------------------------------------


def test_managers_do_not_disturb_each_other(rt, pm):
    rt.load(answering("a", 1))
    same, other = PluginManager("shop", rt), PluginManager("shop", rt)
    same.add_hookspecs(Specs)

    class Others:
        @hookspec
        def each(self, y): ...

    with pytest.raises(PluginValidationError, match="'x'"):
        other.add_hookspecs(Others)
    with Runtime() as second:
        third = PluginManager("shop", second)
        third.add_hookspecs(Others)
        second.load(plugin("a", "@hookimpl\ndef each(y): return y\n"))
        assert third.hook.each(y=3) == [3]
    rt.load(answering("b", 2))
    for manager in (pm, same, other):
        assert manager.hook.each(x=0) == [2, 1]


def test_a_manager_that_is_dropped_goes(rt):
    manager = PluginManager("shop", rt)
    rt.load(answering("a", 1))
    assert manager.hook.each(x=0) == [1]
    gone = weakref.ref(manager)
    del manager
    again(rt, "a")
    gc.collect()
    assert gone() is None
    rt.load(answering("b", 1))


def test_a_restart_restores_plugins_before_there_is_a_manager(start):
    rt = start()
    manager = PluginManager("shop", rt)
    manager.add_hookspecs(Specs)
    rt.load(answering("a", 1))
    rt.close()
    again = start()
    manager = PluginManager("shop", again)
    assert manager.hook.each(x=0) == [1]
    manager.add_hookspecs(Specs)
    manager.check_pending()
    with pytest.raises(ExportError, match="y"):
        again.reload("a", plugin("a", "@hookimpl\ndef each(x, y): return 2\n"))
    assert manager.hook.each(x=0) == [1]


def test_check_pending_reports_hooks_without_a_specification(rt, pm):
    rt.load(answering("a", 1, hook="unknown"))
    with pytest.raises(
        PluginValidationError, match="unknown hook 'unknown' in plugin <plugin a#0>"
    ):
        pm.check_pending()
    rt.reload("a", answering("a", 1, "(optionalhook=True)", hook="unknown"))
    pm.check_pending()
    caller = pm.hook.unknown
    assert caller(x=1) == [1]
    rt.remove("a")
    assert caller(x=1) == []


# --- misfits --------------------------------------------------------------------------------------


class Bad:
    @hookimpl
    def each(self, x, y): ...


class Empty: ...


class Again:
    @hookspec
    def each(self, x): ...


class Narrower:
    @hookspec
    def loose(self): ...


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (lambda pm: pm.register(Bad()), PluginValidationError),
        (lambda pm: pm.register(Again, "a"), ValueError),
        (lambda pm: pm.register(Again, "host"), ValueError),
        (lambda pm: pm.add_hookspecs(Empty), ValueError),
        (lambda pm: pm.add_hookspecs(Again), ValueError),
        (lambda pm: pm.add_hookspecs(Narrower), PluginValidationError),
        (lambda pm: pm.hook.started.call_historic(kwargs={"x": 0}), ZeroDivisionError),
        (lambda pm: pm.hook.each.call_historic(kwargs={"x": 0}), AssertionError),
    ],
)
def test_a_registration_that_raises_leaves_nothing_behind(rt, pm, act, error):
    body = "@hookimpl\ndef started(x): CALLS.append(1 / x)\n@hookimpl\ndef loose(z): ...\n"
    rt.load(plugin("a", body + "@hookimpl\ndef each(x): return 1\n"))
    pm.register(Empty(), "host")
    with pytest.raises(error):
        act(pm)
    assert pm.hook.each(x=0) == [1]
    rt.load(plugin("b", STARTED.format("b", "b") + "@hookimpl\ndef each(x): return 2\n"))
    assert pm.hook.each(x=0) == [2, 1]
    assert [name for name, _ in pm.list_name_plugin()] == ["a", "host", "b"]
    assert not CALLS


def test_a_name_that_is_taken_is_refused(rt, pm):
    pm.register(Empty(), "a")
    with pytest.raises(
        ExportError, match=r"'a' is the id of a plugin.*name of an object"
    ) as caught:
        rt.load(answering("a", 1))
    assert caught.value.plugin == "a"
    assert pm.hook.each(x=0) == []
    pm.unregister(name="a")
    rt.load(answering("a", 1))
    with pytest.raises(ValueError, match="'a' is the id of a plugin"):
        pm.register(Empty(), "a")
    assert pm.hook.each(x=0) == [1]


def test_a_refused_change_holds_nothing(rt, pm):
    rt.load(answering("a", 1))
    with pytest.raises(ExportError) as caught:
        rt.reload("a", plugin("a", "@hookimpl\ndef each(x, y): return 2\n"), drain_timeout=2.0)
    assert not notes_of(caught.value)
    assert not rt.draining
    assert rt.reload("a", answering("a", 3)).reclaimed


def test_host_objects_are_compared_by_identity(rt, pm):
    @dataclass
    class Equal:  # equal to each other, and not hashable
        name: str = ""

        @hookimpl
        def each(self, x):
            return id(self)

    first = Equal("one")
    pm.register(first, "one")
    assert pm.hook.each(x=0) == [id(first)]
    second = Equal("two")
    pm.register(second, "two")
    assert pm.hook.each(x=0) == [id(second), id(first)]
    assert pm.get_name(second) == "two"
    assert pm.unregister(second) is second
    assert pm.hook.each(x=0) == [id(first)]
    gone = weakref.ref(second)
    del second
    assert gone() is None


def test_registering_again_and_again_leaves_nothing_behind(rt, pm):
    rt.load(answering("a", 1))
    epoch = rt.epoch
    pm.hook.each(x=0)
    before = len(epoch._derived)
    refs = []
    for _ in range(20):
        plugin = type("Mine", (), {})()
        refs.append(weakref.ref(plugin))
        pm.register(plugin, "mine")
        pm.hook.each(x=0)
        pm.unregister(plugin)
        del plugin
    assert len(epoch._derived) == before
    assert not any(ref() for ref in refs)


# --- historic -------------------------------------------------------------------------------------

STARTED = "@hookimpl\ndef started(x): CALLS.append(({!r}, x)); return {!r}\n"


def test_a_newcomer_receives_historic_calls_before_any_other_call(rt, pm):
    results = []
    pm.hook.started.call_historic(results.append, {"x": 1})
    body = (
        "RECEIVED = []\n@hookimpl\ndef started(x): RECEIVED.append(x); return x\n"
        "@hookimpl\ndef each(x): return list(RECEIVED)\n"
    )
    rt.load(plugin("a", body))
    assert results == [1]
    assert pm.hook.each(x=0) == [[1]]
    stop, seen = threading.Event(), []

    def look():
        while not stop.is_set():
            seen.extend(pm.hook.each(x=0))

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(10):
        again(rt, "a")
    stop.set()
    thread.join(20)
    assert all(received == [1] for received in seen)
    assert results == [1] * 11


def test_a_newcomer_that_raises_in_a_historic_call_is_not_loaded(rt, pm):
    results = []
    pm.hook.started.call_historic(results.append, {"x": 0})
    rt.load(answering("a", 1))
    change = rt.change()
    change.load(plugin("b", STARTED.format("b", "b")))
    change.load(plugin("c", "@hookimpl\ndef started(x): return 1 / x\n"))
    with pytest.raises(PrepareError, match="'c' raised ZeroDivisionError") as caught:
        change.run()
    assert caught.value.plugin == "c"
    assert CALLS == [("b", 0)]
    assert list(rt.epoch.generations) == ["a"]
    assert results == []
    assert pm.hook.each(x=0) == [1]
    rt.load(plugin("b", STARTED.format("b", "b")))
    assert results == ["b"]


def test_a_dry_run_delivers_no_results(rt, pm):
    results = []
    pm.hook.started.call_historic(results.append, {"x": 0})
    with rt.change(dry_run=True) as change:
        change.load(plugin("c", STARTED.format("c", "c")))
    assert results == []


def test_a_callback_that_raises_undoes_nothing_and_is_raised(rt, pm):
    def callback(result):
        raise LookupError(result)

    pm.hook.started.call_historic(callback, {"x": 0})
    with pytest.raises(LookupError) as caught:
        rt.load(plugin("a", STARTED.format("a", "a")))
    assert "the change is committed: epoch 1 is current" in caught.value.__notes__
    assert list(rt.epoch.generations) == ["a"]
    rt.load(answering("b", 1))


def test_a_newcomer_that_does_not_return_is_abandoned(pm):
    with Runtime(phase_timeout=0.3) as slow:
        manager = PluginManager("shop", slow)
        manager.add_hookspecs(Specs)
        release = threading.Event()
        manager.hook.started.call_historic(kwargs={"x": release.wait})
        with pytest.raises(Exception, match="prepare"):
            slow.load(plugin("a", "@hookimpl\ndef started(x): x(20)\n"), drain_timeout=0.1)
        assert not slow.epoch.generations
        slow.load(answering("b", 1))
        assert manager.hook.each(x=0) == [1]
        release.set()


def test_each_host_object_receives_a_historic_call_once(rt, pm):
    class Mine:
        @hookimpl
        def started(self, x):
            CALLS.append((self, x))

    pm.hook.started.call_historic(kwargs={"x": 1})
    first, second = Mine(), Mine()
    pm.register(first, "mine")
    pm.unregister(name="mine")
    pm.register(second, "mine")
    rt.load(answering("a", 1))
    pm.hook.each(x=0)
    assert CALLS == [(first, 1), (second, 1)]  # noqa: SIM300  CALLS is the result


def test_an_object_that_raises_in_a_historic_call_is_not_registered(rt, pm):
    class Mine:
        @hookimpl
        def started(self, x):
            return 1 / x

    pm.hook.started.call_historic(kwargs={"x": 0})
    with pytest.raises(ZeroDivisionError):
        pm.register(Mine(), "mine")
    assert not pm.has_plugin("mine")


def test_a_staged_plugin_receives_historic_calls_made_meanwhile(rt, pm):
    rt.load(plugin("a", STARTED.format("a0", "a0")))
    called = []

    def meanwhile():
        called.append(pm.hook.started.call_historic(kwargs={"x": 1}))

    CALLS.append(meanwhile)
    rt.load(plugin("b", STARTED.format("b0", "b0") + "def init(ctx): CALLS[0]()\n"))
    assert CALLS[1:] == [("a0", 1), ("b0", 1)]
    # Between the replay and the publication: state is handed over then.
    CALLS[1:] = []
    state = "def export_state(): return 1\ndef import_state(state, version): CALLS[0]()\n"
    rt.load(plugin("c", STARTED.format("c0", "c0") + state))
    assert CALLS[1:] == [("c0", 1)]
    again(rt, "c")
    assert sorted(CALLS[1:]) == sorted(
        [("c0", 1), ("c0", 1), ("a0", 1), ("b0", 1), ("c0", 1), ("c0", 1)]
    )


def test_each_generation_receives_each_historic_call_once(rt, pm):
    """Also the calls made at any moment while its change is under way."""
    body = (
        "RECEIVED = []\n@hookimpl\ndef started(x): RECEIVED.append(x); x == 0 and CALLS[0]()\n"
        "@hookimpl\ndef each(x): return RECEIVED\n"
    )
    stop, called = threading.Event(), []

    def call(number):
        pm.hook.started.call_historic(kwargs={"x": number})
        called.append(number)

    CALLS.append(lambda: call(len(called)))  # by a newcomer, while it receives the first
    call(0)
    rt.load(plugin("a", body))
    assert pm.hook.each(x=0) == [[0, 1]]

    def work():
        while not stop.wait(0.001):
            call(len(called))

    thread = threading.Thread(target=work)
    thread.start()
    CALLS[0] = int
    try:
        for _ in range(15):
            again(rt, "a")
    finally:
        stop.set()
        thread.join(20)
    (received,) = pm.hook.each(x=0)
    assert sorted(received) == sorted(called)


# --- the forms of plugins -------------------------------------------------------------------------


def test_class_based_plugins_take_part(rt, pm):
    body = """
class Plugin:
    def __init__(self, answer): self.answer = answer
    @hookimpl
    def each(self, x): return self.answer
    @hookimpl(specname="each", tryfirst=True)
    @staticmethod
    def early(x): return "early"
    @hookimpl(specname="each", wrapper=True)
    @classmethod
    def around(cls, x): return [*(yield), cls.__name__]
plugin = Plugin({})
"""
    rt.load(plugin("a", body.format(1)))
    assert pm.hook.each(x=0) == ["early", 1, "Plugin"]
    cut = rt.reload("a", plugin("a", body.format(2)))
    assert cut.reclaimed, cut.leaks
    assert pm.hook.each(x=0) == ["early", 2, "Plugin"]


def test_marks_in_a_class_without_an_object_are_warned_of(rt, pm):
    with pytest.warns(UserWarning, match="methods of Plugin are marked as pluggy.shop"):
        rt.load(plugin("a", "class Plugin:\n    @hookimpl\n    def each(self, x): return 1\n"))


def test_modules_of_one_package_may_implement_one_hook(rt, pm):
    impl = "from tests.integration.test_pluggy import hookimpl\n@hookimpl\ndef each(x): return {}\n"
    files = {
        "plugin.toml": 'id = "a"\nversion = "1"\n',
        "__init__.py": "from a.one import each\nimport a.two\n",
        "one.py": impl.format(1),
        "two.py": impl.format(2),
    }
    rt.load(Artifact("a", {name: text.encode() for name, text in files.items()}, is_package=True))
    assert sorted(pm.hook.each(x=0)) == [1, 2]
    assert [impl.plugin_name for impl in pm.hook.each.get_hookimpls()] == ["a", "a"]


def test_pluggys_own_marker_is_enough(rt, pm):
    text = (
        '# /// plugin\n# id = "a"\n# version = "1"\n# ///\n'
        "import pluggy\n@pluggy.HookimplMarker('shop')\ndef each(x): return 1\n"
    )
    rt.load(Artifact("a", {"a.py": text.encode()}))
    assert pm.hook.each(x=0) == [1]


@pytest.mark.parametrize("project", ["my-app", "my_app", "2shop", "", "MyApp", "my.app", "é"])
def test_each_project_has_a_capability_of_its_own(rt, project):
    others = {kind_of(other).name for other in ("my-app", "my_app", "2shop", "", "MyApp", "é")}
    assert len(others) == 6
    name = kind_of(project).name
    text = (
        f'# /// plugin\n# id = "a"\n# version = "1"\n# capabilities = ["{name}"]\n# ///\n'
        f"import pluggy\n@pluggy.HookimplMarker({project!r})\ndef each(x): return 1\n"
    )
    rt.load(Artifact("a", {"a.py": text.encode()}))
    assert PluginManager(project, rt).hook.each(x=0) == [1]
    with pytest.raises(CapabilityError, match="pluggy"):
        rt.reload("a", Artifact("a", {"a.py": text.replace(name, "pluggy.other").encode()}))


def test_a_specifications_warning_is_given_once(rt):
    class Old:
        @hookspec(warn_on_impl=DeprecationWarning("each is old"))
        def each(self, x): ...

    manager = PluginManager("shop", rt)
    manager.add_hookspecs(Old)
    with pytest.warns(DeprecationWarning, match="each is old") as caught:
        rt.load(answering("a", 1))
    assert len(caught) == 1
    rt.load(plugin("b", "@hookimpl\ndef started(x): ...\n"))  # a warning would be an error
    manager.register(Empty(), "host")
    assert manager.hook.each(x=0) == [1]
    with pytest.warns(DeprecationWarning, match="each is old"):
        again(rt, "a")
