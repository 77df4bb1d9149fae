"""Libraries that a plugin is the first to import keep what they registered: a quick profile.

`make libraries` asks all of them.
"""

import pytest

from tests.realcode.imported_first import LIBRARIES, differences, is_installed
from tests.sizes import sized

QUICK = sized(
    ("numpy", "requests", "setuptools"),
    ("numpy", "matplotlib", "requests", "setuptools", "typer", "yaml"),
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("module", QUICK)
def test_a_library_keeps_what_it_registered(module):
    if not is_installed(module):
        pytest.skip(f"{module} is not installed")
    assert differences(module) == []


def test_the_selection_is_broad():
    assert len(set(LIBRARIES)) >= 80
