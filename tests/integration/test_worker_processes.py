"""Worker processes run a plugin's functions with the generation of the caller."""

import multiprocessing
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cloudpickle
import pytest
from tests.conftest import tool

from epochal.loaders import _worker_processes as workers

LIMIT_S = 60.0

CODE = """
import functools, multiprocessing
from concurrent.futures import ProcessPoolExecutor
from tests.conftest import tool
from geo import shapes
VERSION = {n}
class Failed(Exception): pass
def work(n): return n * 10 + VERSION
@functools.lru_cache
def cached(n): return work(n)
def kind(cls): return cls.__qualname__
@tool
def made(n): return shapes.Shape(n)
@tool
def version(n): return work(n)
@tool
def fail(): raise Failed(VERSION)
@tool
def is_own(one): return type(one) is shapes.Shape
@tool
def fan(how):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(how)) as pool:
        calls = [
            (work, 1), (functools.partial(work), 1), (cached, 1), (version, 1),
            (shapes.Shape(1).area, 2), (shapes.Shape.of, 3), (kind, shapes.Shape.Inner),
        ]
        return [pool.submit(*call).result(timeout=60) for call in calls]
"""
SHAPES = """
import late
class Shape:
    class Inner: pass
    def __init__(self, n): self.n = n
    def area(self, m):
        from geo import other
        return self.n + m + other.MORE
    @classmethod
    def of(cls, n): return cls(n).n
"""


@pytest.fixture
def geo(package):
    """Writes version n of plugin geo, which carries a distribution."""

    def write(n):
        files = {
            "__init__.py": CODE.format(n=n),
            "shapes.py": SHAPES,
            "other.py": "MORE = 100\n",
            "_vendor/late.py": "",
        }
        path = package("geo", files, version=f"{n}.0")
        manifest = path / "plugin.toml"
        manifest.write_text(manifest.read_text() + 'vendored = "_vendor"\n')
        return path

    return write


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_a_pool_runs_each_callers_generation(rt, geo, how):
    rt.load(geo(1))
    old = rt.epoch
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(how)) as pool:

        def run(epoch, name, *args):
            return pool.submit(epoch[tool][f"geo.{name}"], *args).result(timeout=LIMIT_S)

        assert run(old, "version", 7) == 71
        rt.reload("geo", geo(2), drain_timeout=0.0)
        # The worker began under the first version, and has both now.
        for epoch, version in ((rt.epoch, 2), (old, 1), (rt.epoch, 2)):
            assert run(epoch, "version", 7) == 70 + version
            made = run(epoch, "made", 3)
            assert made.n == 3
            assert epoch[tool]["geo.is_own"](made), "what comes back is the caller's"
            assert run(epoch, "is_own", made), "and so is what goes there"
            with pytest.raises(Exception, match=str(version)) as caught:
                run(epoch, "fail")
            failed = epoch[tool]["geo.fail"].__globals__["Failed"]
            assert type(caught.value) is failed
            del caught


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_a_plugin_fans_out(rt, geo, how):
    rt.load(geo(4))
    assert rt.epoch[tool]["geo.fan"](how) == [14, 14, 14, 14, 103, 3, "Shape.Inner"]


def test_a_multiprocessing_pool_runs_exports(rt, geo):
    rt.load(geo(1))
    export = rt.epoch[tool]["geo.version"]
    with multiprocessing.get_context("spawn").Pool(1, initializer=export, initargs=(0,)) as pool:
        assert pool.map_async(export, range(3)).get(timeout=LIMIT_S) == [1, 11, 21]


def test_cloudpickle_which_joblib_uses_sends_the_same(rt, geo):
    rt.load(geo(1))
    export, old_class = rt.epoch[tool]["geo.version"], type(rt.epoch[tool]["geo.made"](1))
    data = cloudpickle.dumps([export, old_class])
    assert pickle.loads(data) == [export, old_class]
    assert pickle.loads(data)[0] is export, "with its lease"
    rt.reload("geo", geo(2), drain_timeout=0.0)
    assert pickle.loads(data)[0](1) == 11
    assert pickle.loads(cloudpickle.dumps(rt.epoch[tool]["geo.version"]))(1) == 12
    code = "import pickle, sys\nf, _ = pickle.loads(bytes.fromhex(sys.argv[1]))\nprint(f(5))"
    done = subprocess.run(
        [sys.executable, "-c", code, data.hex()],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout == "51\n", done.stderr


def test_the_same_code_twice_is_told_apart(rt, geo):
    rt.load(geo(1))
    old = rt.epoch
    rt.reload("geo", drain_timeout=0.0)
    for epoch in (old, rt.epoch):
        made = epoch[tool]["geo.made"](1)
        assert type(pickle.loads(cloudpickle.dumps(made))) is type(made)


def test_code_that_is_gone_is_missed_by_its_version(rt, geo):
    rt.load(geo(1))
    digest = rt.epoch.generations["geo"].digest
    data = cloudpickle.dumps(rt.epoch[tool]["geo.version"])
    rt.remove("geo")
    assert pickle.loads(data)(1) == 11, "a replica of the code that was sent"
    for replica in workers._replicas.values():
        replica.close()
    workers._replicas.clear()
    (workers._folder / digest).unlink()
    with pytest.raises(pickle.UnpicklingError, match=rf"plugin 'geo' 1\.0 \(digest {digest[:12]}"):
        pickle.loads(data)


def test_a_worker_keeps_few_versions(rt, geo, monkeypatch):
    monkeypatch.setattr(workers, "_MOST_REPLICAS", 2)
    before, sent = set(sys.modules), []
    for n in range(4):
        with rt.change() as change:
            change.put(geo(n))
        sent.append(cloudpickle.dumps(rt.epoch[tool]["geo.version"]))
    rt.remove("geo")
    assert [pickle.loads(data)(1) for data in sent] == [10, 11, 12, 13]
    assert len(workers._replicas) == 2
    assert pickle.loads(sent[0])(1) == 10
    for replica in workers._replicas.values():
        replica.close()
    workers._replicas.clear()
    left = sys.modules.keys() - before
    assert not [name for name in left if name.partition("_")[0].partition(".")[0] == "geo"]


def test_other_objects_are_pickled_as_ever():
    for obj in (len, dict, Path, test_other_objects_are_pickled_as_ever, sys, pickle, lambda: 1):
        assert workers.reduce_object(obj) is NotImplemented


LATE = """
import sys
from epochal import Runtime
if __name__ == "__main__":
    rt = Runtime()
    assert "multiprocessing.reduction" not in sys.modules
    rt.load(sys.argv[1])
    from multiprocessing import reduction
    import pickle
    [export] = next(iter(rt.epoch.values())).values()
    data = bytes(reduction.ForkingPickler.dumps(export))
    assert b"load_object" in data
    assert reduction.__spec__.loader is reduction.__loader__, reduction.__loader__
    print(pickle.loads(data)())
    del export  # it would hold up the end
    rt.close()
"""


def test_a_pickler_that_is_imported_later_is_found(tmp_path, plugins):
    script = tmp_path / "late.py"
    script.write_text(LATE)
    path = plugins.write("p", "@tool\ndef f(): return 7\n")
    path.write_text(path.read_text().replace("from tests.conftest import tool", TOOL))
    command = [sys.executable, str(script), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert done.stdout == "7\n", done.stderr


TOOL = "from epochal import Kind\ntool = Kind('tool', 'of the test')"
