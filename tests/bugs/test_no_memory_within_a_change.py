"""Where memory runs out, as exports are carried, names reserved or an epoch stored, no part stays.

`test_faults_at_bytecodes` found these, which it meets at a few of some thousand places.
"""

import pytest
from tests.conftest import tool

from epochal import LifecycleState, Runtime
from epochal._core.change.staging import Staging
from epochal._core.use import lease
from epochal.loaders import _module_registry as registry

GEO = "@tool\ndef f(): return 1\n@tool\ndef g(): return 2"


def failing_once(monkeypatch, owner, name):
    """Have a function do its work at its first call, and then raise MemoryError."""
    done = getattr(owner, name)

    def failing(*args, **kw):
        monkeypatch.setattr(owner, name, done)
        done(*args, **kw)
        del args, kw  # the error keeps this frame
        raise MemoryError

    monkeypatch.setattr(owner, name, failing)


def test_an_error_as_exports_are_carried_holds_no_lease(rt, plugins, monkeypatch):
    path = plugins.write("geo", GEO)
    failing_once(monkeypatch, lease, "_carry")
    with pytest.raises(MemoryError) as kept:
        rt.load(path)
    rt._queue.wait(10)
    states = [generation.state for generation in rt._epochs.generations.live()]
    assert set(states) <= {LifecycleState.REMOVED}
    assert kept.value


def test_an_error_as_a_name_is_reserved_gives_the_name_back(rt, plugins, monkeypatch):
    path = plugins.write("geo", GEO)
    before = dict(registry._namespaces)
    failing_once(monkeypatch, registry, "add_space")
    with pytest.raises(MemoryError):
        rt.load(path)
    rt._queue.wait(10)
    assert registry._namespaces == before
    rt.load(path)
    assert rt.epoch[tool]["geo.f"]() == 1


def test_a_runtime_whose_close_failed_is_open_and_can_be_closed(plugins, monkeypatch):
    rt = Runtime()
    rt.load(plugins.write("geo", GEO))

    def failing(*_):
        monkeypatch.undo()
        raise MemoryError

    monkeypatch.setattr(Staging, "publish", failing)
    with pytest.raises(MemoryError):
        rt.close()
    assert rt.epoch[tool]["geo.f"]() == 1
    cut = rt.close()
    assert cut is not None
    assert cut.published
    assert not rt.epoch.generations
