"""The front door exports at most 25 names; each exists, and the list is sorted."""

import ast
import importlib
from pathlib import Path

import pytest

import epochal


def test_the_front_door_is_small_sorted_and_complete():
    assert len(epochal.__all__) <= 25
    assert epochal.__all__ == sorted(epochal.__all__)
    for name in epochal.__all__:
        assert getattr(epochal, name) is not None


def test_every_error_has_a_code_of_its_own_and_stands_in_the_drawn_tree():
    from epochal import errors

    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.EpochalError)
    ]
    assert len(classes) >= 30
    codes = [cls.code for cls in classes]
    assert len(set(codes)) == len(codes)
    for cls in classes:
        assert f" {cls.__name__} " in f" {errors.__doc__} ".replace("\n", " ")


# Clients match on these: the command line's output, problem documents and logs have them.
CODES = """
    already-loaded artifact busy capability change-cancelled config config-key dependency
    dependency-cycle document drain drain-timeout epoch-moved epoch-unavailable epochal export
    forked-runtime function guest guest-timeout hand-over hook-answer host in-use incompatible
    init link local-export manifest missing-dependency nested-change no-epoch no-share no-store
    no-thread not-active not-kept operation-ended pause-timeout phase-timeout plugin query
    query-cancelled query-timeout refused registration required-by restore runtime-closed share
    share-timeout shutdown source-conflict stop-timeout store store-corrupt store-in-use
    store-schema store-write tool tool-argument tool-cancelled tool-changed tool-failed
    tool-timeout unexpected-transition unknown-export unknown-plugin version-conflict welcome
"""


def test_the_codes_of_errors_stay_as_they_are():
    from epochal import errors

    codes = {
        value.code
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.EpochalError)
    }
    assert codes == set(CODES.split())


def test_an_error_of_a_host_keeps_the_code_of_its_base():
    from epochal.errors import HostError

    class NoBudgetError(HostError): ...

    assert NoBudgetError.code == "host"


def test_the_names_that_type_checkers_see_are_those_of_the_interpreter():
    tree = ast.parse(Path(epochal.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(seen) == set(epochal.__all__) - {"__version__"}
    for name, module in seen.items():
        assert getattr(epochal, name) is getattr(importlib.import_module(module), name)


def test_a_star_import_brings_every_name():
    names: dict[str, object] = {}
    exec("from epochal import *", names)
    assert set(epochal.__all__) <= set(names)


def test_a_module_of_the_package_is_an_attribute_of_it():
    assert epochal.errors.EpochalError is epochal.EpochalError
    assert epochal.runtime.Runtime is epochal.Runtime
    with pytest.raises(AttributeError, match="module 'epochal' has no attribute 'nothing'"):
        _ = epochal.nothing
