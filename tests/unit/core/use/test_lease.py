"""Carriers: the lease lives exactly as long as any code can call the export, or is inside it."""

import asyncio
import contextlib
import copy
import functools
import gc
import inspect
import pickle
import threading

import pytest

from epochal._core.use import ties
from epochal._core.use.drain_wakeup import Ledger
from epochal._core.use.lease import LEASE, LeasedCallable, RevocableLease, carry
from epochal._core.use.ties import TIES, tie


@pytest.fixture
def ledger():
    gc.disable()  # reference counts alone must do
    yield Ledger()
    gc.enable()


def carried(ledger, target):
    return carry(target, ledger.issue("test"))


def test_a_function_holds_its_lease_until_it_is_dropped(ledger):
    export = carried(ledger, lambda x: x + 1)
    assert export(1) == 2
    assert len(ledger) == 1
    del export
    assert len(ledger) == 0


def test_the_plugins_own_function_carries_nothing(ledger):
    def f():
        return 1

    export = carried(ledger, f)
    del export
    assert len(ledger) == 0
    assert LEASE not in f.__dict__
    assert f() == 1


def test_the_frame_alone_holds_a_function_from_its_first_line(ledger):
    inside, go_on = threading.Event(), threading.Event()

    def work():
        inside.set()
        assert go_on.wait(10)

    thread = threading.Thread(target=carried(ledger, work))
    thread.start()
    assert inside.wait(10)
    thread._target = None
    assert len(ledger) == 1
    go_on.set()
    thread.join(10)
    del thread
    assert len(ledger) == 0


def test_an_export_called_where_it_is_looked_up_is_held_while_it_runs(ledger):
    seen = []
    exports = {"f": carried(ledger, lambda: (exports.clear(), seen.append(len(ledger))))}
    exports["f"]()
    assert seen == [1]
    assert len(ledger) == 0


def test_an_export_has_the_functions_metadata(ledger):
    def f(a, /, b: int = 2, *, c: "str" = "x", **kw) -> float:
        "Says what."

    f.tag = "t"
    export = carried(ledger, f)
    assert inspect.signature(export) == inspect.signature(f)
    assert (export.__name__, export.__qualname__, export.__module__, export.__doc__) == (
        f.__name__,
        f.__qualname__,
        f.__module__,
        "Says what.",
    )
    assert export.__annotations__ == f.__annotations__
    assert export.tag == "t"


def test_defaults_and_closures_are_shared_not_copied(ledger):
    total = 0

    def add(n, *, log=[]):  # noqa: B006  a shared default is the point
        nonlocal total
        total += n
        log.append(n)
        return log

    export = carried(ledger, add)
    export(2)
    add(3)
    assert total == 5
    assert add(1) == [2, 3, 1]


def test_a_suspended_generator_holds_the_lease(ledger):
    def numbers():
        yield 1
        yield 2

    generator = carried(ledger, numbers)()
    assert next(generator) == 1
    assert len(ledger) == 1
    assert list(generator) == [2]
    assert len(ledger) == 0


def test_a_generator_that_never_started_holds_the_lease(ledger):
    def numbers():
        yield 1

    generator = carried(ledger, numbers)()
    assert len(ledger) == 1
    del generator
    assert len(ledger) == 0


def test_a_suspended_coroutine_holds_the_lease(ledger):
    async def main():
        go_on = asyncio.Event()

        async def work():
            await go_on.wait()
            return 5

        task = asyncio.create_task(carried(ledger, work)())
        await asyncio.sleep(0)
        assert len(ledger) == 1
        go_on.set()
        assert await task == 5

    asyncio.run(main())
    assert len(ledger) == 0


def test_a_suspended_asynchronous_generator_holds_the_lease(ledger):
    async def main():
        async def numbers():
            yield 1
            yield 2

        generator = carried(ledger, numbers)()
        assert await anext(generator) == 1
        assert len(ledger) == 1
        assert [n async for n in generator] == [2]
        del generator

    asyncio.run(main())
    assert len(ledger) == 0


def test_a_kept_exception_holds_the_frames_and_so_the_lease(ledger):
    def fail():
        raise ValueError("kept")

    try:
        carried(ledger, fail)()
    except ValueError as error:
        stored = error
    assert len(ledger) == 1
    del stored
    assert len(ledger) == 0


class Counter:
    """A plugin's class, with each sort of method."""

    made = 0

    def __init__(self, start=0):
        self.n = start

    def add(self, n):
        self.n += n
        return self.n

    def __call__(self):
        yield self.n

    @classmethod
    def name(cls):
        return cls.__name__

    @staticmethod
    def double(n):
        return 2 * n


def test_a_bound_method_carries_on_the_same_object(ledger):
    counter = Counter()
    export = carried(ledger, counter.add)
    assert export(2) == 2
    assert counter.n == 2
    assert export.__self__ is counter
    del export
    assert len(ledger) == 0


def test_class_and_static_methods_carry(ledger):
    name, double = carried(ledger, Counter.name), carried(ledger, Counter.double)
    raw = carried(ledger, vars(Counter)["double"])
    assert (name(), double(4), raw(5)) == ("Counter", 8, 10)
    assert len(ledger) == 3
    del name, double, raw
    assert len(ledger) == 0


def test_a_callable_object_is_held_and_so_is_the_generator_it_returns(ledger):
    generator = carried(ledger, Counter(7))()
    assert len(ledger) == 1
    assert list(generator) == [7]
    assert len(ledger) == 0


def test_a_class_ties_each_instance_to_the_lease(ledger):
    make = carried(ledger, Counter)
    instance = make(3)
    assert type(instance) is Counter
    assert instance.add(1) == 4
    assert vars(instance) == {"n": 4}
    del make
    assert len(ledger) == 1
    del instance
    assert len(ledger) == 0


def test_a_partial_carries_its_function(ledger):
    def numbers(a, b):
        yield a
        yield b

    generator = carried(ledger, functools.partial(numbers, 1, b=2))()
    assert next(generator) == 1
    assert len(ledger) == 1
    del generator
    assert len(ledger) == 0


@pytest.mark.parametrize("target", [len, "x".join, functools.lru_cache(lambda x: len(x))])
def test_a_callable_that_is_not_a_python_function_is_held(ledger, target):
    export = carried(ledger, target)
    assert isinstance(export, LeasedCallable)
    assert export("ab") == target("ab")
    del export
    assert len(ledger) == 0


def test_a_wrapped_coroutine_function_carries_inside_its_wrapper(ledger):
    """The wrapper's frame is gone while the coroutine that it returned is suspended."""

    def timed(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function(*args)

        return wrapper

    @timed
    @timed
    async def work():
        await asyncio.sleep(0)
        return 5

    async def main():
        coroutine = carried(ledger, work)()
        assert len(ledger) == 1
        assert await coroutine == 5
        del coroutine
        assert len(ledger) == 0

    asyncio.run(main())


def test_a_context_manager_function_is_held_while_it_is_entered(ledger):
    @contextlib.contextmanager
    def session():
        yield 5

    with carried(ledger, session)() as value:
        assert value == 5
        assert len(ledger) == 1
    assert len(ledger) == 0


def test_a_revocable_lease_is_taken_back_though_the_export_is_kept(ledger):
    borrow = RevocableLease(ledger.issue("units"), "geo#1")
    carried = carry(lambda: 1, borrow)
    assert len(ledger) == 1
    borrow.release()
    assert len(ledger) == 0
    assert carried() == 1


def test_an_object_that_cannot_be_tied_is_refused_by_name(ledger):
    with pytest.raises(TypeError, match="__weakref__"):
        tie((), ledger.issue("test"))
    assert len(ledger) == 0


def test_an_object_that_is_not_callable_is_refused(ledger):
    with pytest.raises(TypeError, match="cannot be called"):
        carried(ledger, 5)


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_lease_is_neither_copied_nor_pickled(ledger, clone):
    with pytest.raises(TypeError, match="in-flight use"):
        clone(ledger.issue("test"))


def test_a_class_keeps_its_signature(ledger):
    class Point:
        def __init__(self, lat: "float", lon: "float" = 0.0): ...

    signature = inspect.signature(carried(ledger, Point), eval_str=True)
    assert str(signature) == "(lat: float, lon: float = 0.0)"


class Counted:
    def __init__(self, f):
        self.f = f

    def __call__(self, *args):
        return self.f(*args)


def bare(f):
    def inner(*args):
        return f(*args)

    return inner


def in_a_table(f):
    table = {"f": f}

    def inner(*args):
        return table["f"](*args)

    return inner


DECORATORS = {
    "a class": Counted,
    "a class, twice": lambda f: Counted(Counted(f)),
    "without __wrapped__": bare,
    "without __wrapped__, twice": lambda f: bare(bare(f)),
    "a class within a wrapper": lambda f: functools.wraps(f)(bare(Counted(f))),
    "a wrapper within a class": lambda f: Counted(functools.wraps(f)(bare(f))),
    "lru_cache": functools.lru_cache,
    "a partial": lambda f: functools.partial(bare(f)),
    "a registry": in_a_table,
}


@pytest.mark.parametrize("decorator", DECORATORS.values(), ids=DECORATORS)
@pytest.mark.parametrize("sort", ["generator", "coroutine", "asynchronous generator", "manager"])
def test_what_a_decorated_function_returns_suspended_holds_the_lease(ledger, decorator, sort):
    def generator():
        yield 1

    async def coroutine():
        return 1

    async def asynchronous():
        yield 1

    functions = {
        "generator": generator,
        "coroutine": coroutine,
        "asynchronous generator": asynchronous,
        "manager": contextlib.contextmanager(generator),
    }
    result = carried(ledger, decorator(functions[sort]))()
    del functions
    gc.collect()  # what the cache has, goes with it
    assert len(ledger) == 1
    if sort == "coroutine":
        result.close()
    del result
    gc.collect()
    assert len(ledger) == 0


@pytest.mark.parametrize("decorator", [bare, functools.wraps(len)], ids=["bare", "wraps"])
def test_a_decorated_function_that_suspends_nothing_is_as_fast_as_it_was(ledger, decorator):
    export = carried(ledger, decorator(lambda: 1))
    assert type(export) is type(bare)
    assert export.__code__ is decorator(lambda: 1).__code__ or export() == 1


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_a_copy_of_a_held_export_is_the_export(ledger, clone):
    export = carried(ledger, functools.lru_cache(len))
    twin = clone(export)
    del export
    assert len(ledger) == 1
    assert twin("ab") == 2


def test_a_held_export_is_not_pickled(ledger):
    with pytest.raises(TypeError, match="'len' is an export in use in this process"):
        pickle.dumps(carried(ledger, functools.lru_cache(len)))


def test_an_instance_that_is_returned_again_is_tied_once(ledger):
    class Single:
        one = None

        def __new__(cls):
            cls.one = cls.one or object.__new__(cls)
            return cls.one

    make = carried(ledger, Single)
    before = len(TIES)
    for _ in range(10):
        make()
    assert len(TIES) == before + 1
    Single.one = None
    assert len(TIES) == before


@pytest.mark.timeout(15)
def test_many_instances_that_died_at_once_are_untied_in_one_pass(ledger, monkeypatch):
    """A pass for each took minutes for a hundred thousand."""

    class Thing:
        """Tied."""

    monkeypatch.setattr(ties, "_untie", lambda ref: None)  # their callbacks have yet to run
    lease = ledger.issue("geo#0")
    things = [Thing() for _ in range(60_000)]
    for thing in things:
        tie(thing, lease)
    del things[30_000:], thing
    assert [one() for one in ties.ties_of(lease)] == things
    things.clear()
    assert ties.ties_of(lease) == []


def test_a_tied_instance_that_the_collector_finds_counts_until_its_finalizer_has_run(ledger):
    seen = []

    class Thing:
        def __del__(self):
            seen.append(len(ledger))

    thing = carried(ledger, Thing)()
    thing.me = thing
    del thing
    gc.collect()
    assert seen == [1]
    assert len(ledger) == 0


@pytest.mark.parametrize("hold", [lambda lease: lease, lambda lease: carry(len, lease)])
def test_a_lease_that_a_finalizer_brings_back_counts_until_it_has_gone(ledger, hold):
    """The collector has cleared the weak references to it by then."""
    pool = []

    class Pooled:
        def __init__(self, held):
            self.held, self.itself = held, self

        def __del__(self):
            pool.append(self)

    Pooled(hold(ledger.issue("pooled")))
    gc.collect()
    assert len(pool) == len(ledger) == 1
    assert [lease.label for lease in ledger.live()] == ["pooled"]
    assert ledger.revived() is not None
    pool.clear()
    gc.collect()
    assert len(ledger) == 0
    assert ledger.live() == []
    assert ledger.revived() is None
