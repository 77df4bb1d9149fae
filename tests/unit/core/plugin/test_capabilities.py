"""A plugin has the capabilities that its manifest asks for and the host grants, and no other."""

import pytest

from epochal._core.plugin.capabilities import DEFAULT_GRANTS, allows, checked_grants, is_capability
from epochal.errors import HostError

TABLE = [
    # asked, grants, capability, has it
    (None, {"*"}, "scalar", True),
    (None, {"*"}, "agent.tool", True),
    (None, {"*"}, "net:api.example.org", False),
    (None, {"*", "net:*"}, "net:api.example.org", False),
    ({"scalar"}, {"*"}, "scalar", True),
    ({"scalar"}, {"*"}, "window", False),
    ({"scalar"}, {"window"}, "scalar", False),
    ({"agent.tool"}, {"agent.*"}, "agent.tool", True),
    ({"agent.tool"}, {"agents.*"}, "agent.tool", False),
    ({"net:a.org"}, {"*"}, "net:a.org", False),
    ({"net:a.org"}, {"net:*"}, "net:a.org", True),
    ({"net:a.org"}, {"net:*.org"}, "net:a.org", True),
    ({"net:a.org"}, {"fs:*"}, "net:a.org", False),
    ({"net:a.org"}, {"net:*"}, "net:b.org", False),
    (set(), {"*", "net:*"}, "scalar", False),
    (None, set(), "scalar", False),
]


@pytest.mark.parametrize(("asked", "grants", "capability", "has"), TABLE)
def test_a_plugin_has_the_intersection(asked, grants, capability, has):
    asked = None if asked is None else frozenset(asked)
    assert allows(asked, frozenset(grants), capability) is has


def test_by_default_every_kind_and_no_service():
    assert allows(None, DEFAULT_GRANTS, "anything")
    assert not allows(frozenset({"net:x"}), DEFAULT_GRANTS, "net:x")


@pytest.mark.parametrize("text", ["scalar", "agent.tool", "net:api.example.org", "fs:/data", "a_1"])
def test_these_are_capabilities(text):
    assert is_capability(text)


@pytest.mark.parametrize("text", ["", "Scalar", "a b", "net:", ":x", "a..b", "a.", "net:*", "1a"])
def test_these_are_not_capabilities(text):
    assert not is_capability(text)


@pytest.mark.parametrize("grants", ["scalar", [""], ["a b"], [1], ["Scalar"], [None]])
def test_a_malformed_grant_is_refused_by_name(grants):
    with pytest.raises(HostError, match="grant"):
        checked_grants(grants)


def test_grants_are_patterns_for_kinds_and_services():
    assert checked_grants(["*", "net:*", "agent.*"]) == {"*", "net:*", "agent.*"}
    assert checked_grants(None) is None
