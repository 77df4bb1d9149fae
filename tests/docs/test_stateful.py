"""The examples of docs/stateful.md run as they stand, one after another, and print what it says."""

import contextlib
import io
import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs/stateful.md").read_text()


def test_the_examples_print_what_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    said = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert (len(examples), len(said)) == (8, 6)
    printed, names = io.StringIO(), {}
    with contextlib.redirect_stdout(printed):
        for example in examples:
            if named := re.match(r"# (\w+\.py)\n", example):
                Path(named[1]).write_text(example)
            else:
                exec(example, names)
    names["db"].close()
    assert printed.getvalue() == "".join(said)
