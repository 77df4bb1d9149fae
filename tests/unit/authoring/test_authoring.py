"""Plugins that an agent proposes: what is approved is published, and nothing else."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.sizes import IS_LONG

from epochal import Runtime
from epochal.authoring import ApprovalFolder, Authoring
from epochal.authoring.trial import Trial
from epochal.authoring.workbench import MAX_PROPOSALS, MAX_SOURCE
from epochal.cli import main
from epochal.errors import CapabilityError, EpochMovedError, HostError, ManifestError, RefusedError
from epochal.kinds import tool

SHOP = """\
# /// plugin
# id = "{plugin}"
# version = "{version}"
# ///
from epochal.kinds import tool


@tool
def price(item: str) -> int:
    "The price of an item."
    return {price}
"""
TEST = """\
def test_price(epochal_plugin):
    assert epochal_plugin("{plugin}.py").call("price", "tea") == 4
"""
MADE = {"reason": "asked for twice", "author": "agent", "session": "one"}
WHO = {"author": "agent", "session": "one"}


def shop(price=4, version="1.0", plugin="shop"):
    return SHOP.format(price=price, version=version, plugin=plugin)


@pytest.fixture
def rt():
    with Runtime(drain_timeout=5) as runtime:
        yield runtime


@pytest.fixture
def no_trial(monkeypatch):
    """Proposals pass without a process of their own."""
    monkeypatch.setattr(Trial, "run", lambda *_: ())


def test_a_proposal_is_tried_shown_approved_published_and_rolled_back(
    rt, tmp_path, capsys, monkeypatch
):
    folder = tmp_path / "proposals"
    authoring = Authoring(rt, ApprovalFolder(folder))
    proposal = authoring.propose(shop(), TEST.format(plugin="shop"), **MADE)
    assert proposal.tools == ("shop.price",)
    assert "+    return 4" in proposal.diff
    assert not rt.epoch.generations
    with pytest.raises(RefusedError, match="not approved"):
        authoring.publish(proposal.handle, **WHO)
    assert main(["approve", str(folder)]) == 0
    assert main(["approve", str(folder), proposal.fingerprint[:9], "--yes"]) == 0
    shown = capsys.readouterr().out
    assert "shop 1.0 by agent: asked for twice" in shown
    assert "+    return 4" in shown
    assert "+def test_price" in shown
    authoring.publish(proposal.handle, **WHO)
    assert rt.epoch[tool]["shop.price"]("tea") == 4
    authoring.roll_back(proposal.handle, **WHO)
    assert not rt.epoch.generations
    monkeypatch.setattr(Trial, "run", lambda *_: ())  # one process is enough
    # The approval counted once: what a person took back does not come again by itself.
    again = authoring.propose(shop(), TEST.format(plugin="shop"), **MADE)
    with pytest.raises(RefusedError, match="not approved"):
        authoring.publish(again.handle, **WHO)
    log = [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]
    assert [one["step"] for one in log] == [
        *("proposed", "shown and approved", "approved", "published", "rolled-back", "proposed")
    ]
    assert all(one.get("author", "agent") == "agent" for one in log)


def test_an_approval_is_of_exactly_what_was_shown(rt, tmp_path, no_trial):
    approvals = ApprovalFolder(tmp_path)
    authoring = Authoring(rt, approvals)
    good = authoring.propose(shop(4), "x = 1", **MADE)
    evil = authoring.propose(shop(9), "x = 1", **MADE)
    other_test = authoring.propose(shop(4), "x = 2", **MADE)
    approvals.approve(approvals.find(good.fingerprint)[0], "ann")
    for one in (evil, other_test):
        with pytest.raises(RefusedError, match="not approved"):
            authoring.publish(one.handle, **WHO)
    # A file that was changed after it was proposed is not shown as what its name says.
    path = tmp_path / f"{evil.fingerprint}.json"
    path.write_text(path.read_text().replace("return 9", "return 4"))
    with pytest.raises(HostError, match="was changed"):
        approvals.find(evil.fingerprint)
    authoring.publish(good.handle, **WHO)
    assert rt.epoch[tool]["shop.price"]("tea") == 4


def test_of_two_proposals_the_second_is_made_again_over_the_first(rt, tmp_path, no_trial):
    approvals = ApprovalFolder(tmp_path)
    authoring = Authoring(rt, approvals)
    one = authoring.propose(shop(plugin="one"), "x = 1", **MADE)
    two = authoring.propose(shop(plugin="two"), "x = 1", **MADE)
    for proposal in (one, two):
        approvals.approve(proposal.fingerprint, "ann")
    authoring.publish(one.handle, **WHO)
    with pytest.raises(EpochMovedError):
        authoring.publish(two.handle, **WHO)
    assert set(rt.epoch.generations) == {"one"}
    # The same source beside the same version is what was approved.
    again = authoring.propose(two.source, two.test, **MADE)
    authoring.publish(again.handle, **WHO)
    assert set(rt.epoch.generations) == {"one", "two"}


def test_of_two_that_publish_at_once_one_succeeds(rt, tmp_path, no_trial):
    approvals = ApprovalFolder(tmp_path)
    authoring = Authoring(rt, approvals)
    proposal = authoring.propose(shop(), "x = 1", **MADE)
    approvals.approve(proposal.fingerprint, "ann")
    ready = threading.Barrier(2)

    def publish(_):
        ready.wait(30)
        try:
            return authoring.publish(proposal.handle, **WHO) and "published"
        except (RefusedError, EpochMovedError):
            return "refused"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(publish, range(2))) == ["published", "refused"]


def test_an_approval_of_an_old_difference_is_none_of_the_new_one(rt, tmp_path, no_trial):
    rt.load(_saved(tmp_path, shop(1)))
    approvals = ApprovalFolder(tmp_path / "proposals")
    authoring = Authoring(rt, approvals, may_replace=["shop"])
    shown = authoring.propose(shop(4, "2.0"), "x = 1", **MADE)
    approvals.approve(shown.fingerprint, "ann")
    rt.reload("shop", _saved(tmp_path, shop(2, "1.5")))
    again = authoring.propose(shop(4, "2.0"), "x = 1", **MADE)
    assert again.fingerprint != shown.fingerprint
    with pytest.raises(RefusedError, match="not approved"):
        authoring.publish(again.handle, **WHO)


def test_a_session_publishes_its_own_proposals_alone(rt, no_trial):
    authoring = Authoring(rt, lambda _: "policy")
    proposal = authoring.propose(shop(), "x = 1", **MADE)
    for session in ("two", None):
        with pytest.raises(RefusedError, match="no such proposal"):
            authoring.publish(proposal.handle, author="agent", session=session)
    authoring.publish(proposal.handle, **WHO)
    with pytest.raises(RefusedError, match="no such proposal"):
        authoring.roll_back(proposal.handle, author="agent", session="two")


def test_an_agent_replaces_its_own_plugins_and_those_it_was_given(rt, tmp_path, no_trial):
    rt.load(_saved(tmp_path, shop(1)))
    authoring = Authoring(rt, lambda _: "policy")
    with pytest.raises(RefusedError, match="not yours"):
        authoring.propose(shop(4), "x = 1", **MADE)
    with pytest.raises(RefusedError, match="may not be named"):
        authoring.propose(shop(plugin="tools"), "x = 1", **MADE)
    first = authoring.propose(shop(plugin="own"), "x = 1", **MADE)
    authoring.publish(first.handle, **WHO)
    second = authoring.propose(shop(5, "2.0", "own"), "x = 1", **MADE)
    assert "-    return 4\n+    return 5" in second.diff
    authoring.publish(second.handle, **WHO)
    with pytest.raises(RefusedError, match="has changed since"):
        authoring.roll_back(first.handle, **WHO)
    authoring.roll_back(second.handle, **WHO)
    assert rt.epoch[tool]["own.price"]("tea") == 4
    # Under the same id a person's own plugin is not the agent's.
    rt.reload("own", _saved(tmp_path, shop(7, "3.0", "own")))
    with pytest.raises(RefusedError, match="not yours"):
        authoring.propose(shop(8, "4.0", "own"), "x = 1", **MADE)


def test_a_new_plugin_is_granted_tools_and_nothing_else(rt, no_trial):
    authoring = Authoring(rt, lambda _: "policy")
    code = (
        shop() + "\nfrom epochal.kinds import scalar\n\n@scalar\ndef f(x: int) -> int: return x\n"
    )
    proposal = authoring.propose(code, "x = 1", **MADE)
    with pytest.raises(CapabilityError):
        authoring.publish(proposal.handle, **WHO)
    assert not rt.epoch.generations


@pytest.mark.parametrize(
    ("source", "test", "reason", "error", "match"),
    [
        ("x" * (MAX_SOURCE + 1), "x = 1", "why", RefusedError, "262,145 bytes"),
        ("\n" * 6_000, "x = 1", "why", RefusedError, "6,000 lines"),
        (shop(), "y" * (MAX_SOURCE + 1), "why", RefusedError, "the test has"),
        (shop(), "  ", "why", RefusedError, "test is empty"),
        (shop(), "x = 1", " ", RefusedError, "reason"),
        ("def f(:", "x = 1", "why", RefusedError, "not Python"),
        ("x = '\ud800'", "x = 1", "why", RefusedError, "not Python"),
        ("x = 1\0", "x = 1", "why", RefusedError, "not Python"),
        ("(" * 5_000, "x = 1", "why", RefusedError, "not Python"),
        ("x = 1", "x = 1", "why", ManifestError, "manifest"),
    ],
)
def test_a_bad_source_is_refused_before_it_runs(rt, source, test, reason, error, match):
    records = []
    authoring = Authoring(rt, lambda _: "policy", audit=records.append)
    with pytest.raises(error, match=match):
        authoring.propose(source, test, reason=reason, author="agent")
    assert [one["step"] for one in records] == ["refused"]


def test_proposals_that_wait_are_bounded(rt, no_trial):
    authoring = Authoring(rt, lambda _: "policy")
    made = [authoring.propose(shop(i), "x = 1", **MADE) for i in range(MAX_PROPOSALS + 1)]
    with pytest.raises(RefusedError, match="too old"):
        authoring.publish(made[0].handle, **WHO)


ENDLESS = "import time\nwhile True:\n    time.sleep(0.01)\n"


@pytest.mark.parametrize("where", ["source", "test"] if IS_LONG else ["source"])
def test_a_trial_that_never_ends_is_ended(rt, where):
    authoring = Authoring(rt, lambda _: "policy", trial_timeout=10.0 if IS_LONG else 0.5)
    source = shop() + (ENDLESS if where == "source" else "")
    with pytest.raises(RefusedError, match="did not end within"):
        authoring.propose(source, ENDLESS if where == "test" else "x = 1", **MADE)


def test_the_end_of_the_server_ends_a_trial(rt):
    authoring = Authoring(rt, lambda _: "policy", trial_timeout=60)
    authoring.close()
    with pytest.raises(RefusedError, match="stopping"):
        authoring.propose(shop() + ENDLESS, "x = 1", **MADE)


@pytest.mark.skipif(not IS_LONG, reason="each starts a process")
@pytest.mark.parametrize(
    ("code", "test", "match"),
    [
        ("", "def test_it():\n    assert 1 == 2, 'one is not two'", "one is not two"),
        ("", "x = 1", "no tests ran"),
        ("import os\nos._exit(0)\n", "def test_it(): pass", "did not pass"),
        ("raise RuntimeError('at load')\n", "def test_it(): pass", "at load"),
        ("while True:\n    print('x' * 10_000)\n", "def test_it(): pass", "printed more"),
        ("import os\nassert 'SECRET' not in os.environ\n", TEST.format(plugin="shop"), None),
    ],
)
def test_a_trial_fails_with_its_reason(rt, monkeypatch, code, test, match):
    monkeypatch.setenv("SECRET", "token")
    authoring = Authoring(rt, lambda _: "policy")
    if match is None:
        authoring.propose(shop() + code, test, **MADE)
        return
    with pytest.raises(RefusedError, match=match):
        authoring.propose(shop() + code, test, **MADE)


def test_a_proposal_shown_in_a_terminal_hides_nothing(rt, tmp_path, no_trial, capsys):
    authoring = Authoring(rt, ApprovalFolder(tmp_path))
    code = shop() + "\n# \x1b[2K\x1b[1Ahidden \u202e\n"
    proposal = authoring.propose(code, "x = 1", **MADE)
    assert main(["approve", str(tmp_path), proposal.fingerprint, "--yes"]) == 0
    shown = capsys.readouterr().out
    assert "\\x1b[2K\\x1b[1Ahidden \\u202e" in shown
    assert "\x1b[2K" not in shown


def _saved(folder, text):
    path = folder / "saved.py"
    path.write_text(text)
    return path
