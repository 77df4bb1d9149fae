"""A look at the heap shows what is finished, and breaks no call that is under way."""

import gc
import sys
import threading

import pytest

from epochal._core.introspect import heap


class Target:
    """The object that is looked for."""


class Derived(Target):
    pass


class NamedByForeignCode(type):
    def __hash__(cls):
        raise ZeroDivisionError

    def __eq__(cls, other):
        raise ZeroDivisionError


class Odd(metaclass=NamedByForeignCode):
    @property
    def __class__(self):
        raise ZeroDivisionError


LOOKS = {
    "referrers": lambda target: heap.referrers([target]),
    "referrers of a type": lambda target: heap.referrers_of_type(list, target),
    "instances": lambda target: heap.instances([type(target)]),
    "all instances": lambda target: heap.all_instances(Target),
}


def found_by(look, target):
    return set(map(id, look(target)))


def test_the_referrers_of_an_object_are_found():
    target = Target()
    holders = [target], {"it": target}, Derived()
    holders[2].it = target
    found = found_by(LOOKS["referrers"], target)
    assert {id(holders[0]), id(holders[1])} <= found
    assert {id(holders[2]), id(holders[2].__dict__)} & found


@pytest.mark.parametrize(
    "owner",
    [
        lambda one: [one],
        lambda one: {"it": one},
        lambda one: (one,),
        lambda one: ((one,),),
        lambda one: (x for x in [one]),
        lambda one: lambda: one,
    ],
    ids=["list", "dict", "tuple", "nested", "iterator", "closure"],
)
def test_a_tuple_with_one_owner_is_found(owner):
    target = Target()
    key = []

    def make():
        made = (target,)
        key.append(id(made))
        return made

    owned = owner(make())
    assert key[0] in found_by(LOOKS["referrers"], target)
    del owned
    assert key[0] not in found_by(LOOKS["referrers"], target)


def test_a_tuple_with_several_owners_is_found_once():
    target = Target()
    one = (target,)
    owners = [one], {"it": one}
    found = list(map(id, heap.referrers([target])))
    assert found.count(id(one)) == 1
    assert len(owners) == 2


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_a_tuple_that_is_being_made_is_left_alone(look):
    target, kept = Target(), []

    def rows():
        yield target
        kept.append(look(target))
        yield from range(100)  # it grows several times

    assert len(tuple(rows())) == 101
    assert kept


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_no_other_thread_sees_what_a_look_has_found(look):
    target, over, failed, made = Target(), threading.Event(), [], threading.Event()
    heap_of_some_size = [[] for _ in range(20_000)]  # so that a look takes a while

    def make_tuples():
        while not over.is_set():
            try:
                tuple(item for item in [target] * 50)
                made.set()
            except SystemError as error:
                failed.append(error)

    interval = sys.getswitchinterval()
    maker = threading.Thread(target=make_tuples)
    sys.setswitchinterval(1e-6)
    try:
        maker.start()
        for _ in range(100):
            made.clear()
            assert made.wait(30)  # it has a processor now, and makes the next
            look(target)
    finally:
        over.set()
        maker.join(30)
        sys.setswitchinterval(interval)
    assert not failed
    assert heap_of_some_size


def test_a_look_calls_no_foreign_code():
    target, odd = Target(), Odd()
    odd.it = target
    holders = [target, odd]
    assert found_by(LOOKS["all instances"], target) == {id(target)}
    assert id(holders) in found_by(LOOKS["referrers of a type"], target)
    assert id(odd) in found_by(lambda _: heap.instances([Odd]), target)


def test_instances_of_just_a_class_and_of_all_that_derive_from_it():
    one, other = Target(), Derived()
    assert found_by(LOOKS["instances"], one) == {id(one)}
    assert found_by(LOOKS["all instances"], one) == {id(one), id(other)}


def test_a_caller_s_own_objects_are_no_owners():
    target = Target()
    one = (target,)
    own = [one]
    key = id(one)
    del one
    assert key in found_by(LOOKS["referrers"], target)
    assert key not in set(map(id, heap.referrers([target], {id(own)})))


def test_a_look_asks_for_no_collection_where_the_collector_is_off():
    target = Target()
    gc.disable()
    try:
        begun = gc.get_stats()[0]["collections"]
        assert heap.referrers([target]) is not None
        assert gc.get_stats()[0]["collections"] == begun
    finally:
        gc.enable()
