"""A runtime's metrics in the registry of a host's own service."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from tests.unit.observe.test_logs import EVENTS

from epochal.observe.prometheus import observe_runtime

DOCS = (Path(__file__).parents[3] / "docs" / "observability.md").read_text()


def test_a_runtime_is_among_the_hosts_own_metrics(rt, plugins):
    registry = CollectorRegistry()
    stop = observe_runtime(rt, registry)
    rt.load(plugins.write("geo", ""))
    rt.reload("geo")
    with pytest.raises(ValueError, match="Duplicated"):
        observe_runtime(rt, registry)
    text = generate_latest(registry).decode()
    assert "epochal_epoch 2.0" in text
    assert 'epochal_plugin_generation{plugin="geo",version="1.0"} 1.0' in text
    names = set(re.findall(r"^# TYPE (\w+?)(?:_total|_created)? ", text, re.MULTILINE))
    assert len(names) == 8
    assert all(f"`{name}`" in DOCS for name in names)
    stop()
    assert generate_latest(registry) == b""
    observe_runtime(rt, registry)()


def test_every_event_of_the_core_is_documented():
    core = {event.__name__ for event in EVENTS if event.__module__ == "epochal.events"}
    assert len(core) >= 12
    assert sorted(name for name in core if f"`{name}`" not in DOCS) == []
