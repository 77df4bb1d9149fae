"""Handles: what an epoch offers of an opened instance, nothing more, and as it is now."""

import pytest

from epochal._core.use.handle import Handle
from epochal._core.use.lease import Ledger


class Cache:
    size = 3

    def __init__(self):
        self.on_full = lambda: "old"

    def get(self, key):
        return key


@pytest.fixture
def cache():
    return Cache()


@pytest.fixture
def handle(cache):
    return Handle(cache, Ledger().issue("test"))


def test_a_method_is_made_once(handle):
    assert handle.get("a") == "a"
    assert handle.get is handle.get


def test_attributes_are_read_each_time_also_those_that_can_be_called(cache, handle):
    assert (handle.size, handle.on_full()) == (3, "old")
    cache.size, cache.on_full = 4, lambda: "new"
    assert (handle.size, handle.on_full()) == (4, "new")


def test_nothing_is_kept_where_nobody_else_sees_it(handle):
    with pytest.raises(AttributeError, match="cannot be set"):
        handle.size = 5


def test_what_is_private_is_not_offered(handle):
    with pytest.raises(AttributeError, match="not public"):
        _ = handle._lock
