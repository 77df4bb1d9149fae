"""The catalogue of breakages must not rot: `make mutants` runs it, these look at it."""

from pathlib import Path

import pytest

from tests.mutants.__main__ import table
from tests.mutants.catalogue import MUTANTS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.broken)
def test_what_a_breakage_replaces_is_there_once(mutant):
    source = (ROOT / "src/epochal" / mutant.file).read_text()
    assert source.count(mutant.old) == 1
    path, _, name = mutant.test.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text()


def test_every_promise_has_a_breakage():
    promises = " ".join(mutant.promise for mutant in MUTANTS)
    for wanted in (*(f"E{n}" for n in range(1, 9)), *map(str, range(1, 10))):
        assert wanted in promises, wanted


def test_the_documentation_lists_them_all():
    assert table() in (ROOT / "docs/guarantees.md").read_text()
