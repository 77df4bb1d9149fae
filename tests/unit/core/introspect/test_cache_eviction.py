"""Caches and registries of the host give a plugin's objects up, and keep all others."""

import codecs
import functools
import gc
import re

from epochal._core.introspect.cache_eviction import evict


class Plugin:
    """A class of the plugin."""


def ids(*objects):
    return frozenset(map(id, objects))


def test_a_bounded_cache_is_emptied():
    @functools.lru_cache(maxsize=10)
    def area(shape):
        return 1

    area(Plugin)
    (line,) = evict([area], ids(Plugin))
    assert line.startswith("functools.lru_cache of ")
    assert line.endswith("area, which was emptied")
    assert area.cache_info().currsize == 0


def test_a_singledispatch_registry_loses_the_plugins_entries_alone():
    @functools.singledispatch
    def show(value):
        return "any"

    show.register(int, lambda value: "int")
    show.register(Plugin, lambda value: "plugin")
    assert show(Plugin()) == "plugin"
    registry = next(d for d in gc.get_referents(show.registry) if type(d) is dict)
    (line,) = evict([registry], ids(Plugin))
    assert line.endswith("show: Plugin")
    assert (show(Plugin()), show(1)) == ("any", "int")


def test_the_cache_of_re_is_emptied():
    class Text(str):
        """A text of the plugin's: a key of the cache."""

    re.compile(Text("plugin.*"))
    assert evict([re._cache], ids(Text)) == ["the cache of re, which was emptied"]
    assert not re._cache


def test_a_codec_search_function_is_unregistered():
    def search(name):
        return None

    codecs.register(search)
    try:
        lists = [r for r in gc.get_referrers(search) if type(r) is list]  # it has no name
        lines = [line for holder in lists for line in evict([holder], ids(search))]
        assert lines == [f"codec search function {search.__module__}.{search.__qualname__}"]
    finally:
        codecs.unregister(search)


def test_any_other_dictionary_is_left_alone():
    table = {"strict": 1, Plugin: 2, (Plugin,): 3}
    assert evict([table, [Plugin]], ids(Plugin)) == []
    assert table == {"strict": 1, Plugin: 2, (Plugin,): 3}
