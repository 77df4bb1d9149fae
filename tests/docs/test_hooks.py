"""Both programs of docs/hooks.md work as they stand, and print what they say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs/hooks.md").read_text()
EXAMPLES = re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)
SAID = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)


def test_every_example_is_a_file_of_one_of_the_programs():
    assert len(EXAMPLES) == len(re.findall(r"```python\n", PAGE)) == 7
    assert len(SAID) == 2


@pytest.mark.parametrize(("program", "said"), [("shop.py", SAID[0]), ("app.py", SAID[1])])
def test_a_program_prints_what_the_page_says(tmp_path, program, said):
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
    assert (done.stdout, done.stderr, done.returncode) == (said, "", 0)


def test_what_it_says_goes_wrong_is_what_is_said():
    """The messages under "If it goes wrong" are those of the sources."""
    sources = " ".join(
        path.read_text() for path in (Path(__file__).parents[2] / "src/epochal").rglob("*.py")
    )
    said = " ".join(re.sub(r'"\s*f?"', "", sources).split())
    for words in (
        "with an awaitable",
        "does not take that",
        "their order forms a circle",
        "no object of that class stands in the module",
        "is the id of a plugin of the runtime, and the name of an object that the host registered",
    ):
        assert words in said, words
        assert words in " ".join(PAGE.split()), words
