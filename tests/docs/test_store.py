"""The examples of docs/store.md run as they stand, one after another, and print what it says."""

import contextlib
import io
import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs/store.md").read_text()
README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_examples_print_what_the_page_says(tmp_path, monkeypatch):
    plugin = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[1]
    (tmp_path / "geo.py").write_text(plugin)
    (tmp_path / "geo_next.py").write_text(plugin.replace("1.0.0", "1.1.0"))
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    said = re.findall(r"```\n(\d.*?)```", PAGE, re.DOTALL)
    assert (len(examples), len(said)) == (4, 3)
    printed, names = io.StringIO(), {}
    with contextlib.redirect_stdout(printed):
        for example in examples:
            exec(example, names)
    names["rt"].close()
    assert printed.getvalue() == "".join(said)
    assert names["refused"] == []
