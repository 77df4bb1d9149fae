"""The programs of docs/hooks.md work as they stand, and print the output on the page."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs/hooks.md").read_text()
EXAMPLES = re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)
OUTPUTS = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)


def test_every_example_is_a_file_of_a_program():
    assert len(EXAMPLES) == len(re.findall(r"```python\n", PAGE)) == 10
    assert len(OUTPUTS) == 3


@pytest.mark.parametrize(
    ("program", "printed"), [*zip(["shop.py", "app.py", "serve.py"], OUTPUTS, strict=True)]
)
def test_a_program_prints_the_output_on_the_page(tmp_path, program, printed):
    (tmp_path / "plugins").mkdir()
    for name, text in EXAMPLES:
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-Werror", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr, done.returncode) == (printed, "", 0)


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
