"""The errors that docs/hooks.md lists are raised."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs/hooks.md").read_text()


def test_the_listed_errors_are_those_of_the_sources():
    """The messages under "If it goes wrong" are those of the sources."""
    sources = " ".join(
        path.read_text() for path in (Path(__file__).parents[2] / "src/epochal").rglob("*.py")
    )
    printed = " ".join(re.sub(r'"\s*f?"', "", sources).split())
    for words in (
        "with an awaitable",
        "does not take that",
        "their order forms a circle",
        "no object of that class stands in the module",
        "is the id of a plugin of the runtime, and the name of an object that the host registered",
    ):
        assert words in printed, words
        assert words in " ".join(PAGE.split()), words
