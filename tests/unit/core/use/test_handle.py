"""Handles: the public attributes of an opened instance, as they are now, and nothing else."""

import pytest

from epochal._core.use.drain_wakeup import Ledger
from epochal._core.use.handle import Handle


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


def test_attributes_are_read_each_time_including_callables(cache, handle):
    assert (handle.size, handle.on_full()) == (3, "old")
    cache.size, cache.on_full = 4, lambda: "new"
    assert (handle.size, handle.on_full()) == (4, "new")


def test_setting_an_attribute_is_refused(handle):
    with pytest.raises(AttributeError, match="cannot be set"):
        handle.size = 5


def test_private_attributes_are_hidden(handle):
    with pytest.raises(AttributeError, match="not public"):
        _ = handle._lock
