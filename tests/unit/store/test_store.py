"""The store on its own: its policy, its order of writing, its artifacts, its lock."""

import hashlib
import os
import subprocess
import sys
import textwrap

import pytest

from epochal._core.change.journal import AddedGeneration, Commit, RefusedChange
from epochal._core.generation.epoch import Epoch
from epochal._core.plugin.artifact import Artifact, read_artifact
from epochal._core.plugin.candidate import Candidate
from epochal._core.plugin.manifest import read_manifest
from epochal.errors import ArtifactError, NotKeptError, StoreError
from epochal.store import Keep, Store

DAY = 86_400.0


class Clock:
    def __init__(self):
        self.now = 1_000_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def candidate(n, plugin="geo"):
    source = f'# /// plugin\n# id = "{plugin}"\n# version = "{n}.0"\n# ///\nX = {n}\n'
    artifact = Artifact(plugin, {f"{plugin}.py": source.encode()})
    return Candidate(artifact, read_manifest(artifact), {}, frozenset({"*"}))


def commit(store, n, *, first=False, plugin="geo", reason=""):
    """Commit epoch n, with generation n of the plugin."""
    added = (AddedGeneration(n, candidate(n, plugin)),)
    removed = () if first else (plugin,)
    store.commit(Commit(n, reason, n - 1, n, f"id{n}", added, removed))


def numbers(store):
    return [record.number for record in store.history()][::-1]


def blobs(store):
    return {path.name for path in (store.folder / "artifacts").iterdir()}


# --- the policy ----------------------------------------------------------------------------------


def test_epochs_beyond_the_limit_are_dropped_oldest_first(tmp_path):
    with Store(tmp_path, keep=Keep(epochs=3)) as store:
        for n in range(1, 6):
            commit(store, n, first=n == 1)
        assert numbers(store) == [3, 4, 5]
        assert store.candidate("geo", 3).manifest.version.major == 3
        with pytest.raises(NotKeptError):
            store.candidate("geo", 2)


def commit_daily(store, clock, numbers):
    for n in numbers:
        clock.now += DAY
        commit(store, n)


def test_an_epochs_age_counts_from_its_replacement(tmp_path, clock):
    with Store(tmp_path, keep=Keep(days=10), clock=clock) as store:
        commit(store, 1, first=True)
        clock.now += 400 * DAY  # it serves for more than a year
        commit(store, 2)
        assert numbers(store) == [1, 2], "replaced today: it can be rolled back to"
        commit_daily(store, clock, range(3, 13))
        assert numbers(store) == list(range(1, 13)), "the first was replaced ten days ago"
        commit_daily(store, clock, [13])
        assert numbers(store) == list(range(2, 14))
        commit_daily(store, clock, range(14, 30))
        assert numbers(store) == list(range(18, 30))


@pytest.mark.parametrize("jump", [1000 * DAY, -1000 * DAY, 91 * DAY, 12 * DAY])
@pytest.mark.parametrize("wrong", [1, 5])
def test_a_wrong_clock_does_not_drop_the_history(tmp_path, clock, jump, wrong):
    with Store(tmp_path, keep=Keep(days=10), clock=clock) as store:
        commit(store, 1, first=True)
        commit_daily(store, clock, range(2, 9))
        clock.now += jump
        for n in range(9, 9 + wrong):
            commit(store, n)
            store.refuse(RefusedChange(n, "", n, "init", "no", {}))
            clock.now += 60
        clock.now -= jump
        commit(store, 9 + wrong)
        assert numbers(store) == list(range(1, 10 + wrong))
        assert len(store.audit()) == 9 + 2 * wrong
        # It ages on as before.
        commit_daily(store, clock, range(10 + wrong, 50))
        assert numbers(store)[0] in range(37, 39)
        assert len(store.audit()) in range(11, 14)


@pytest.mark.parametrize("keep", [Keep(epochs=1), Keep(days=0), Keep(epochs=1, days=0, audit=0)])
def test_the_current_epoch_is_always_kept(tmp_path, clock, keep):
    with Store(tmp_path, keep=keep, clock=clock) as store:
        for n in (1, 2, 3):
            commit(store, n, first=n == 1)
            clock.now += DAY
        assert numbers(store)[-1] == 3
        assert set(store.candidates(3)) == {"geo"}


def test_the_audit_log_has_a_limit_of_its_own(tmp_path):
    with Store(tmp_path, keep=Keep(audit=3)) as store:
        for n in range(1, 6):
            store.refuse(RefusedChange(n, f"try {n}", 0, "init", "no", {"geo": n}))
        assert [entry.reason for entry in store.audit()] == ["try 5", "try 4", "try 3"]
        assert [entry.reason for entry in store.audit(1)] == ["try 5"]
        assert store.numbers() == {"geo": 6}


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"days": -1.0}, {"audit": -1}])
def test_an_impossible_policy_is_refused(wrong):
    with pytest.raises(ValueError, match="expected at least 1 epoch"):
        Keep(**wrong)


# --- artifacts -----------------------------------------------------------------------------------


def test_artifacts_in_the_history_or_in_use_are_never_collected(tmp_path):
    with Store(tmp_path, keep=Keep(epochs=2)) as store:
        in_use = candidate(1)
        store.commit(Commit(1, "", 0, 1, "id1", (AddedGeneration(1, in_use),)))
        for n in (2, 3, 4):
            commit(store, n)
        store.collect()
        referred = {candidate(n).artifact.digest for n in (3, 4)}
        assert blobs(store) == referred | {in_use.artifact.digest}
        del in_use
        store.collect()
        assert blobs(store) == referred


def test_commits_collect_artifacts_from_time_to_time(tmp_path, monkeypatch):
    monkeypatch.setattr("epochal.store.store._COLLECT_AFTER", 3)
    with Store(tmp_path, keep=Keep(epochs=1)) as store:
        for n in range(1, 30):
            commit(store, n, first=n == 1)
            assert len(blobs(store)) <= 5


def test_unfinished_files_are_collected_and_foreign_files_stay(tmp_path):
    with Store(tmp_path) as store:
        commit(store, 1, first=True)
        folder = tmp_path / "artifacts"
        (folder / ("0" * 64 + "." + "a" * 32 + ".unfinished")).write_bytes(b"half")
        (folder / ("1" * 64)).write_bytes(b"of a commit that failed")
        (folder / "notes.txt").write_text("a file of the user")
        store.collect()
        assert blobs(store) == {candidate(1).artifact.digest, "notes.txt"}


def test_an_unreadable_listing_stops_the_collection_with_a_warning(tmp_path):
    package = make_package(tmp_path / "geo")
    warnings = []
    with Store(tmp_path / "store", warn=warnings.append) as store:
        made = Candidate(package, read_manifest(package), {}, frozenset({"*"}))
        store.commit(Commit(1, "", 0, 1, "id1", (AddedGeneration(0, made),)))
        before = blobs(store)
        (store.folder / "artifacts" / package.digest).write_bytes(b"#")
        store.collect()
        assert blobs(store) == before
    assert len(warnings) == 1
    assert package.digest in warnings[0]


def make_package(folder, name="data.txt"):
    folder.mkdir()
    (folder / "__init__.py").write_text("X = 1\n")
    (folder / "plugin.toml").write_text('id = "geo"\nversion = "1.0"\n')
    (folder / name).write_text("data")
    return read_artifact(folder)


def test_every_artifact_file_is_named_by_its_sha256(tmp_path):
    package = make_package(tmp_path / "geo")
    with Store(tmp_path / "store") as store:
        made = Candidate(package, read_manifest(package), {}, frozenset({"*"}))
        store.commit(Commit(1, "", 0, 1, "id1", (AddedGeneration(0, made),)))
        assert len(blobs(store)) == 4  # three files and their listing
        for path in (store.folder / "artifacts").iterdir():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        assert store.candidate("geo", 0).artifact.files == package.files


def test_a_package_with_a_line_break_in_a_name_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="not printable text"):
        make_package(tmp_path / "geo", "line\nbreak")


# --- the order of writing ------------------------------------------------------------------------


def test_a_commit_syncs_bytes_then_names_then_the_transaction(tmp_path, monkeypatch):
    steps = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(file):
        kind = "folder" if os.path.isdir(f"/proc/self/fd/{file}") else "file"  # noqa: PTH112
        steps.append(f"sync {kind}")
        real_fsync(file)

    def replace(old, new):
        steps.append("rename")
        real_replace(old, new)

    with Store(tmp_path) as store:
        connection = store._journal.connection
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        assert (synchronous, mode) == (2, "wal")  # 2 is FULL
        monkeypatch.setattr("epochal._core.sync.durable_files.os.fsync", fsync)
        monkeypatch.setattr("epochal._core.sync.durable_files.os.replace", replace)
        connection.set_trace_callback(
            lambda text: steps.append(text) if text in {"BEGIN IMMEDIATE", "COMMIT"} else None
        )
        commit(store, 1, first=True)
    if sys.platform == "linux":
        assert steps == ["sync file", "rename", "sync folder", "BEGIN IMMEDIATE", "COMMIT"]
    assert (tmp_path / "head").read_text().strip("0\n") == "1"


def test_a_failing_commit_leaves_nothing_of_itself(tmp_path):
    with Store(tmp_path) as store:
        commit(store, 1, first=True)
        with pytest.raises(StoreError, match="at epoch 5, its store"):
            store.commit(Commit(9, "", 5, 6, "id6", (AddedGeneration(9, candidate(9)),), ("geo",)))
        again = Commit(9, "", 1, 2, "id2", (AddedGeneration(1, candidate(9)),), ("geo",))
        with pytest.raises(StoreError):  # the generation exists already
            store.commit(again)
        assert numbers(store) == [1]
        assert [entry.change for entry in store.audit()] == [1]
        assert store.candidates(1)["geo"].identity == candidate(1).identity


def test_lone_surrogates_are_stored_as_escapes(tmp_path):
    with Store(tmp_path) as store:
        commit(store, 1, first=True, reason="half \ud83d")
        store.refuse(RefusedChange(2, "\ud83d", 1, "init", "broken \udc80", {}))
        assert store.history()[0].reason == "half \\ud83d"
        assert store.audit()[0].error == "broken \\udc80"


def test_a_candidates_configuration_is_as_a_restart_reads_it():
    artifact = candidate(1).artifact
    config = {"pair": (1, 2), "by": {10: "a", 9: "b"}}
    made = Candidate(artifact, read_manifest(artifact), config, frozenset())
    again = Candidate(artifact, read_manifest(artifact), made.config, frozenset())
    assert dict(made.config) == {"pair": [1, 2], "by": {"10": "a", "9": "b"}}
    assert again.identity == made.identity
    config["pair"] = None
    assert made.config["pair"] == [1, 2], "a copy"


# --- the lock ------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_that_outlives_its_parent_does_not_hold_the_store(tmp_path):
    script = """
        import os, sys, time
        from epochal.store import Store
        store = Store(sys.argv[1])
        if os.fork():
            os._exit(0)
        print(os.getpid(), flush=True)
        time.sleep(60)
    """
    done = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), tmp_path], stdout=subprocess.PIPE, text=True
    )
    child = int(done.stdout.readline())
    done.wait()
    try:
        Store(tmp_path).close()
    finally:
        os.kill(child, 9)
        done.stdout.close()


def test_an_empty_epoch_has_the_runtimes_id(tmp_path):
    with Store(tmp_path) as store:
        assert store.last() is None
        commit(store, 1, first=True)
        store.commit(Commit(2, "", 1, 2, Epoch().id, (), ("geo",)))
        assert store.last().id == Epoch(2).id
        assert store.candidates(2) == {}
