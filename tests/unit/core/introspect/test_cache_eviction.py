"""Caches and registries of the host give a plugin's objects up, and keep all others."""

import codecs
import functools
import gc
import re
import sys
import types
import warnings

import pytest

from epochal._core.introspect.cache_eviction import evict
from epochal._core.introspect.ownership import Ownership

pytestmark = pytest.mark.usefixtures("whole_heap")

NAME = "the plugin"
OURS = Ownership(frozenset(), frozenset(), [NAME])


class Plugin:
    """A class of the plugin."""

    __module__ = NAME


def test_a_singledispatch_registry_loses_the_plugins_entries_alone():
    @functools.singledispatch
    def show(value):
        return "any"

    show.register(int, lambda value: "int")
    show.register(Plugin, lambda value: "plugin")
    assert show(Plugin()) == "plugin"
    (line,) = evict([Plugin], OURS)
    assert line.endswith("show: Plugin")
    assert (show(Plugin()), show(1)) == ("any", "int")


def test_an_entry_of_the_plugins_function_for_a_hosts_class_is_removed():
    @functools.singledispatch
    def show(value):
        return "any"

    show.register(int, functools.partial(Plugin))
    assert evict([Plugin, show.registry[int]], OURS)
    assert show(1) == "any"


def test_a_singledispatch_of_the_plugins_own_stays_whole():
    module = types.ModuleType(NAME)
    code = """
import functools
@functools.singledispatch
def show(value): return "any"
@show.register
def _(value: int): return "int"
borrowed = functools.singledispatch(repr)
@borrowed.register
def _(value: int): return "int"
"""
    exec(code, vars(module))
    ours = Ownership(frozenset({id(vars(module))}), frozenset(), [module.__name__])
    functions = [*module.show.registry.values(), *module.borrowed.registry.values()]
    assert evict(functions, ours) == []
    assert (module.show("x"), module.show(1)) == ("any", "int")
    assert (module.borrowed("x"), module.borrowed(1)) == ("'x'", "int")


def test_the_cache_of_re_is_emptied():
    class Text(str):
        """A text of the plugin's: a key of the cache."""

        __module__ = NAME

    re.compile(Text("plugin.*"))
    assert evict([Text], OURS) == ["the cache of re, which was emptied"]
    assert not re._cache


def test_a_codec_search_function_is_unregistered():
    module = types.ModuleType(NAME)
    exec("def search(name): return None", vars(module))
    codecs.register(module.search)
    try:
        ours = Ownership(frozenset({id(vars(module))}), frozenset(), [module.__name__])
        assert evict([module.search], ours) == ["codec search function the plugin.search"]
    finally:
        codecs.unregister(module.search)


def test_a_warning_that_was_shown_is_forgotten(monkeypatch):
    class Mine(UserWarning):
        __module__ = NAME

    host = types.ModuleType("a_host")
    monkeypatch.setitem(sys.modules, "a_host", host)
    shown = vars(host)["__warningregistry__"] = {}
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("default")
        for category in (Mine, DeprecationWarning):
            warnings.warn_explicit("x", category, "a.py", 1, registry=shown)
    assert [key[1] for key in shown if key != "version"] == [Mine, DeprecationWarning]
    assert evict([Mine], OURS) == ["a_host.__warningregistry__, an entry"]
    assert [key[1] for key in shown if key != "version"] == [DeprecationWarning]


class Host:
    """A host's object with something to compute."""

    def __init__(self, value):
        self.value = value
        self.computed = 0

    @functools.cached_property
    def answer(self):
        self.computed += 1
        return self.value()


@pytest.mark.parametrize("wrap", [Plugin, lambda: (Plugin(), 1), lambda: functools.partial(Plugin)])
def test_a_cached_property_is_computed_again(wrap):
    host = Host(wrap)
    answer = host.answer
    target = Plugin if type(answer) is functools.partial else answer
    target = answer[0] if type(answer) is tuple else target
    assert "cached_property 'answer' of an instance of" in evict([target], OURS)[0]
    assert host.answer is not answer
    assert host.computed == 2


def test_a_cached_property_that_holds_a_registry_is_kept():
    host, plugin = Host(list), Plugin()
    host.answer.append(plugin)
    assert evict([plugin], OURS) == []
    assert host.answer == [plugin]


def test_any_other_dictionary_is_left_alone():
    table = {"strict": 1, Plugin: 2, (Plugin,): 3}
    assert evict([Plugin, table], OURS) == []
    assert table == {"strict": 1, Plugin: 2, (Plugin,): 3}
    assert gc.is_tracked(table)
