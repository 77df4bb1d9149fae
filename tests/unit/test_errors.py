"""Errors cross to other processes whole: a part of a query fails where its caller is not."""

import pickle

import pytest

from epochal import errors
from epochal.errors import (
    EpochalError,
    EpochUnavailableError,
    FunctionError,
    ShareTimeoutError,
    ToolArgumentError,
    UnknownExportError,
)

ALL = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, EpochalError)
]


def facts_of(error):
    return type(error), error.args, str(error), vars(error)


@pytest.mark.parametrize(
    "error",
    [
        FunctionError("geo.f raised ValueError", function="geo.f"),
        UnknownExportError("scalar", "geo.g", ["geo.f"]),
        ShareTimeoutError("no answer", path="/share"),
        ToolArgumentError("geo.t", ["x is no number"], {"type": "object"}),
        EpochUnavailableError("why", epoch="0" * 64, worker="host:1", distributions=["numpy"]),
    ],
    ids=lambda error: error.code,
)
def test_an_error_is_pickled_with_its_facts(error):
    again = pickle.loads(pickle.dumps(error))
    assert facts_of(again) == facts_of(error)
    assert again.__notes__ == error.__notes__


def test_every_error_is_unpickled_without_its_constructor():
    assert len(ALL) > 50
    for cls in ALL:
        error = cls.__new__(cls)
        error.args, error.fact = ("what happened",), 7
        assert facts_of(pickle.loads(pickle.dumps(error))) == facts_of(error)
