"""Requests: recorded by the caller, read in the change's turn."""

from types import SimpleNamespace

import pytest

from epochal._core.change.plan import PlannedChange, Verb
from epochal._core.change.request import Request, Requests, RollbackRequest, remove_all
from epochal.artifact import Artifact
from epochal.errors import ArtifactError, EpochMovedError, HostError, NoStoreError

GEO = Artifact("geo", {"geo.py": b'# /// plugin\n# id = "geo"\n# version = "1.0"\n# ///\n'})
EMPTY = SimpleNamespace(id="ab" * 32, number=3, generations={})


def requests(*recorded, seen=None):
    return Requests(frozenset({"*"}), seen=seen, recorded=list(recorded))


def test_a_source_becomes_a_candidate_with_the_grants_of_the_runtime():
    (planned,) = requests(Request(None, source=GEO, config={"unit": "km"})).read(EMPTY)
    assert (planned.verb, planned.plugin) == (Verb.LOAD, "geo")
    assert planned.candidate.artifact is GEO
    assert planned.candidate.config == {"unit": "km"}
    assert planned.candidate.grants == {"*"}


def test_a_source_of_another_plugin_is_refused():
    with pytest.raises(ArtifactError, match="is plugin 'geo', not 'units'"):
        requests(Request(Verb.LOAD, "units", GEO)).read(EMPTY)


@pytest.mark.parametrize("seen", [None, ["ab" * 32], ["ab" * 6], ["cd" * 32, "ab" * 32]])
def test_the_epoch_that_was_seen_may_be_named_by_its_first_digits(seen):
    assert requests(seen=seen).read(EMPTY) == []


@pytest.mark.parametrize("seen", [[], ["cd" * 32], ["ab" * 5]])
def test_another_epoch_than_was_seen_refuses_the_change(seen):
    with pytest.raises(EpochMovedError):
        requests(seen=seen).read(EMPTY)


@pytest.mark.parametrize(
    "wrong", [(None, None, None), ("geo", None, None), ("geo", 3, 12), (None, 3, 12)]
)
def test_a_rollback_names_a_plugin_and_its_target_or_an_epoch(wrong):
    with pytest.raises(HostError, match="rollback needs"):
        RollbackRequest(*wrong)


def test_a_rollback_without_a_journal_is_refused():
    with pytest.raises(NoStoreError):
        requests(RollbackRequest("geo", 3)).read(EMPTY)


def test_all_active_plugins_can_be_removed():
    epoch = SimpleNamespace(generations={"geo": None, "units": None})
    assert remove_all(epoch) == [
        PlannedChange(Verb.REMOVE, "geo"),
        PlannedChange(Verb.REMOVE, "units"),
    ]
