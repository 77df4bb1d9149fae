"""An operation: a labelled pin with a definite end."""

import pickle
from types import SimpleNamespace

import pytest

from epochal import Epoch, Operation, PluginLifecycle
from epochal._core.generation.generation import LeasedGeneration
from epochal.errors import OperationEndedError, UnknownPluginError


@pytest.fixture
def lifecycles():
    return {plugin: PluginLifecycle(plugin) for plugin in ("geo", "units")}


@pytest.fixture
def operation(lifecycles):
    epoch = Epoch().successor(
        [],
        [
            LeasedGeneration(
                SimpleNamespace(plugin=plugin, exports={}, requires=(), identity=""),
                lifecycle.lease(),
                {},
            )
            for plugin, lifecycle in lifecycles.items()
        ],
    )
    return Operation(epoch, "request 17")


def in_use(lifecycles):
    return [plugin for plugin, lifecycle in lifecycles.items() if len(lifecycle.ledger)]


def test_it_holds_its_epoch_until_its_end(operation, lifecycles):
    with operation as entered:
        assert entered.epoch.number == 1
        assert in_use(lifecycles) == ["geo", "units"]
    assert in_use(lifecycles) == []
    assert operation.number == 1
    with pytest.raises(OperationEndedError, match="request 17"):
        _ = operation.epoch
    operation.end()


def test_narrow_holds_only_the_named_generations(operation, lifecycles):
    operation.narrow(["geo"])
    assert in_use(lifecycles) == ["geo"]
    operation.narrow([])
    assert in_use(lifecycles) == []
    with pytest.raises(OperationEndedError):
        operation.narrow(["units"])


def test_narrow_to_an_unknown_plugin_holds_everything_still(operation, lifecycles):
    with pytest.raises(UnknownPluginError):
        operation.narrow(["geo", "missing"])
    assert in_use(lifecycles) == ["geo", "units"]


def test_a_callback_is_called_once_whichever_came_first(operation):
    called = []
    operation.on_cancel(lambda: called.append("before"))
    operation.cancel()
    operation.on_cancel(lambda: called.append("after"))
    operation.cancel()
    assert operation.cancelled
    assert called == ["before", "after"]


def test_every_callback_is_called_though_some_raise(operation):
    called = []
    operation.on_cancel(lambda: called.append("first"))
    operation.on_cancel(lambda: 1 / 0)
    with pytest.raises(ExceptionGroup, match="request 17") as caught:
        operation.cancel()
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]
    assert called == ["first"]


def test_no_callback_is_called_after_the_end(operation):
    called = []
    operation.on_cancel(lambda: called.append(True))
    operation.end()
    operation.cancel()
    assert not called


def test_it_cannot_be_pickled(operation):
    with pytest.raises(TypeError, match="pins code in this process"):
        pickle.dumps(operation)
