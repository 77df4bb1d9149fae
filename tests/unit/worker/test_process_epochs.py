"""Any process runs any epoch, from its id: built once, kept while it is needed, and gone after."""

import builtins
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

import pytest
from tests.conftest import tool

from epochal import Kind, LifecycleState, Runtime, kinds
from epochal.errors import (
    EpochUnavailableError,
    HostError,
    LocalExportError,
    RuntimeClosedError,
    ShareError,
    UnknownExportError,
)
from epochal.kinds import scalar, service
from epochal.share import Share
from epochal.share.heartbeat import process_name
from epochal.worker import ProcessEpochs, epochs

V1 = "@tool\ndef f(): return 1\n"
V2 = "@tool\ndef f(): return 2\n"
PICKY = """import builtins
if hasattr(builtins, "worker_fails"): raise RuntimeError("not here")
"""
SERVICE = "from epochal.kinds import service\n@service\nclass s:\n    def n(self): return 1\n"


@pytest.fixture
def url(tmp_path):
    return str(tmp_path / "share")


@pytest.fixture
def host(url):
    with Runtime(share=url) as rt:
        yield rt


@pytest.fixture
def worker(url):
    made = ProcessEpochs(Share(url), keep=1, idle_s=0.0)
    yield made
    made.close(10)  # a test that failed may hold an epoch in its traceback


def until(condition):
    deadline = monotonic() + 60
    while not condition():
        assert monotonic() < deadline
        threading.Event().wait(0.01)


def test_a_worker_builds_an_epoch_from_its_id(host, worker, plugins):
    host.load(plugins.write("geo", V1), config={"a": [1]})
    host.load(plugins.write("units", V1))
    epoch = worker.get(host.epoch.id)
    assert epoch is worker.get(host.epoch.id)
    assert epoch is not host.epoch
    assert epoch.id == host.epoch.id
    assert epoch[tool]["geo.f"]() == 1
    assert epoch.generation("geo").identity == host.epoch.generation("geo").identity
    assert worker.held == (epoch.id,)


def test_many_threads_build_an_epoch_once(host, worker, plugins, monkeypatch):
    loads = []
    monkeypatch.setattr(builtins, "worker_loads", loads, raising=False)
    host.load(plugins.write("geo", "import builtins\nbuiltins.worker_loads.append(1)\n" + V1))
    del loads[:]
    start = threading.Barrier(8)

    def ask(_):
        start.wait(30)
        return worker.get(host.epoch.id)

    with ThreadPoolExecutor(8) as pool:
        got = set(map(id, pool.map(ask, range(8))))
    assert len(got) == 1
    assert loads == [1]


def test_a_build_that_is_interrupted_is_made_by_a_thread_that_waits_for_it(
    host, worker, plugins, monkeypatch
):
    host.load(plugins.write("geo", V1))
    begun, build = threading.Semaphore(0), worker._read_and_stage
    interrupts = [KeyboardInterrupt("only here")]

    def interrupted(key):
        begun.release()
        until(lambda: len(worker._builds[key]._callbacks) == 4 or not interrupts)
        if interrupts:
            raise interrupts.pop()
        return build(key)

    monkeypatch.setattr(worker, "_read_and_stage", interrupted)

    def ask(_):
        try:
            return worker.get(host.epoch.id)
        except KeyboardInterrupt as error:
            return error

    with ThreadPoolExecutor(5) as pool:
        got = list(pool.map(ask, range(5)))
    assert [str(one) for one in got if isinstance(one, KeyboardInterrupt)] == ["only here"]
    assert len({id(one) for one in got if not isinstance(one, KeyboardInterrupt)}) == 1
    assert worker.get(host.epoch.id)[tool]["geo.f"]() == 1
    assert not worker._builds


def test_a_worker_refuses_no_epoch_as_incompatible_with_another(host, worker, plugins):
    code = "from tests.integration.strict_kind import strict\n@strict\ndef f({}): pass\n"
    host.load(plugins.write("geo", code.format("a")))
    first = host.epoch.id
    host.remove("geo")
    host.load(plugins.write("geo", code.format("a, b")))
    worker.get(first)
    worker.get(host.epoch.id)


def test_old_epochs_go_once_nothing_needs_them(host, worker, plugins):
    ids = []
    for n in range(3):
        host.change().put(plugins.write("geo", f"@tool\ndef f(): return {n}\n")).run()
        ids.append(host.epoch.id)
        worker.get(ids[-1])
    until(lambda: worker.held == (ids[-1],))
    until(lambda: not worker.draining)


def test_an_epoch_that_a_lease_names_stays(host, worker, plugins):
    host.load(plugins.write("geo", V1))
    with host.lease("nightly") as lease:
        worker.get(lease.id)
        for n in range(2, 4):
            host.reload(
                "geo", plugins.write("geo", f"@tool\ndef f(): return {n}\n"), drain_timeout=0
            )
            worker.get(host.epoch.id)
        until(lambda: len(worker.held) == 2)
        assert worker.held[0] == lease.id
        [hold] = host.cluster.holding(lease.epoch.generation("geo"))
        assert [held_for.label for held_for in hold.leases] == ["nightly"]
        assert "nightly" in str(hold)
    until(lambda: len(worker.held) == 1)


def test_what_runs_holds_its_generation(host, worker, plugins):
    host.load(plugins.write("geo", V1))
    taken = worker.get(host.epoch.id)[tool]["geo.f"]
    first = worker.get(host.epoch.id).generation("geo")
    host.reload("geo", plugins.write("geo", V2))
    worker.get(host.epoch.id)
    until(lambda: first.state is LifecycleState.DRAINING)
    assert worker.draining == (first,)
    assert taken() == 1
    del taken
    until(lambda: first.state is LifecycleState.REMOVED)


def test_a_worker_without_a_distribution_says_which(host, worker, plugins, monkeypatch):
    path = plugins.write("geo", V1)
    path.write_text(
        path.read_text().replace("# ///\nfrom", '# dependencies = ["packaging>=1"]\n# ///\nfrom')
    )
    host.load(path)
    from importlib.metadata import PackageNotFoundError

    from epochal._core.plugin import dependencies

    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(dependencies, "version", absent)
    with pytest.raises(EpochUnavailableError, match=r"on worker \S+:\d+: .*packaging>=1") as raised:
        worker.get(host.epoch.id)
    assert raised.value.code == "epoch-unavailable"
    assert raised.value.distributions == ("packaging>=1",)
    assert raised.value.plugin == "geo"
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.distributions) == (str(raised.value), raised.value.distributions)
    [hold] = [hold for hold in host.cluster.holds() if hold.error] or [None]
    assert hold is None or "packaging>=1" in hold.error
    monkeypatch.undo()
    assert worker.get(host.epoch.id)[tool]["geo.f"]() == 1


def test_a_plugin_that_does_not_load_here_is_reported(host, worker, plugins, monkeypatch):
    host.load(plugins.write("geo", PICKY + V1))
    monkeypatch.setattr(builtins, "worker_fails", True, raising=False)
    with pytest.raises(EpochUnavailableError, match="not here") as raised:
        worker.get(host.epoch.id)
    assert raised.value.plugin == "geo"
    until(lambda: [h for h in host.cluster.holds() if "not here" in h.error])
    assert host.cluster.holding(host.epoch.generation("geo")) == ()
    monkeypatch.delattr(builtins, "worker_fails")
    assert worker.get(host.epoch.id)[tool]["geo.f"]() == 1
    until(lambda: host.cluster.holding(host.epoch.generation("geo")))


FAILS = """
import builtins, sys
builtins.worker_fails = True
from epochal.worker import epochs
epochs(sys.argv[1]).get_or_exit(sys.argv[2], tries=2)
"""


def test_a_process_that_cannot_load_says_so_and_ends(url, host, plugins, monkeypatch):
    host.load(plugins.write("geo", PICKY + V1))
    done = subprocess.run(
        [sys.executable, "-c", FAILS, url, host.epoch.id],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 75, done.stderr
    assert "ends, for another process to try: epoch" in done.stderr
    [hold] = [hold for hold in host.cluster.holds() if hold.error]
    assert (hold.epoch, hold.worker == process_name()) == (host.epoch.id, False)
    assert "not here" in hold.error
    monkeypatch.setattr(builtins, "worker_fails", True, raising=False)
    with (
        ProcessEpochs(Share(url)) as worker,
        pytest.raises(EpochUnavailableError, match="not here"),  # the second of two tries
    ):
        worker.get_or_exit(host.epoch.id, tries=2)


@pytest.mark.parametrize("case", ["loads", "is not in the share", "cannot be said"])
def test_no_process_ends_in_vain(host, worker, plugins, monkeypatch, case):
    host.load(plugins.write("geo", PICKY + V1))
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    if case == "loads":
        assert worker.get_or_exit(host.epoch.id)[tool]["geo.f"]() == 1
    elif case == "is not in the share":
        with pytest.raises(EpochUnavailableError, match=case):
            worker.get_or_exit("0" * 64)
    else:
        monkeypatch.setattr(builtins, "worker_fails", True, raising=False)
        monkeypatch.setattr(worker.share.files.__class__, "write", raise_full)
        with pytest.raises(EpochUnavailableError, match="not here"):
            worker.get_or_exit(host.epoch.id)
    assert not ended


def raise_full(*_):
    raise ShareError("full", path="")


def test_what_belongs_to_one_process_stays_there(host, worker, plugins):
    host.load(plugins.write("web", SERVICE + V1))
    user = "@tool\ndef g(): return 3\n"
    host.load(plugins.write("user", user, requires=["web"]))
    host.load(plugins.write("geo", V2))
    epoch = worker.get(host.epoch.id)
    assert list(epoch.generations) == ["geo"]
    assert epoch.id == host.epoch.id
    remote = host.epoch.remote
    assert remote[tool]["geo.f"]() == 2
    for kind, name in ((service, "web.s"), (tool, "web.f"), (tool, "user.g")):
        with pytest.raises(LocalExportError, match=r"service web\.s.*belongs to one process"):
            remote[kind][name]
    own = pickle.loads(pickle.dumps(remote(local=True)[tool]["user.g"]))
    assert own() == 3
    whole = worker.get(host.epoch.id, local=True)
    assert whole[service]["web.s"].n() == 1
    assert sorted(whole.generations) == ["geo", "user", "web"]


@pytest.mark.parametrize("kind", [getattr(kinds, name) for name in kinds.__all__], ids=str)
def test_every_kind_crosses_but_what_has_state_or_works_by_itself(kind):
    if isinstance(kind, Kind):
        assert kind.crosses == (kind.name not in {"index", "job", "service", "sink", "source"})
    assert kinds.Hook("shop.ordered").crosses


STATELESS = """
from collections.abc import Iterator
from typing import NamedTuple
import pyarrow as pa
from epochal.kinds import (aggregate, data_type, mergeable_state, prompt, resource, scalar,
    table_function, window)
from epochal.kinds import tool as agents_tool
class Row(NamedTuple):
    n: int
@scalar
def plus(x: int) -> int: return x + 1
@window
def same(x: list[float]) -> list[float]: return x
@table_function
def up_to(n: int) -> Iterator[Row]: yield from map(Row, range(n))
@agents_tool
def search(word: str) -> str:
    "Find a word."
    return word
@resource(uri="notes://all")
def notes() -> str:
    "All notes."
    return "notes"
@prompt
def ask() -> str:
    "Ask."
    return "why?"
@aggregate
class count:
    n: int = 0
    def update(self, x: int) -> None: self.n += 1
    def merge(self, other) -> None: self.n += other.n
    def evaluate(self) -> int: return self.n
@mergeable_state
class total:
    parameters = {}
    samples = [[(1,), (2,)], [(40,)]]
    def __init__(self): self.value = 0
    def update(self, value: int) -> None: self.value += value
    def merge(self, other) -> None: self.value += other.value
    def evaluate(self) -> int: return self.value
    def state(self) -> int: return self.value
    def restore(self, state: int) -> None: self.value = state
@data_type
class Money:
    storage = pa.int64()
    parameters = {}
    samples = [5.0]
    def encode(value): return int(value * 100)
    def decode(stored): return stored / 100
"""


def test_an_export_of_each_stateless_kind_is_found_by_a_worker(host, worker, plugins):
    host.load(plugins.write("geo", STATELESS))
    epoch = worker.get(host.epoch.id)
    assert len(host.epoch) == 9
    for kind, table in host.epoch.items():
        [name] = table
        remote = pickle.loads(pickle.dumps(host.epoch.remote[kind][name]))
        assert remote.resolve() is table[name]
        assert type(epoch[kind][name]) is type(table[name])


def test_a_remote_export_is_small_and_names_what_it_is(host, plugins):
    code = "from epochal.kinds import scalar\n@scalar\ndef distance(x: int) -> int: return x + 1\n"
    host.load(plugins.write("geo", code))
    remote = host.epoch.remote[scalar]["geo.distance"]
    sent = pickle.dumps(remote)
    assert len(sent) - len(host.cluster.share.url) <= 150  # two hundred with an address of fifty
    assert pickle.loads(sent) == remote
    assert hash(pickle.loads(sent)) == hash(remote)
    assert "geo.distance" in repr(remote)
    assert remote(1) == 2
    assert list(host.epoch.remote[scalar]) == ["geo.distance"]
    with pytest.raises(UnknownExportError):
        host.epoch.remote[scalar]["geo.distanse"]
    with pytest.raises(TypeError, match="an epoch's key is a kind"):
        host.epoch.remote["geo.distance"]


def test_an_epoch_is_pickled_to_itself(host, plugins):
    host.load(plugins.write("geo", V1))
    assert pickle.loads(pickle.dumps(host.epoch)) is host.epoch
    with host.operation("x") as operation:
        assert operation.remote[tool]["geo.f"]() == 1


def test_an_export_that_is_sent_holds_nothing(host, plugins):
    host.load(plugins.write("geo", V1))
    remote = host.epoch.remote[tool]["geo.f"]
    assert host.reload("geo", plugins.write("geo", V2)).drained
    assert remote() == 1  # built again, from the share
    epochs(host.cluster.share).close()


@pytest.mark.parametrize("fault", ["missing", "flipped", "slow"])
def test_a_share_with_a_fault_is_the_workers_reason(url, host, plugins, fault, monkeypatch):
    host.load(plugins.write("geo", V1))
    [blob] = Path(url, "blobs").iterdir()
    content, expected = blob.read_bytes(), {"flipped": "damaged", "slow": "did not answer"}
    go_on = threading.Event()
    if fault == "slow":
        monkeypatch.setattr(
            "fsspec.implementations.local.LocalFileSystem.cat_file", lambda *_, **__: go_on.wait(60)
        )
    else:
        blob.unlink()
    if fault == "flipped":
        blob.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with ProcessEpochs(Share(url, timeout=0.05 if fault == "slow" else 30.0)) as worker:
        with pytest.raises(EpochUnavailableError, match=expected.get(fault, fault)) as raised:
            worker.get_or_exit(host.epoch.id)  # no other process would fare better
        assert raised.value.worker == process_name()
        go_on.set()
        monkeypatch.undo()
        blob.write_bytes(content)
        worker.share.files._timeout = 30.0
        assert worker.get(host.epoch.id)[tool]["geo.f"]() == 1


def test_an_epoch_that_is_in_no_share(worker, host, plugins):
    with pytest.raises(EpochUnavailableError, match="is not in the share"):
        worker.get("0" * 64)
    with pytest.raises(EpochUnavailableError, match="is not in the share"):
        worker.get("0" * 64)


def test_there_is_one_for_each_process_and_share(url, host):
    made = epochs(url)
    assert epochs(url) is made
    assert epochs(Share(url)) is made
    with pytest.raises(HostError, match="made already"):
        epochs(url, keep=3)
    made.close()
    with pytest.raises(RuntimeClosedError):
        made._queue.check_open()
    assert epochs(url) is not made
    epochs(url).close()


def test_an_epoch_that_is_built_while_its_process_closes_is_not_kept(
    url, host, plugins, monkeypatch
):
    def close_then(key):
        made = stage(key)
        worker.close(0.0)
        return made

    host.load(plugins.write("geo", V1))
    worker = ProcessEpochs(Share(url))
    stage = worker._stage
    monkeypatch.setattr(ProcessEpochs, "_stage", lambda _, key: close_then(key))
    epoch = worker.get(host.epoch.id)
    assert worker.held == ()
    generation = epoch.generation("geo")
    assert epoch[tool]["geo.f"]() == 1
    del epoch
    until(lambda: generation.state is LifecycleState.REMOVED)


def test_closing_shuts_everything_down(url, host, plugins):
    host.load(plugins.write("geo", V1))
    worker = ProcessEpochs(Share(url))
    generation = worker.get(host.epoch.id).generation("geo")
    worker.close()
    worker.close()
    assert generation.state is LifecycleState.REMOVED
    assert host.cluster.holds() == ()
    with pytest.raises(RuntimeClosedError):
        worker.get(host.epoch.id)
