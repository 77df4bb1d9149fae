"""Pairs of register and unregister: an entry in a table of the host is handed over."""

import sys
import threading
import types
from collections import OrderedDict, UserDict, deque

import pluggy
import pytest
from tests.conftest import tool

from epochal.errors import HostError, InitError, RegistrationError
from epochal.events import EntriesLost


@pytest.fixture
def host(monkeypatch):
    """A host's module with its tables, which plugins import."""
    module = types.ModuleType("the_host")
    module.tools, module.handlers, module.names = {}, [], set()
    module.ordered, module.own_kind = OrderedDict(), UserDict()
    module.manager = pluggy.PluginManager("app")

    class Registry:
        shared = {}  # noqa: RUF012  as hosts have them

        def __init__(self):
            self.entries = {}

    Registry.__module__ = "the_host"
    module.Registry, module.registry = Registry, Registry()
    monkeypatch.setitem(sys.modules, "the_host", module)
    return module


REGISTER = """
import the_host
@tool
def f(): return {n}
def init(ctx):
    {register}
"""


def save(plugins, n, register, **kw):
    return plugins.write("geo", REGISTER.format(n=n, register=register), version=f"{n}.0", **kw)


TABLES = {
    "dictionary": ("ctx.register(the_host.tools, 'geo', f)", lambda h: list(h.tools.values())),
    "ordered": ("ctx.register(the_host.ordered, 'geo', f)", lambda h: list(h.ordered.values())),
    "own kind": ("ctx.register(the_host.own_kind, 'geo', f)", lambda h: list(h.own_kind.values())),
    "list": ("ctx.register(the_host.handlers, f)", lambda h: h.handlers),
    "set": ("ctx.register(the_host.names, f)", lambda h: list(h.names)),
    "attribute": (
        "ctx.register(the_host.registry.entries, ('a', 1), f)",
        lambda h: list(h.registry.entries.values()),
    ),
}


@pytest.mark.parametrize(("register", "values"), TABLES.values(), ids=TABLES)
def test_an_entry_is_handed_over_and_goes_with_its_plugin(rt, plugins, host, register, values):
    rt.load(save(plugins, 1, register))
    assert [f() for f in values(host)] == [1]
    for n in (2, 3):
        save(plugins, n, register)
        cut = rt.reload("geo")
        assert (cut.drained, cut.reclaimed, cut.lost) == (True, True, ())
        assert [f() for f in values(host)] == [n]
    assert rt.remove("geo").drained
    assert not values(host)


@pytest.mark.parametrize(("register", "values"), TABLES.values(), ids=TABLES)
def test_a_refused_change_registers_nothing(rt, plugins, host, register, values):
    save(plugins, 1, f"{register}; 1/0")
    with pytest.raises(InitError):
        rt.load(plugins.root / "geo.py")
    assert not values(host)
    rt.load(save(plugins, 1, register))
    (before,) = values(host)
    save(plugins, 2, f"{register}; 1/0")
    with pytest.raises(InitError):
        rt.reload("geo")
    assert values(host) == [before]
    assert before() == 1


def test_an_entry_is_there_from_the_publication_on(rt, plugins, host):
    host.seen = []
    look = "ctx.register(the_host.tools, 'geo', f); the_host.seen.append(list(the_host.tools))"
    rt.load(save(plugins, 1, look))
    save(plugins, 2, look.replace("list(the_host.tools)", "the_host.tools['geo']()"))
    rt.reload("geo")
    assert host.seen == [[], 1]


def test_a_table_never_lacks_a_name_that_both_versions_have(rt, plugins, host):
    rt.load(save(plugins, 0, TABLES["dictionary"][0]))
    stop, missing = threading.Event(), []

    def look():
        while not stop.is_set():
            if "geo" not in host.tools:
                missing.append(1)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for n in range(1, 8):
            save(plugins, n, TABLES["dictionary"][0])
            rt.reload("geo")
    finally:
        stop.set()
        thread.join()
    assert not missing


def test_a_call_through_a_table_holds_the_generation_in_use(rt, plugins, host):
    code = """
import the_host
def f():
    yield the_host.down
    yield the_host.down
def init(ctx): ctx.register(the_host.tools, 'geo', f)
def shutdown(): the_host.down = True
"""
    host.down = False
    rt.load(plugins.write("geo", code))
    rows = host.tools["geo"]()  # suspended: in no thread's stack
    next(rows)
    cut = rt.reload("geo", drain_timeout=0.0)
    assert not cut.drained
    assert next(rows) is False
    rows.close()


def test_a_list_keeps_its_order_and_other_entries(rt, plugins, host):
    host.handlers += ["before"]
    rt.load(
        save(plugins, 1, "ctx.register(the_host.handlers, f); ctx.register(the_host.handlers, 'x')")
    )
    host.handlers += ["after"]
    save(plugins, 2, "ctx.register(the_host.handlers, f); ctx.register(the_host.handlers, 'x')")
    rt.reload("geo")
    assert [h() if callable(h) else h for h in host.handlers] == ["before", 2, "x", "after"]
    save(plugins, 3, "ctx.register(the_host.handlers, f)")
    rt.reload("geo")
    assert [h() if callable(h) else h for h in host.handlers] == ["before", 3, "after"]
    rt.remove("geo")
    assert host.handlers == ["before", "after"]


def test_an_equal_item_of_a_set_is_handed_over(rt, plugins, host):
    rt.load(save(plugins, 1, "ctx.register(the_host.names, 'geo' + str())"))
    save(plugins, 2, "ctx.register(the_host.names, ''.join('geo'))")
    rt.reload("geo")
    assert host.names == {"geo"}
    rt.remove("geo")
    assert not host.names


def test_an_entry_of_other_code_is_refused_and_stays(rt, plugins, host):
    host.tools["geo"] = "the host's"
    with pytest.raises(RegistrationError, match="'geo' in a dict is there already"):
        rt.load(save(plugins, 1, TABLES["dictionary"][0]))
    del host.tools["geo"]
    rt.load(plugins.root / "geo.py")
    host.tools["geo"] = "replaced since"
    with pytest.raises(RegistrationError, match="not this plugin's"):
        rt.reload("geo")
    assert rt.generation("geo").version == "1.0"
    rt.remove("geo")
    assert host.tools == {"geo": "replaced since"}


def test_what_a_new_version_does_not_register_is_taken_out(rt, plugins, host):
    rt.load(
        save(
            plugins, 1, "ctx.register(the_host.tools, 'a', f); ctx.register(the_host.tools, 'b', f)"
        )
    )
    save(plugins, 2, "ctx.register(the_host.tools, 'b', f); ctx.register(the_host.tools, 'c', f)")
    assert rt.reload("geo").reclaimed
    assert {key: f() for key, f in host.tools.items()} == {"b": 2, "c": 2}


def test_an_active_plugin_registers_at_once(rt, plugins, host):
    code = """
import the_host
def init(ctx): global register; register = ctx.register
@tool
def add(key): register(the_host.tools, key, add)
"""
    rt.load(plugins.write("geo", code))
    rt.epoch[tool]["geo.add"]("a")
    assert list(host.tools) == ["a"]
    with pytest.raises(RegistrationError):
        rt.epoch[tool]["geo.add"]("a")
    assert rt.reload("geo").drained
    assert not host.tools


def test_other_objects_are_refused_with_what_is_taken(rt, plugins, host):
    host.queue = deque()
    rt.load(save(plugins, 1, "ctx.register(the_host.queue, f)"))  # a deque is a mutable sequence
    rt.remove("geo")
    for call, words in (
        ("ctx.register(object(), f)", "expected a mapping, a set, a list"),
        ("ctx.register(the_host.tools, f)", "mapping, key, value"),
        ("ctx.register(the_host.handlers, 'k', f)", "table, value"),
    ):
        with pytest.raises(HostError, match=words):
            rt.load(save(plugins, 1, call))


def test_a_table_that_raises_is_reported_and_the_others_are_altered(rt, plugins, host):
    class Closed(dict):
        def __setitem__(self, key, value):
            raise OSError("read-only")

    host.closed = Closed()
    register = "ctx.register(the_host.closed, 'geo', f); ctx.register(the_host.tools, 'geo', f)"
    (lost,) = rt.load(save(plugins, 1, register)).lost
    assert "could not be registered: OSError: read-only" in lost
    assert host.tools["geo"]() == 1
    assert rt.remove("geo").drained


def test_a_table_that_blocks_is_given_up_and_the_change_is_published(plugins, host):
    from epochal import Runtime

    go = threading.Event()

    class Blocking(dict):
        def __setitem__(self, key, value):
            go.wait(20)

    host.blocking = Blocking()
    path = save(plugins, 1, "ctx.register(the_host.blocking, 'geo', f)")
    with Runtime(phase_timeout=0.1, drain_timeout=5.0) as rt:
        (lost,) = rt.load(path).lost
        assert "did not return" in lost
        assert rt.epoch[tool]["geo.f"]() == 1
        go.set()
        path.write_text(path.read_text().replace("blocking", "tools"))
        rt.reload("geo")
        assert host.tools["geo"]() == 1


# --- pluggy ------------------------------------------------------------------------------------

HOOKS = """
import pluggy, the_host
hookimpl = pluggy.HookimplMarker("app")
class Plugin:
    def greet(self): return {n}
Plugin.greet = hookimpl(Plugin.greet)
plugin = Plugin()
def init(ctx): ctx.register(the_host.manager, plugin, name="geo")
"""


def test_an_object_is_handed_over_to_a_plugin_manager(rt, plugins, host):
    class Specs:
        @pluggy.HookspecMarker("app")
        def greet(self): ...

    host.manager.add_hookspecs(Specs)
    rt.load(plugins.write("geo", HOOKS.format(n=1)))
    assert host.manager.hook.greet() == [1]
    plugins.write("geo", HOOKS.format(n=2))
    cut = rt.reload("geo")
    assert (host.manager.hook.greet(), cut.drained, cut.lost) == ([2], True, ())
    rt.remove("geo")
    assert host.manager.hook.greet() == []


# --- entries without ctx.register ---------------------------------------------------------------

PLAIN = {
    "dictionary": ("the_host.tools['geo'] = f", "the_host.tools.pop('geo')"),
    "set": ("the_host.names.add('geo')", "the_host.names.discard('geo')"),
    "attribute": ("the_host.registry.entries['geo'] = f", "del the_host.registry.entries['geo']"),
    "the same value": (
        "the_host.tools['geo'] = True",
        "the_host.tools.pop('geo')",
    ),
    "class": ("the_host.Registry.shared['geo'] = f", "the_host.Registry.shared.clear()"),
}


@pytest.mark.parametrize(("put", "take"), PLAIN.values(), ids=PLAIN)
@pytest.mark.parametrize("at", ["init", "link", "defer"])
def test_an_entry_that_the_old_versions_shutdown_took_out_is_reported(
    rt, plugins, host, put, take, at
):
    events = []
    end = rt.events.subscribe(
        lambda event: events.append(event) if isinstance(event, EntriesLost) else None
    )
    code = {
        "init": f"import the_host\ndef f(): pass\ndef init(ctx): {put}\ndef shutdown(): {take}\n",
        "link": f"import the_host\ndef f(): pass\n{put}\ndef shutdown(): {take}\n",
        "defer": "import the_host\ndef f(): pass\ndef undo(): " + take + "\n"
        f"def init(ctx):\n    {put}\n    ctx.defer(undo)\n",
    }[at]
    rt.load(plugins.write("geo", code))
    cut = rt.reload("geo")
    (line,) = cut.lost
    assert "'geo' in the_host." in line
    end()
    assert [(event.plugin, event.generation, event.lost) for event in events] == [
        ("geo", 1, (line,))
    ]


def test_an_entry_that_the_new_version_took_out_itself_is_not_reported(rt, plugins, host):
    code = """
import the_host
def init(ctx): the_host.tools['geo'] = 1; del the_host.tools['geo']; the_host.names.add(ctx)
def shutdown(): the_host.tools.clear()
"""
    rt.load(plugins.write("geo", code))
    assert rt.reload("geo").lost == ()


def test_an_entry_that_only_the_old_version_made_is_not_reported(rt, plugins, host):
    code = "import the_host\n{made}def shutdown(): the_host.tools.pop('geo', None)\n"
    rt.load(plugins.write("geo", code.format(made="def f(): pass\nthe_host.tools['geo'] = f\n")))
    plugins.write("geo", code.format(made="def named(): return 'geo'\n"))
    assert rt.reload("geo").lost == ()
    assert not host.tools


def test_a_plugin_that_registers_by_its_generation_loses_nothing(rt, plugins, host):
    code = """
import the_host
def init(ctx): global key; key = ('geo', ctx.generation); the_host.tools[key] = init
def shutdown(): del the_host.tools[key]
"""
    rt.load(plugins.write("geo", code))
    assert rt.reload("geo").lost == ()
    assert list(host.tools) == [("geo", 1)]
