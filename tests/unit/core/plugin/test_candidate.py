"""A candidate's identity: the same exactly when bytes, configuration and grants are the same."""

import pytest
from packaging.version import Version

from epochal._core.plugin.artifact import Artifact
from epochal._core.plugin.candidate import NO_CONFIG, Candidate
from epochal._core.plugin.manifest import Manifest

MANIFEST = Manifest("geo", Version("1"))


def candidate(code="x = 1", config=NO_CONFIG, grants=("*",)):
    return Candidate(
        Artifact("geo", {"geo.py": code.encode()}), MANIFEST, config, frozenset(grants)
    )


def test_the_same_contents_have_the_same_identity():
    first = candidate(config={"a": 1, "b": [2]}, grants=("net:*", "*"))
    second = candidate(config={"b": [2], "a": 1}, grants=("*", "net:*"))
    assert first.identity == second.identity
    assert first.plugin == "geo"


@pytest.mark.parametrize("other", [{"code": "x = 2"}, {"config": {"a": 1}}, {"grants": ()}])
def test_other_contents_have_another_identity(other):
    assert candidate(**other).identity != candidate().identity


def test_the_configuration_is_a_copy_that_went_through_json():
    given = {"a": (1, 2)}
    made = candidate(config=given)
    given["a"] = ()
    assert made.config == {"a": [1, 2]}
    with pytest.raises(TypeError):
        made.config["a"] = 3


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}])
def test_a_value_that_json_cannot_hold_is_refused(value):
    with pytest.raises(TypeError, match="config of plugin 'geo' must be JSON values"):
        candidate(config={"a": value})
