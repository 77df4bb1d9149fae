"""The stack of closers of one generation."""

import asyncio

import pytest
from tests.unit.core.generation.modules import PluginStub

from epochal._core.generation.resources import Resources
from epochal._core.introspect.origins import begun_by
from epochal.errors import HostError


def test_closers_run_in_reverse_and_a_failure_stops_no_other():
    resources, closed, failures = Resources("geo#0", PluginStub().origin), [], []
    resources.defer(lambda: closed.append("first"))
    resources.defer(lambda: 1 / 0)
    resources.defer(lambda: closed.append("last"))
    resources.close(failures)
    assert closed == ["last", "first"]
    assert [type(error) for error in failures] == [ZeroDivisionError]
    assert resources.is_empty


def test_a_close_that_was_abandoned_continues_with_the_next_closer():
    resources, closed = Resources("geo#0", PluginStub().origin), []
    resources.defer(lambda: closed.append("first"))
    # The closer stands for one that does not return: another thread closes meanwhile.
    resources.defer(lambda: (closed.append("stuck"), resources.close([])))
    resources.close([])
    assert closed == ["stuck", "first"]


def test_closed_resources_refuse_more():
    resources = Resources("geo#0", PluginStub().origin)
    resources.close([])
    assert resources.stopping.is_set()
    with pytest.raises(HostError, match="geo#0 has been shut down"):
        resources.defer(print)


def test_a_spawned_thread_is_one_of_the_generations():
    origin = PluginStub().origin
    resources = Resources("geo#0", origin)
    thread = resources.spawn(resources.stopping.wait, None, 10.0)
    assert origin.is_own(thread)
    failures = []
    resources.close(failures)
    assert not thread.is_alive()
    assert not failures


def test_a_task_is_cancelled_in_the_generations_own_loop():
    resources = Resources("geo#0", PluginStub().origin)
    outcome = resources.create_task(asyncio.sleep(60), None, 10.0)
    assert begun_by.get() is None
    failures = []
    resources.close(failures)
    assert outcome.done()
    assert not failures
