"""The examples of docs/store.md run in order as they stand, and print the page's output."""

import contextlib
import io
import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs/store.md").read_text()
README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_examples_print_the_output_on_the_page(tmp_path, monkeypatch):
    plugin = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[1]
    (tmp_path / "geo.py").write_text(plugin)
    (tmp_path / "geo_next.py").write_text(plugin.replace("1.0.0", "1.1.0"))
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    outputs = re.findall(r"```\n(\d.*?)```", PAGE, re.DOTALL)
    assert (len(examples), len(outputs)) == (4, 3)
    printed, names = io.StringIO(), {}
    with contextlib.redirect_stdout(printed):
        for example in examples:
            exec(example, names)
    names["rt"].close()
    assert printed.getvalue() == "".join(outputs)
    assert names["refused"] == []
