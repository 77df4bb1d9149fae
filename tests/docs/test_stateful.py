"""The examples of docs/stateful.md run in order as they stand, and print the page's output."""

import contextlib
import io
import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs/stateful.md").read_text()


def test_the_examples_print_the_output_on_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    outputs = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert (len(examples), len(outputs)) == (8, 6)
    printed, names = io.StringIO(), {}
    with contextlib.redirect_stdout(printed):
        for example in examples:
            if named := re.match(r"# (\w+\.py)\n", example):
                Path(named[1]).write_text(example)
            else:
                exec(example, names)
    names["db"].close()
    assert printed.getvalue() == "".join(outputs)
