"""The catalogue of breakages must not rot: `make mutants` runs it, these look at it."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.documents import ATTACKS, table_in
from tests.mutants.__main__ import table
from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import after, before, delete, replace
from tests.mutants.places import (
    NoSuchPlaceError,
    changed,
    find,
    place_of,
    shape_of,
    unknown_names,
)

ROOT = Path(__file__).parents[2]


def code_of(source):
    """The syntax tree without docstrings: a breakage that deletes one breaks nothing."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        match getattr(node, "body", None):
            case [ast.Expr(ast.Constant()), *_] as body:
                del body[0]
    return ast.dump(tree)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_a_breakage_has_its_place_and_its_names(mutant):
    place = place_of(mutant)
    broken = changed(place, mutant.edit)
    compile(broken, mutant.module, "exec", dont_inherit=True)
    assert code_of(broken) != code_of(ast.unparse(place.tree)), "it changes no code"
    unknown = unknown_names(place, mutant.edit)
    assert not unknown, f"{mutant.edit.code!r} has names that are not in the sources: {unknown}"
    path, _, name = mutant.test.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_the_code_that_a_breakage_breaks_has_its_shape(mutant):
    new = shape_of(place_of(mutant))
    where = f"{mutant.module}:{mutant.where}, {mutant.at}"
    assert new == mutant.shape, (
        f"the code at {where} has changed its shape: look at the breakage again; "
        f'new fingerprint: shape="{new}" (python -m tests.mutants --refresh writes it)'
    )


def test_every_promise_has_a_breakage():
    promises = " ".join(mutant.promise for mutant in MUTANTS)
    for wanted in (*(f"E{n}" for n in range(1, 9)), *map(str, range(1, 10))):
        assert wanted in promises, wanted


def test_ids_are_stable_names_and_stand_once():
    ids = [mutant.id for mutant in MUTANTS]
    assert len(set(ids)) == len(ids) >= 192
    assert all(re.fullmatch(r"(E\d|[a-z]+(-[a-z0-9]+)*)\.[a-z0-9-]+", i) for i in ids), ids


def test_the_document_of_attacks_has_the_table_of_breakages():
    assert table_in(ATTACKS, "breakages") == table(), "python -m tests.mutants --table writes it"


def test_the_guarantees_have_a_row_for_each_promise_with_its_number_of_breakages():
    page = (ROOT / "docs/guarantees.md").read_text()
    rows = re.findall(r"^\| \*\*([\w-]+)\*\* \|.*\| (\d+) \|$", page, re.MULTILINE)
    counted = Counter(mutant.id.partition(".")[0] for mutant in MUTANTS)
    assert {promise: int(number) for promise, number in rows} == counted


def test_the_guarantees_name_tests_that_exist():
    page = (ROOT / "docs/guarantees.md").read_text()
    names = set(re.findall(r"`(?:tests/[\w/]*/)?(test_\w+\.py)`", page))
    assert len(names) >= 20
    assert names <= {path.name for path in (ROOT / "tests").rglob("test_*.py")}


SOURCE = b"""
LIMITS: dict = {"a": 1}  # a comment

@mark
def f(x, y=1):
    # A comment.
    if x:
        g(x, y)  # another
    elif y:
        return y
    def inner():
        return 0
    return [
        x,
        y,
    ]
"""


@pytest.mark.parametrize(
    ("where", "at", "edit", "old", "new"),
    [
        ("f", "if 0 / test", replace("not ($)"), "if x:", "if not (x):"),
        ("f", "expr 0", delete(), "g(x, y)  # another", "pass  # another"),
        ("f", "expr 0", after("$value.func()"), "# another\n", "# another\n        g()\n"),
        ("f", "expr 0", before("a\nb"), "        g(", "        a\n        b\n        g("),
        ("f", "expr 0 / value.args[1]", delete(), "g(x, y)", "g(x)"),
        ("f", "expr 0 / value.args[0]", before("0"), "g(x, y)", "g(0, x, y)"),
        ("f", "return 1 / value", replace("$elts[1]"), "[\n        x,\n        y,\n    ]", "y"),
        ("f", "definition / args.defaults[0]", replace("2"), "y=1", "y=2"),
        ("f", "definition", before("@more"), "@mark", "@more\n@mark"),
        ("f.inner", "return 0", replace("if x:\n    $"), "return 0", "if x:\n            return 0"),
        ("LIMITS", "definition / value", replace("$ | $"), '{"a": 1}', '{"a": 1} | {"a": 1}'),
        ("", "assign 0", delete(), 'LIMITS: dict = {"a": 1}  # a comment\n', ""),
    ],
)
def test_a_change_is_made_at_its_place(where, at, edit, old, new):
    source = SOURCE.decode()
    assert source.count(old) == 1
    assert changed(find(SOURCE, where, at), edit) == source.replace(old, new)


@pytest.mark.parametrize(
    ("where", "at"),
    [
        ("g", "return 0"),
        ("f", "return 2"),
        ("f", "if 0 / value"),
        ("f", "return"),
        ("f", "return 1 to if 0"),
        ("f", "expr 0 to return 1"),
        ("", "definition"),
    ],
)
def test_a_place_that_is_not_there_is_an_error(where, at):
    with pytest.raises(NoSuchPlaceError):
        find(SOURCE, where, at)


def test_a_shape_is_of_the_code_and_not_of_its_names():
    shape = shape_of(find(SOURCE, "f", "expr 0"))
    assert shape == shape_of(find(SOURCE.replace(b"g(x, y)", b"h(a, b)"), "f", "expr 0"))
    assert shape != shape_of(find(SOURCE.replace(b"g(x, y)", b"g(x)"), "f", "expr 0"))
    more = SOURCE.replace(b"    if x:\n", b"    if x:\n        h(x, y)\n")
    assert shape != shape_of(find(more, "f", "expr 0"))
    assert shape != shape_of(find(more, "f", "expr 1"))


def test_names_that_are_gone_are_found():
    place = find(SOURCE, "f", "expr 0")
    assert unknown_names(place, after("gone(x).of_no_source = LIMITS")) == {"gone", "of_no_source"}
    assert unknown_names(place, after("y = self.path")) == {"self", "path"}  # not in this module
    assert not unknown_names(place, after("z = [a for a in y]\nz.clear()\n$value.args"))
