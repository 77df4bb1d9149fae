"""A plugin author's typical mistakes: each is refused by `epochal check`, in words that help."""

import re

import pytest

from epochal.cli import main

HEAD = """\
# /// plugin
# id = "p"
# version = "1.0"
# ///
from epochal.kinds import aggregate, job, scalar, table_function
"""
ONE = "@scalar\ndef f(x: int) -> int: return x\n"

# What the author wrote -> words that lead on.
MISTAKES = {
    "def f(x): return x\n": "no manifest",
    '# /// plugins\n# id = "p"\n# version = "1"\n# ///\n': "manifest",
    '# /// plugin\n# id = "p"\n# version = "1"\ndef f(): pass\n': ":1: .*not closed.*# ///",
    '# /// plugin\n# id = "P"\n# version = "1"\n# ///\n': ":2: .*lower-case",
    '# /// plugin\n# id = "p"\n# ///\n': "version is missing",
    '# /// plugin\n# id = "p"\n# version = "1"\n# verson = "2"\n# ///\n': ":4: .*'version'",
    "# /// plugin\n# id = p\n# ///\n": "not valid TOML",
    HEAD.replace('"1.0"\n', '"1.0"\n# requires = ["units>=1"]\n'): "requires units>=1",
    HEAD.replace('"1.0"\n', '"1.0"\n# dependencies = ["no-such>=1"]\n'): "no-such>=1.*install",
    HEAD.replace('"1.0"\n', '"1.0"\n# capabilities = ["job"]\n') + ONE: "'scalar'.*capabilities",
    HEAD + "def f(:\n": r"SyntaxError.*(line 6|:6)",
    HEAD + "import no_such_module\n": "no_such_module.*dependencies",
    HEAD + "@scalar\ndef f(x): return x\n": "parameter 'x': no annotation.*float, int, str",
    HEAD + "@scalar\ndef f(x: int): return x\n": "the result: no annotation",
    HEAD + "@scalar\ndef f(x: object) -> int: return 1\n": "object is not a SQL type",
    HEAD + "@scalar\ndef f() -> int: return 1\n": "no parameters.*volatility='stable'",
    HEAD + ONE.replace("@scalar", '@scalar(volatility="often")'): "'often'.*immutable",
    HEAD + ONE.replace("@scalar", "@scalar(vectorised=True)"): "vectorised.*vectorized",
    HEAD + ONE.replace("@scalar", '@scalar("name")'): "name",
    HEAD + ONE.replace("@scalar", "@aggregate"): "not a class.*update, merge and evaluate",
    HEAD + "@job\ndef f(): pass\n": "every=, cron= and at=",
    HEAD + '@job(every="soon")\ndef f(): pass\n': "'soon' is not a duration.*'5s'",
    HEAD + "def init(): pass\n": "init.*(takes 0|ctx)",
    HEAD + 'def init(ctx):\n    raise ValueError("no key")\n': "init.*no key",
    HEAD + "def shutdown(ctx): pass\n": "shutdown.*(ctx|cannot be called)",
    HEAD + ONE + ONE.replace("def f", "def g").replace("@scalar", '@scalar(name="f")'): "'f'",
    HEAD + 'def init(ctx): ctx.require("units")\n': 'add "units" to `requires`',
    HEAD + "@scalar\ndef f(x: int) -> int: yield 1\n": "not a plain function",
    HEAD + "@table_function\ndef f(n: int) -> list[int]: return [1]\n": "columns.*NamedTuple",
}


@pytest.mark.parametrize(("source", "words"), MISTAKES.items(), ids=MISTAKES.values())
def test_a_mistake_is_refused_in_words_that_lead_on(source, words, tmp_path, capsys):
    plugin = tmp_path / "p.py"
    plugin.write_text(source)
    assert main(["check", str(plugin)]) == 1
    out, err = capsys.readouterr()
    printed = " ".join((err + out).split())
    assert re.search(words, printed), printed
    assert "Traceback" not in printed
    assert "_core" not in printed


def test_what_new_writes_is_valid_and_its_test_passes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "greet"]) == 0
    assert main(["check", "greet.py"]) == 0
    assert "greet.greet" in capsys.readouterr().out
    assert pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:frontrun", "test_greet.py"]) == 0
