"""A plugin's own state, and the errors of its transfer."""

import pytest
from tests.conftest import tool

from epochal._core.generation.own_state import PluginState, describe, translate_errors
from epochal.errors import HandOverError, IncompatibleError, InitError


def test_the_exported_state_is_imported_with_the_old_version():
    imported = []
    state = PluginState(lambda: {"n": 1}, lambda *args: imported.append(args), "1.0")
    assert state.gate is None
    state.run()
    assert imported == [({"n": 1}, "1.0")]


def test_state_is_described_by_its_export_or_its_plugin():
    assert describe((tool, "geo.cache"), "geo") == "tool geo.cache"
    assert describe(None, "geo") == "the state of plugin 'geo'"


@pytest.mark.parametrize("raised", [TypeError("no field"), ValueError("no field")])
def test_a_refusal_of_the_new_version_is_incompatible(raised):
    match = r"cannot move: \w+Error: no field"
    with (
        pytest.raises(IncompatibleError, match=match) as caught,
        translate_errors("cannot move", "geo"),
    ):
        raise raised
    assert caught.value.__cause__ is raised


def test_any_other_exception_is_the_plugins_error():
    with (
        pytest.raises(HandOverError, match="cannot move: KeyError") as caught,
        translate_errors("cannot move", "geo"),
    ):
        raise KeyError("x")
    assert caught.value.plugin == "geo"


def test_an_error_of_our_own_passes():
    error = InitError("no", plugin="geo")
    with pytest.raises(InitError) as caught, translate_errors("cannot move", "geo"):
        raise error
    assert caught.value is error
