"""A plugin's context: capabilities, registered exports and the plugins that it requires."""

import pytest
from tests.conftest import tool
from tests.unit.core.generation.modules import PluginStub

from epochal import Kind, PluginLifecycle
from epochal._core.generation.context import PluginContext, RequiredPlugin
from epochal._core.use.lease import RevocableLease
from epochal.errors import CapabilityError, HostError, MissingDependencyError

other = Kind("other")


def required(exports):
    lifecycle = PluginLifecycle("units#0")
    return RequiredPlugin("units", exports, RevocableLease(lifecycle.lease(), "geo#0")), lifecycle


def context(**plugins):
    origin = PluginStub().origin
    return PluginContext(
        "geo",
        0,
        "1.0",
        {"unit": "km"},
        lambda name: "" if name == "net:a" else "x",
        plugins,
        origin,
    )


def test_the_configuration_is_read_only():
    with pytest.raises(TypeError):
        context().config["unit"] = "m"


def test_demand_refuses_a_capability_that_is_not_granted():
    ctx = context()
    ctx.demand("net:a")
    assert not ctx.granted("net:b")
    with pytest.raises(CapabilityError, match="'net:b'"):
        ctx.demand("net:b")


def test_export_is_refused_once_the_exports_are_taken():
    ctx = context()
    assert ctx.export(tool, len, name="size") is len
    assert [name for _, name, _, _ in ctx.take_exports()] == ["size"]
    with pytest.raises(HostError, match=r"outside register\(ctx\)"):
        ctx.export(tool, len)


def test_require_refuses_a_plugin_that_the_manifest_does_not_list():
    with pytest.raises(MissingDependencyError, match='add "units" to `requires`'):
        context().require("units")


def test_a_required_plugin_offers_its_exports_by_short_name():
    units, _ = required({(tool, "units.convert"): len, (other, "units.both"): max})
    assert units.convert is len
    assert units[tool]["convert"] is len
    assert list(units) == ["both", "convert"]


def test_a_name_of_several_kinds_needs_its_kind():
    units, _ = required({(tool, "units.f"): len, (other, "units.f"): max})
    with pytest.raises(AttributeError, match="as several kinds"):
        _ = units.f
    assert units[other]["f"] is max


def test_returning_the_borrowed_exports_ends_the_lease():
    units, lifecycle = required({(tool, "units.f"): len})
    ctx = context(units=units)
    ctx.return_borrowed()
    ctx.return_borrowed()
    assert len(lifecycle.ledger) == 0
    with pytest.raises(AttributeError, match="it has: none"):
        _ = units.f
