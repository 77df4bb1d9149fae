"""A plugin that defines metrics survives its reload, and a scrape shows each metric once."""

import prometheus_client
import pytest
from tests.conftest import tool

from epochal.errors import InitError, LinkError


@pytest.fixture(autouse=True)
def _clean():
    before = set(prometheus_client.REGISTRY._collector_to_names)
    yield
    left = set(prometheus_client.REGISTRY._collector_to_names) - before
    for collector in left:
        prometheus_client.REGISTRY.unregister(collector)
    assert not left, "a metric outlived its plugin"


METRICS = """
from prometheus_client import REGISTRY, Counter, Enum, Gauge, Histogram, Info, Summary
CALLS = Counter("geo_calls", "Calls.")
BY_KIND = Counter("geo_kinds", "Calls by kind.", ["kind"])
DEPTH = Gauge("geo_depth", "Depth.")
TIMES = Histogram("geo_times", "Times.", buckets=(1, 2))
SIZES = Summary("geo_sizes", "Sizes.")
BUILD = Info("geo_build", "Build.")
STATE = Enum("geo_state", "State.", states=["up", "down"])
@tool
def f():
    CALLS.inc()
    BY_KIND.labels("a").inc(2)
    DEPTH.set(3)
    TIMES.observe(1.5)
    SIZES.observe(4)
    STATE.state("down")
"""


def scraped():
    """The plugin's samples, by name; asserts that each appears once."""
    text = prometheus_client.generate_latest().decode()
    lines = [line for line in text.splitlines() if line.startswith("geo_")]
    samples = dict(line.rsplit(" ", 1) for line in lines if "_created" not in line)
    assert len(samples) == len([line for line in lines if "_created" not in line])
    return {name: float(value) for name, value in samples.items()}


def call(rt, epoch=None):
    (epoch or rt.epoch)[tool]["geo.f"]()


def test_both_generations_count_in_the_same_metrics(rt, plugins):
    path = plugins.write("geo", METRICS)
    rt.load(path)
    old = rt.epoch
    call(rt)
    for _ in range(3):
        rt.reload("geo", drain_timeout=0.0)
        call(rt)
    call(rt, old)
    assert scraped() == {
        "geo_calls_total": 5,
        'geo_kinds_total{kind="a"}': 10,
        "geo_depth": 3,
        'geo_times_bucket{le="1.0"}': 0,
        'geo_times_bucket{le="2.0"}': 5,
        'geo_times_bucket{le="+Inf"}': 5,
        "geo_times_count": 5,
        "geo_times_sum": 7.5,
        "geo_sizes_count": 5,
        "geo_sizes_sum": 20,
        "geo_build_info": 1,
        'geo_state{geo_state="up"}': 0,
        'geo_state{geo_state="down"}': 1,
    }


def test_a_removed_generation_unregisters_metrics_of_its_own(rt, plugins):
    rt.load(plugins.write("geo", METRICS))
    call(rt)
    plugins.write(
        "geo", 'import prometheus_client as p\nC = p.Counter("geo_calls", "Calls.")\n' + F
    )
    cut = rt.reload("geo")
    assert cut.reclaimed, cut.leaks
    assert "prometheus metric geo_depth" in cut.cleaned_up
    assert "prometheus metric geo_calls" not in cut.cleaned_up
    assert scraped() == {"geo_calls_total": 1}
    cut = rt.remove("geo")
    assert "prometheus metric geo_calls" in cut.cleaned_up
    assert cut.reclaimed, cut.leaks
    assert scraped() == {}


F = "@tool\ndef f(): C.inc()\n"
CHANGED = {
    "labels": ('p.Counter("geo_x", "X.", ["kind"])', 'geo_x_total{kind="b"}'),
    "type": ('p.Gauge("geo_x_total", "X.")', "geo_x_total"),
    "a collector of its own": ("p.REGISTRY.register(Own()) or Own()", "geo_x_total"),
}
OWN = """
import prometheus_client as p
from prometheus_client.core import CounterMetricFamily
class Own:
    def collect(self):
        family = CounterMetricFamily("geo_x", "X.")
        family.add_metric([], 0)
        yield family
    def inc(self): pass
"""


@pytest.mark.parametrize("case", CHANGED)
def test_a_changed_metric_takes_the_place_of_the_old(rt, plugins, case):
    made, name = CHANGED[case]
    rt.load(plugins.write("geo", OWN + 'C = p.Counter("geo_x", "X.")\n' + F))
    old = rt.epoch
    call(rt)
    use = 'C.labels("b").inc(0)' if case == "labels" else "C.inc()"
    code = OWN + f"C = {made}\ndef init(ctx): {use}\n@tool\ndef f(): pass\n"
    rt.reload("geo", plugins.write("geo", code), drain_timeout=0.0)
    call(rt, old)
    assert set(scraped()) == {name}
    assert scraped()[name] in (0, 1), "it begins anew, as after a restart"
    del old
    cut = rt.reload("geo")
    assert cut.reclaimed, cut.leaks
    assert set(scraped()) == {name}


@pytest.mark.parametrize("changed", ["C", 'p.Counter("geo_x", "X.", ["kind"])'])
@pytest.mark.parametrize("where", ["link", "init"])
def test_a_failed_change_restores_the_metrics(rt, plugins, changed, where):
    code = 'C = p.Counter("geo_x", "X.")\n'
    rt.load(plugins.write("geo", OWN + code + F))
    call(rt)
    new = code if changed == "C" else f"C = {changed}\n"
    broken = "1 / 0" if where == "link" else "def init(ctx): 1 / 0"
    with pytest.raises((LinkError, InitError)):
        rt.reload("geo", plugins.write("geo", OWN + new + F + broken))
    call(rt)
    assert scraped() == {"geo_x_total": 2}


def test_a_metric_name_of_the_host_is_refused(rt, plugins):
    counter = prometheus_client.Counter("geo_x", "The host's.")
    counter.inc(7)
    try:
        with pytest.raises(LinkError, match="Duplicated timeseries"):
            rt.load(plugins.write("geo", OWN + 'C = p.Counter("geo_x", "X.")\n' + F))
        assert scraped() == {"geo_x_total": 7}
    finally:
        prometheus_client.REGISTRY.unregister(counter)


def test_prometheus_client_is_unchanged_outside_of_plugins(rt, plugins):
    code = """
import prometheus_client, prometheus_client.core
from prometheus_client import metrics, CollectorRegistry, Counter
from prometheus_client.registry import REGISTRY
class Mine(Counter):
    def __init__(self, name):
        super().__init__(name, "Mine.")
apart = CollectorRegistry()
A = Counter("geo_apart", "A.", registry=apart)
B = metrics.Counter("geo_own", "B.", (), "", "", "", apart)
M = Mine("geo_mine")
M.inc()
assert isinstance(A, Counter) and isinstance(M, Counter) and isinstance(M, Mine)
assert not isinstance(A, Mine) and issubclass(Mine, Counter) and not issubclass(int, Counter)
assert isinstance(REGISTRY, CollectorRegistry)
assert REGISTRY.get_sample_value("geo_mine_total") == 1
assert b"geo_mine_total 1.0" in prometheus_client.generate_latest(REGISTRY)
G = prometheus_client.Gauge("geo_g", "G.")
G.set_function(lambda: 5)
gone = Counter("geo_gone", "Unregistered by the plugin.")
REGISTRY.unregister(gone)
@tool
def f(): return type(A), REGISTRY
"""
    path = plugins.write("geo", code)
    rt.load(path)
    kind, _ = rt.epoch[tool]["geo.f"]()
    assert kind is prometheus_client.Counter
    cut = rt.reload("geo")
    assert cut.reclaimed, cut.leaks
    assert scraped() == {"geo_g": 5, "geo_mine_total": 1}
