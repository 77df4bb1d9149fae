"""An epoch: an immutable snapshot, and its successor."""

import copy
import gc
from types import MappingProxyType, SimpleNamespace

import pytest
from tests.conftest import tool

from epochal import Epoch, PluginLifecycle
from epochal._core.generation.generation import LeasedGeneration
from epochal.errors import UnknownExportError, UnknownPluginError


def leased(plugin, *names, requires=(), identity="1"):
    """A generation with these exports, each of which is its name."""
    exports = {(tool, f"{plugin}.{name}"): name for name in names}
    generation = SimpleNamespace(
        plugin=plugin, exports=exports, requires=requires, identity=identity
    )
    return LeasedGeneration(generation, PluginLifecycle(plugin).lease(), exports)


def test_an_epoch_cannot_be_altered_or_copied():
    epoch = Epoch().successor([], [leased("geo", "f")])
    for alter in (
        lambda: epoch.update({}),
        lambda: epoch.clear(),
        lambda: epoch.__setitem__(tool, {}),
        lambda: epoch[tool].__setitem__("geo.f", 1),
        lambda: copy.copy(epoch),
    ):
        with pytest.raises((TypeError, AttributeError)):
            alter()


@pytest.mark.parametrize("key", ["geo.f", "tool", 7, str, None])
def test_a_key_that_is_not_a_kind_is_a_type_error_with_the_right_one(key):
    epoch = Epoch().successor([], [leased("geo", "f")])
    with pytest.raises(TypeError, match="an epoch's key is a kind") as raised:
        epoch[key]
    assert repr(key) in str(raised.value)
    right = 'epoch[tool]["geo.f"]' if key in ("geo.f", "tool") else 'epoch[kind]["plugin.name"]'
    assert right in str(raised.value)


def test_a_kind_without_exports_is_an_empty_mapping():
    assert dict(Epoch()[tool]) == {}
    assert isinstance(Epoch()[tool], MappingProxyType)


def test_a_successor_has_the_new_exports_and_leaves_the_old_epoch_as_it_was():
    old, new = leased("geo", "f", "g"), leased("geo", "f", "h")
    first = Epoch().successor([], [old])
    second = first.successor([old.generation], [new])
    assert sorted(first[tool]) == ["geo.f", "geo.g"]
    assert sorted(second[tool]) == ["geo.f", "geo.h"]
    assert (first.number, second.number) == (1, 2)
    assert second.holds(new.lease, "geo")
    assert not second.holds(old.lease, "geo")


def test_a_reloaded_plugin_keeps_its_place_and_its_since():
    geo, units = leased("geo"), leased("units")
    epoch = Epoch().successor([], [geo, units])
    epoch = epoch.successor([geo.generation], [leased("geo")])
    assert list(epoch.generations) == ["geo", "units"]
    assert epoch.since == {"geo": 1, "units": 1}


def test_a_removed_plugin_leaves_nothing():
    geo = leased("geo", "f", requires=("units",))
    epoch = Epoch().successor([], [leased("units"), geo])
    assert epoch.requiring("units") == {"geo"}
    epoch = epoch.successor([geo.generation], [])
    assert list(epoch.generations) == ["units"]
    assert not epoch.requiring("units")
    assert not epoch[tool]
    with pytest.raises(UnknownPluginError, match="active: units"):
        epoch.lease("geo")


def test_tables_that_a_change_does_not_touch_are_shared():
    first = Epoch().successor([], [leased("geo", "f")])
    second = first.successor([], [leased("units")])
    assert second[tool] is first[tool]


def test_the_id_is_of_the_contents():
    first = Epoch().successor([], [leased("geo"), leased("units")])
    same = Epoch(7).successor([], [leased("units"), leased("geo")])
    other = Epoch().successor([], [leased("geo"), leased("units", identity="2")])
    assert first.id == same.id != other.id
    assert first != same, "two epochs are equal only if they are one object"


def test_an_unknown_export_is_answered_with_close_names():
    epoch = Epoch().successor([], [leased("geo", "distance")])
    with pytest.raises(UnknownExportError, match=r"close: geo\.distance"):
        epoch.export(tool, "geo.distanc")


def test_a_derived_value_is_built_once():
    epoch, built = Epoch(), []
    for _ in range(2):
        assert epoch.derived("router", lambda e: built.append(e.number) or "value") == "value"
    assert built == [0]


def test_an_epoch_holds_the_leases_of_its_generations():
    geo = leased("geo")
    ledger = geo.lease
    epoch = Epoch().successor([], [geo])
    lifecycle = PluginLifecycle("units")
    epoch = epoch.successor(
        [], [LeasedGeneration(leased("units").generation, lifecycle.lease(), {})]
    )
    gc.collect()
    assert epoch.pins(["geo"]) == (ledger,)
    assert len(lifecycle.ledger) == 1
    del epoch
    assert len(lifecycle.ledger) == 0
