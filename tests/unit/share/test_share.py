"""The share: written before the publish, verified on reading, collected by what is named."""

import json
import os
import pickle
from datetime import UTC, datetime, timedelta
from threading import Event
from time import monotonic

import fsspec
import pytest
from tests.conftest import tool
from tests.unit.share.faulty import FaultyFileSystem

from epochal import Runtime
from epochal.errors import DocumentError, HostError, NoShareError, NoThreadError, ShareError
from epochal.share import Share, files
from epochal.share.heartbeat import LeaseBook

V1 = "@tool\ndef f(): return 1\n"
V2 = "@tool\ndef f(): return 2\n"


def files_of(url, folder):
    fs, root = fsspec.core.url_to_fs(url)
    return sorted(path.rpartition("/")[2] for path in fs.find(f"{root}/{folder}"))


def damage(url, folder, change):
    """Change the only file of a folder."""
    fs, root = fsspec.core.url_to_fs(url)
    [path] = fs.find(f"{root}/{folder}")
    content = change(fs.cat_file(path))
    if content is None:
        fs.rm_file(path)
    else:
        fs.pipe_file(path, content)


def flip(content):
    return content[:-2] + bytes([content[-2] ^ 1]) + content[-1:]


def test_each_epoch_is_in_the_share_and_can_be_read_back(url, plugins, package):
    with Runtime(share=url) as rt:
        rt.load(plugins.write("geo", V1), config={"a": 1}, grants=["*"])
        rt.load(
            package("units", {"__init__.py": "", "in/side.py": "x = 1\n", "twin.py": "x = 1\n"})
        )
        document = Share(url).document(rt.epoch.id)
        for plugin, generation in rt.epoch.generations.items():
            candidate = Share(url).candidate(document.plugins[plugin])
            assert candidate.identity == generation.identity
            assert candidate.artifact.files == generation.candidate.artifact.files
    assert len(files_of(url, "epochs")) == 2


def test_an_epoch_is_written_before_it_is_published(faulty, faults, plugins, monkeypatch):
    found = []

    def look(share, document, artifacts, **options):
        read = put(share, document, artifacts, **options)
        found.append((Share(faulty).document(read.id).id, rt.epoch.id != read.id))
        return read

    put = Share.put
    monkeypatch.setattr(Share, "put", look)
    with Runtime(share=faulty) as rt:
        rt.load(plugins.write("geo", V1))
        rt.reload("geo", plugins.write("geo", V2))
        assert found[1] == (rt.epoch.id, True)
    writes = [folder for verb, folder in faults.log if verb == "write"]
    assert [folder for folder in writes if folder != "leases"] == ["blobs", "epochs"] * 2


@pytest.mark.parametrize("fault", ["full", "read_only"])
def test_a_share_that_cannot_be_written_refuses_the_change(faulty, faults, plugins, fault):
    with Runtime(share=faulty) as rt:
        rt.load(plugins.write("geo", V1))
        before = rt.epoch
        getattr(faults, fault)()
        with pytest.raises(ShareError, match=r"blobs/.*cannot be written: (No space|Read-only)"):
            rt.reload("geo", plugins.write("geo", V2))
        assert not rt.draining  # the error holds nothing of what was rolled back
        assert rt.epoch is before
        assert before[tool]["geo.f"]() == 1
        del before
        faults.write_error = None
        rt.reload("geo")
        assert rt.epoch[tool]["geo.f"]() == 2


def test_a_share_that_does_not_answer_refuses_the_change(faulty, faults, plugins):
    with Runtime(share=Share(faulty, timeout=0.05)) as rt:
        faults.slow()
        with pytest.raises(ShareError, match=r"did not answer within 0\.05 s"):
            rt.load(plugins.write("geo", V1))
        assert not rt.draining
        assert not rt.epoch.generations
        faults.hang.set()
        rt.load(plugins.write("geo", V1))


def test_a_reading_that_fails_for_a_moment_is_tried_again(faulty, faults, plugins, monkeypatch):
    monkeypatch.setattr("epochal.share.files._AGAIN_S", 0.0)
    with Runtime(share=faulty) as rt:
        rt.load(plugins.write("geo", V1))
        failures = [OSError("slow down"), OSError("slow down")]
        faults.read_error = lambda: failures.pop() if failures else None
        share = Share(faulty)
        assert share.document(rt.epoch.id).id == rt.epoch.id
        faults.read_error = lambda: OSError("out of order")
        with pytest.raises(ShareError, match="out of order"):
            share.document(rt.epoch.id)


def test_only_what_is_new_is_written(faulty, faults, plugins):
    with Runtime(share=faulty) as rt:
        rt.load(plugins.write("geo", V1))
        rt.load(plugins.write("units", V1))
        del faults.log[:]
        rt.reload("geo", plugins.write("geo", V2))
        assert [entry for entry in faults.log if entry[1] != "leases"] == [
            ("look", "epochs"),
            ("look", "blobs"),
            ("write", "blobs"),
            ("write", "epochs"),
        ]
        del faults.log[:]
        rt.reload("geo", plugins.write("geo", V1), reason="back again")
        assert [entry for entry in faults.log if entry[1] != "leases"] == [
            ("look", "epochs"),
            ("look", "blobs"),
            ("write", "epochs"),
        ]
        del faults.log[:]
        assert rt.epoch.remote[tool]["geo.f"]() == 1
        pickle.dumps(rt.epoch)
        assert faults.log == []  # it is there


def test_a_share_that_was_emptied_gets_all_of_the_next_epoch(url, plugins):
    with Runtime(share=url) as rt:
        rt.load(plugins.write("geo", V1))
        rt.load(plugins.write("units", V1))
        fs, root = fsspec.core.url_to_fs(url)
        with rt.lease("nightly"):
            fs.rm(root, recursive=True)
            assert rt.cluster.leases() == ()
            rt.reload("geo", plugins.write("geo", V2), drain_timeout=0.0)
            share = Share(url)
            for record in share.document(rt.epoch.id).plugins.values():
                share.candidate(record)
            assert len(rt.cluster.leases()) == 2


@pytest.mark.parametrize("how", ["remote", "pickle", "lease"])
def test_a_stages_epoch_is_in_the_share_once_it_is_sent(url, plugins, how):
    with Runtime(share=url) as rt, rt.stage(plugins.write("geo", V1)) as stage:
        share = Share(url)
        assert not share.has(stage.epoch.id)
        if how == "remote":
            assert stage.epoch.remote[tool]["geo.f"]() == 1
        elif how == "pickle":
            pickle.dumps(stage.epoch)
        else:
            with rt.lease("trial", epoch=stage.epoch):
                pass
        share.candidate(share.document(stage.epoch.id).plugins["geo"])


def test_a_document_that_was_removed_is_written_again(url, plugins):
    with Runtime(share=url) as rt:
        rt.load(plugins.write("geo", V1))
        first = rt.epoch.id
        damage(url, "epochs", lambda _: None)
        rt.reload("geo", plugins.write("geo", V2))
        rt.reload("geo", plugins.write("geo", V1))
        assert Share(url).document(first).id == rt.epoch.id


@pytest.mark.parametrize(
    ("folder", "change", "expected"),
    [
        ("blobs", flip, "damaged"),
        ("blobs", lambda _: None, "is missing in the share"),
        ("blobs", lambda content: content[:-1], "damaged"),
        ("epochs", flip, "document of the epoch is damaged|not the document"),
        ("epochs", lambda _: None, "is not in the share"),
        ("epochs", lambda _: b"", "not the document"),
    ],
)
def test_what_is_damaged_is_never_read(url, plugins, folder, change, expected):
    with Runtime(share=url) as rt:
        rt.load(plugins.write("geo", V1))
        damage(url, folder, change)
        share = Share(url)
        with pytest.raises((ShareError, DocumentError), match=expected):
            share.candidate(share.document(rt.epoch.id).plugins["geo"])


def test_a_document_under_another_id_is_refused(url, plugins):
    with Runtime(share=url) as rt:
        rt.load(plugins.write("geo", V1))
        share = Share(url)
        share.files.write(f"epochs/{'0' * 64}.json", rt.epoch.document().encode())
        with pytest.raises(DocumentError, match="another epoch"):
            share.document("0" * 64)


@pytest.mark.parametrize("epoch", ["", "../../etc/passwd", "A" * 64, "0" * 63])
def test_an_id_that_is_none_reads_no_file(url, epoch):
    with pytest.raises(ShareError, match="not in the share"):
        Share(url).document(epoch)


def test_a_collection_keeps_what_is_named_young_or_new(url, plugins, clock):
    share = Share(url, clock=clock)
    with Runtime(share=share) as rt:
        ids = []
        for n in range(5):
            rt.change().put(plugins.write("geo", f"@tool\ndef f(): return {n}\n")).run()
            ids.append(rt.epoch.id)
        assert share.collect(older_than_s=3600, keep=0).epochs == ()  # all are young
        clock.ahead = 7200
        assert share.collect(older_than_s=3600, keep=5).epochs == ()  # all are new
        book = rt._publication.book
        book.add("a", ids[1], "nightly")  # renews the lease of the current epoch, too
        collected = share.collect(older_than_s=3600, keep=0, named=[ids[2]])
        assert set(collected.epochs) == {ids[0], ids[3]}
        assert collected.blobs == 2
        for epoch in (ids[1], ids[2], ids[4]):
            share.candidate(share.document(epoch).plugins["geo"])
        assert share.collect(older_than_s=3600, keep=0).epochs == (ids[2],)
        assert share.collect(older_than_s=3600, keep=0).epochs == ()
        rt.reload("geo", plugins.write("geo", "@tool\ndef f(): return 0\n"))
        assert share.document(ids[0]).id == rt.epoch.id  # written anew


def test_an_artifact_that_another_process_collected_is_written_again(url, plugins, clock):
    with Runtime(share=url) as rt:
        rt.load(plugins.write("geo", V1))
        first = rt.epoch.id
        rt.reload("geo", plugins.write("geo", V2))
        clock.ahead = 10_000_000
        rt._publication.book._presence.share.clock = clock
        rt._publication.book.add("renewed", rt.epoch.id, "now")
        assert Share(url, clock=clock).collect(keep=0).epochs == (first,)
        rt.reload("geo", plugins.write("geo", V1))
        share = Share(url)
        share.candidate(share.document(first).plugins["geo"])


def test_an_epoch_that_serves_anew_meanwhile_stays(faulty, faults, plugins, clock, monkeypatch):
    share = Share(faulty, clock=clock)
    with Runtime(share=share) as rt:
        rt.load(plugins.write("geo", V1))
        first = rt.epoch.id
        rt.reload("geo", plugins.write("geo", V2))
        clock.ahead = 10_000_000

        def reload_meanwhile(self, epochs):
            monkeypatch.undo()
            monkeypatch.setattr(FaultyFileSystem, "faults", faults)
            used = self._blobs_of(epochs)
            clock.ahead = 0
            rt.reload("geo", plugins.write("geo", V1))
            fs, root = fsspec.core.url_to_fs(faulty)
            [path] = fs.find(f"{root}/epochs/{first}.json")
            fs.store[path].created = datetime.now(UTC) + timedelta(days=300)
            return used

        monkeypatch.setattr(Share, "_blobs_of", reload_meanwhile)
        collected = share.collect(keep=0)
        assert first not in collected.epochs
        share.candidate(share.document(first).plugins["geo"])


def test_a_collection_that_cannot_read_removes_nothing(url, plugins, clock):
    share = Share(url, clock=clock)
    with Runtime(share=share) as rt:
        rt.load(plugins.write("geo", V1))
        damage(url, "epochs", flip)
        clock.ahead = 10_000_000
        with pytest.raises(DocumentError):
            share.collect()
        assert len(files_of(url, "blobs")) == 1


def test_a_lease_is_in_the_share_for_its_block(url, plugins):
    with Runtime(share=url) as rt:
        rt.load(plugins.write("geo", V1))
        with rt.lease("nightly") as epoch:
            assert epoch[tool]["geo.f"]() == 1
            leases = {lease.label: lease.epoch for lease in rt.cluster.leases()}
            assert leases == {"current epoch": rt.epoch.id, "nightly": rt.epoch.id}
            assert rt.current_operation() is epoch
        assert [lease.label for lease in rt.cluster.leases()] == ["current epoch"]
        assert rt.current_operation() is None
    assert files_of(url, "leases") == []


def test_a_lease_of_an_event_loop(url, plugins):
    import asyncio

    async def main():
        async with Runtime(share=url) as rt:
            await rt.aload(plugins.write("geo", V1))
            async with rt.lease("nightly") as epoch:
                assert rt.current_operation() is epoch
                assert len(rt.cluster.leases()) == 2
            assert rt.current_operation() is None
            assert len(rt.cluster.leases()) == 1

    asyncio.run(main())


def test_the_lease_of_a_process_that_died_expires(url, plugins, clock):
    share = Share(url, clock=clock)
    with Runtime(share=share) as rt:
        rt.load(plugins.write("geo", V1))
        with rt.lease("nightly"):
            assert len(rt.cluster.leases()) == 2
            clock.ahead = 31  # and nothing renewed it meanwhile
            assert rt.cluster.leases() == ()


@pytest.mark.parametrize("how", ["dropped", "cancelled"])
def test_a_lease_without_an_end_goes_with_its_holder(faulty, faults, plugins, how):
    import asyncio

    async def cancelled(rt):
        begin = asyncio.create_task(rt.lease("nightly").__aenter__())
        async with asyncio.timeout(60):
            while ("write", "leases") not in faults.log:
                await asyncio.sleep(0.001)
        begin.cancel()
        with pytest.raises(asyncio.CancelledError):
            await begin
        faults.hang.set()

    with Runtime(share=faulty) as rt:
        rt.load(plugins.write("geo", V1))
        book = rt._publication.book
        if how == "dropped":
            rt.lease("nightly").__enter__()
        else:
            del faults.log[:]
            faults.slow()
            asyncio.run(cancelled(rt))  # ends after its threads
        assert [label for _, label, _ in book._leases.values()] == ["current epoch"]
        book._presence.write()  # as the next renewal
        assert [lease.label for lease in rt.cluster.leases()] == ["current epoch"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_has_leases_of_its_own(tmp_path, plugins):
    url = str(tmp_path / "share")
    with Runtime(share=Share(url)) as rt:
        rt.load(plugins.write("geo", V1))
        with rt.lease("parent"):
            book = rt._publication.book
            with book._lock, book._presence._writing:  # as another thread may, at that moment
                child = os.fork()
            if child == 0:
                found = 1
                try:
                    with rt.lease("child"):
                        leases = {f"{one.process} {one.label}" for one in rt.cluster.leases()}
                        mine, parents = f":{os.getpid()} child", f":{os.getppid()} parent"
                        has_both = all(
                            any(word in one for one in leases) for word in (mine, parents)
                        )
                        is_renewed = book._presence._thread.is_alive()
                        found = 0 if has_both and is_renewed else 2
                finally:
                    os._exit(found)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            rt.lease("another").__enter__().end()  # writes the file of this process
            mine = {
                lease.label for lease in rt.cluster.leases() if f":{os.getpid()}" in lease.process
            }
            assert mine == {"current epoch", "parent"}


def await_writes_of_leases(faults, times):
    deadline = monotonic() + 60
    while faults.log.count(("write", "leases")) < times:
        assert monotonic() < deadline
        Event().wait(0.01)


def test_a_lease_is_renewed(faulty, faults):
    book = LeaseBook(Share(faulty), lambda _: None, lease_s=0.05)
    book.add("a", "0" * 64, "nightly")
    await_writes_of_leases(faults, 3)
    book.close()


def test_a_renewal_that_fails_is_reported_and_tried_again(faulty, faults):
    reported, is_reported = [], Event()

    def warn(line):
        reported.append(line)
        is_reported.set()

    book = LeaseBook(Share(faulty), warn, lease_s=0.05)
    book.add("a", "0" * 64, "nightly")
    faults.full()
    assert is_reported.wait(60)
    assert "No space" in reported[0]
    faults.write_error = None
    del faults.log[:]
    await_writes_of_leases(faults, 2)
    book.close()


def test_a_renewal_for_which_no_thread_starts_is_tried_again(faulty, faults, monkeypatch):
    refusals, reported = [NoThreadError("x", "too many")] * 2, []
    call = files.call_on_thread

    def call_on_thread(*args, **options):
        if refusals and faults.log.count(("write", "leases")):
            raise refusals.pop()
        return call(*args, **options)

    monkeypatch.setattr(files, "call_on_thread", call_on_thread)
    book = LeaseBook(Share(faulty), reported.append, lease_s=0.05)
    book.add("a", "0" * 64, "nightly")
    await_writes_of_leases(faults, 3)
    book.close()
    assert ["too many" in line for line in reported] == [True, True]


def test_a_lease_that_cannot_be_written_does_not_begin(faulty, faults, plugins):
    with Runtime(share=faulty) as rt:
        rt.load(plugins.write("geo", V1))
        faults.full()
        with pytest.raises(ShareError), rt.lease("nightly"):
            pytest.fail("the block began")
        faults.write_error = None
        assert [lease.label for lease in rt.cluster.leases()] == ["current epoch"]


def test_words_of_another_version_in_the_share_are_passed_over(url, plugins):
    with Runtime(share=url) as rt:
        rt.load(plugins.write("geo", V1))
        for name, content in {
            "leases/x.json": b"{",
            "leases/y.json": json.dumps({"until": "later"}).encode(),
            "leases/deep.json": b"[" * 100_000,
            "leases/later.json": json.dumps({"until": 1e12, "epochs": []}).encode(),
            "leases/text.json": json.dumps({"until": 1e12, "leases": ["geo"]}).encode(),
            "leases/folder/x.json": b"",
            "workers/z.json": b"[]",
            "workers/later.json": json.dumps({"until": 1e12, "holds": [{}]}).encode(),
        }.items():
            rt._publication.share.files.write(name, content)
        assert len(rt.cluster.leases()) == 1
        assert rt.cluster.holds() == ()


def test_a_collection_keeps_what_a_later_version_names(url, plugins, clock):
    share = Share(url, clock=clock)
    with Runtime(share=share) as rt:
        rt.load(plugins.write("geo", V1))
        first = rt.epoch.id
        rt.reload("geo", plugins.write("geo", V2))
        content = json.dumps({"until": 1e12, "leases": [{"epoch": first, "form": 7}]})
        share.files.write("leases/later.json", content.encode())
        clock.ahead = 10_000_000
        rt._publication.book.add("renewed", rt.epoch.id, "now")
        assert share.collect(keep=0).epochs == ()


def test_a_folder_is_the_same_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Share("share").url == str(tmp_path / "share")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser writes everywhere")
def test_a_folder_that_is_closed(tmp_path):
    (tmp_path / "share").mkdir(mode=0o500)
    with pytest.raises(ShareError, match="Permission denied"):
        Share(tmp_path / "share").files.write("blobs/x", b"")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nosuchscheme://x", "cannot be reached"),
        ("", "is a folder, or one that fsspec knows.*not ''"),
        (" ", "not ' '"),
        (7, "not 7"),
    ],
)
def test_an_address_that_is_none(address, message):
    with pytest.raises(HostError, match=message):
        Runtime(share=address)


def test_a_runtime_without_a_share_says_so(rt):
    for use in (lambda: rt.lease("x"), lambda: rt.cluster, lambda: rt.epoch.remote):
        with pytest.raises(NoShareError, match="Runtime\\(share="):
            use()


def test_a_restart_has_the_same_epoch_in_the_share(url, plugins, tmp_path):
    with Runtime(store=tmp_path / "store") as rt:
        rt.load(plugins.write("geo", V1))
        first = rt.epoch.id
    with Runtime(store=tmp_path / "store", share=url) as rt:
        assert rt.epoch.id == first
        assert Share(url).document(first).id == first
        assert rt.epoch.remote[tool]["geo.f"]() == 1
