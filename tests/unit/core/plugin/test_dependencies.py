"""Distributions that a manifest asks for: all missing and all unsuitable ones are named."""

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from epochal._core.plugin import dependencies
from epochal._core.plugin.dependencies import check_distributions
from epochal._core.plugin.manifest import Manifest
from epochal.errors import MissingDependencyError, VersionConflictError


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    versions = {"one": "1.5", "two": "2.0rc1"}

    def version(name):
        if name not in versions:
            raise dependencies.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(dependencies, "version", version)


def check(*requirements):
    needs = tuple(map(Requirement, requirements))
    check_distributions(Manifest("geo", Version("1"), dependencies=needs))


def test_suitable_distributions_pass_prereleases_included():
    check("one>=1", "two>=2.0rc1")


def test_a_marker_that_does_not_apply_is_skipped():
    check('nowhere; python_version < "3"')


def test_every_missing_distribution_is_named_before_versions():
    with pytest.raises(MissingDependencyError, match="nowhere, neither>=2") as caught:
        check("nowhere", "one>=9", "neither>=2")
    assert caught.value.plugin == "geo"


def test_every_unsuitable_version_is_named_with_the_installed_one():
    with pytest.raises(VersionConflictError) as caught:
        check("one>=9", "two<2")
    assert "one>=9 (installed: 1.5), two<2 (installed: 2.0rc1)" in str(caught.value)
