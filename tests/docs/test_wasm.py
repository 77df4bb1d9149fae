"""docs/wasm.md describes the interface that the header and the host have."""

import re

from tests.docs.test_pages import DOCS


def test_the_header_and_the_page_have_the_same_columns():
    header = (DOCS.parent / "src/epochal/cli/templates/wasm/epochal.h").read_text()
    page = (DOCS / "wasm.md").read_text()
    fields = re.findall(r"^  \w+ \*?(\w+); +/\*", header, re.MULTILINE)
    assert fields == re.findall(r"^\| \d+ \| `(\w+)` \|", page, re.MULTILINE)
    assert len(fields) == 5
