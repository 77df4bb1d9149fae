"""`functools` caches let go of what leads to a plugin's objects, and of no single instance."""

import collections
import dataclasses
import functools
import inspect
import typing

import pytest

from epochal._core.introspect import functools_caches
from epochal._core.introspect.functools_caches import drop_entries, name_of
from epochal._core.introspect.ownership import Ownership

NAME = "the plugin"
OURS = Ownership(frozenset(), frozenset(), [NAME])


class Plugin:
    """A class of the plugin."""

    __module__ = NAME

    def method(self):
        """A method of the plugin's."""


@dataclasses.dataclass(frozen=True)
class Key:
    """A host's key object."""

    call: object


class Plain:
    """A host's object, compared by its identity."""

    def __init__(self, call):
        self.call = call


Pair = collections.namedtuple("Pair", "one other")


def takes(plugin: Plugin, default=Plugin): ...


WRAPPED = {
    "a class": lambda: Plugin,
    "an instance": Plugin,
    "a key object": lambda: Key(Plugin),
    "an object that can change": lambda: Plain(Plugin),
    "key objects, four deep": lambda: Key(Key(Key(Key(Plugin)))),
    "a tuple in a tuple": lambda: ((1, (Plugin,)),),
    "a named tuple": lambda: Pair(1, Plugin),
    "a frozenset": lambda: frozenset([frozenset([Plugin])]),
    "a partial of a partial": lambda: functools.partial(functools.partial(Plugin), 1),
    "a partial's keyword": lambda: functools.partial(print, end=Plugin),
    "a bound method": lambda: Plugin().method,
    "a signature": lambda: inspect.signature(takes),
    "an alias": lambda: list[Plugin],
    "a union": lambda: Plugin | None,
    "an alias of typing": lambda: typing.Annotated[Plugin, 1],
    "a function's closure": lambda: (lambda plugin: lambda: plugin)(Plugin),
    "another cache": lambda: functools.lru_cache(Plugin),
}
CACHES = {
    "lru_cache": functools.lru_cache,
    "cache": functools.cache,
    "typed": functools.lru_cache(typed=True),
}


@pytest.fixture(params=CACHES)
def cached(request):
    return CACHES[request.param]


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("by_keyword", [False, True])
def test_an_argument_is_let_go_wherever_it_is_wrapped(cached, wrapped, by_keyword):
    @cached
    def ask(question, *, about=None):
        return 1

    argument = WRAPPED[wrapped]()
    ask(1, about=argument) if by_keyword else ask(argument)
    (line,) = (line for line in drop_entries(OURS) if "ask" in line)
    assert line.startswith(f"functools.lru_cache of {__name__}.")
    assert ask.cache_info().currsize == 0


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_a_result_is_let_go_wherever_it_is_wrapped(cached, wrapped):
    @cached
    def answer(question):
        return WRAPPED[wrapped]()

    answer("x")
    drop_entries(OURS)
    assert answer.cache_info().currsize == 0


@pytest.mark.parametrize("result", [lambda: [Plugin], lambda: {"x": Plugin()}, lambda: {Plugin}])
def test_a_container_of_the_plugins_objects_alone_is_let_go(cached, result):
    @cached
    def answer(question):
        return result()

    answer("x")
    drop_entries(OURS)
    assert answer.cache_info().currsize == 0


def test_an_unbounded_cache_keeps_its_other_entries():
    calls = []

    @functools.cache
    def ask(question):
        calls.append(question)
        return object()

    kept = ask("kept")
    ask(Key(Plugin))
    (line,) = (line for line in drop_entries(OURS) if "ask" in line)
    assert line.endswith("ask, 1 entry")
    assert ask("kept") is kept
    assert calls == ["kept", Key(Plugin)]


def test_a_bounded_cache_without_the_plugins_objects_is_left_alone():
    @functools.lru_cache
    def ask(question):
        return object()

    kept = ask((1, str, Key(int)))
    drop_entries(OURS)
    assert ask((1, str, Key(int))) is kept


class App:
    """A program's one instance, in which plugins register themselves."""

    def __init__(self):
        self.routes = []
        self.handlers = {}


def test_the_one_instance_of_a_program_is_kept(cached):
    @cached
    def get_app():
        return App()

    @cached
    def get_database(url):
        return App()

    @cached
    def hooks():
        return []

    app, database = get_app(), get_database("x")
    app.routes.append(Plugin())
    database.handlers["x"] = Plugin
    hooks().append(Plugin)
    drop_entries(OURS)
    assert get_app() is app
    assert get_database("x") is database
    assert hooks() == [Plugin]


def test_a_container_that_the_program_holds_elsewhere_is_kept(cached):
    @cached
    def hooks_for(name):
        return []

    held = hooks_for("x")
    held.append(Plugin)
    drop_entries(OURS)
    assert hooks_for("x") is held


def test_a_plugins_own_cache_is_left_alone():
    @functools.cache
    def make(plugin):
        return Plugin()

    wrapped = functools.cache(Plugin)
    made = wrapped()
    drop_entries(OURS)
    assert wrapped() is made


def test_a_key_that_cannot_be_hashed_any_more_empties_its_cache():
    class Moody(Key):
        def __hash__(self):
            if moods:
                raise RuntimeError
            return 1

    @functools.cache
    def ask(question):
        return 1

    moods = []
    ask(Moody(Plugin))
    moods.append("bad")
    drop_entries(OURS)
    assert ask.cache_info().currsize == 0


def test_a_look_ends_at_its_limit(monkeypatch):
    @functools.cache
    def ask(question):
        return 1

    ask(Plugin)
    monkeypatch.setattr(functools_caches, "_LOOK_S", -1.0)
    assert drop_entries(OURS) == []
    assert ask.cache_info().currsize == 1


def test_a_cached_function_without_a_name_is_named_by_its_type():
    assert name_of(functools.partial(print)) == "functools.partial"
    assert name_of(functools.lru_cache(functools.partial(print))).endswith("_lru_cache_wrapper")
