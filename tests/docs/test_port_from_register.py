"""The examples of docs/port-from-register.md run in order, and print the page's output."""

import contextlib
import io
import re
import sys
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs/port-from-register.md").read_text()


def test_the_examples_print_the_output_on_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "myhost", raising=False)  # another page's
    (tmp_path / "plugins").mkdir()
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    outputs = re.findall(r"```text\n([^#].*?)```", PAGE, re.DOTALL)
    assert (len(examples), len(outputs)) == (5, 2)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for example in examples:
            (name,) = re.findall(r"\A# (\S+\.py)\n", example)
            Path(name).write_text(example.partition("\n")[2])
            if name in {"before.py", "after.py"}:
                exec(example, {})
    sys.modules.pop("myhost", None)
    assert printed.getvalue() == "".join(outputs)
