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

HEADLESS = HEAD.partition("from epochal")[0]


def manifest(*lines):
    return "\n".join(["# /// plugin", '# id = "p"', *(f"# {line}" for line in lines), "# ///\n"])


VERSION = 'version = "1.0"'

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
    # The manifest.
    "# /// plugin\n# id = \u201cp\u201d\n# ///\n": "not valid TOML.*straight quotes",
    manifest("version = 1.0"): "version is 1.0; expected a text in quotes",
    manifest('version = "one"'): "version is 'one'; expected a version such as",
    manifest(VERSION).replace('"p"', '"my-plugin"'): "'my-plugin'.*lower-case.*such as 'my_plugin'",
    manifest(VERSION, 'requires = ["p"]'): "requires entry 'p' is the plugin itself",
    manifest(VERSION, 'requires = "units"'): "'units'; expected a list of texts",
    manifest(VERSION, 'requires = ["units 1"]'): 'not a requirement; expected .*"units>=1"',
    manifest(VERSION, 'dependencies = ["numpy=="]'): 'not a requirement; expected .*"numpy>=2"',
    manifest(VERSION, 'handover = "stop"'): "'side-by-side' or 'stop-first'",
    manifest(VERSION) + manifest(VERSION): "more than one manifest; expected one",
    manifest(VERSION, 'config = "Settings"'): "Settings is not a dataclass or pydantic model",
    # Markers.
    HEADLESS + ONE: "NameError.*line 5.*from epochal.kinds import scalar",
    HEADLESS + "from epochal import scalar\n": "ImportError.*from epochal.kinds import scalar",
    HEADLESS + "import scalar\n": "No module.*from epochal.kinds import scalar",
    HEADLESS + "from epochal.kinds import scaler\n": "do you mean 'scalar'",
    HEADLESS + "from epochal.kinds import udf\n": "'udf'.*it has aggregate, .*scalar",
    HEADLESS + "from epochal.kind import scalar\n": "markers are in `epochal.kinds`",
    HEAD + "f = scalar(lambda x: x)\n": r"p\.<lambda> .*line 6.*plain identifier.*name=",
    HEAD + ONE.replace("@scalar", '@scalar(name="my f")'): r"p\.f .*'my f'.*plain identifier",
    HEAD + ONE.replace("@scalar", "@scalar(every='5s')"): "options of @scalar: .*'every'.*it takes",
    HEAD + "@scalar\nasync def f(x: int) -> int: return 1\n": "cannot await; make it a plain",
    HEAD + "@scalar\ndef f(*xs: int) -> int: return 1\n": r"\*xs.*fixed number of parameters",
    HEAD + "@scalar\ndef f(x: int, *, y: int) -> int: return 1\n": "'y' is keyword-only",
    HEAD + "@scalar\ndef f(x: list) -> int: return 1\n": r"write list\[float\]",
    HEAD + "@scalar\ndef f(x: int | str) -> int: return 1\n": "more than one SQL type",
    HEAD + "@scalar\ndef f(x: 'Row') -> int: return 1\n": "'Row' is not defined.*TYPE_CHECKING",
    HEAD + "@job(every='5s')\ndef f(x): pass\n": "called without arguments.*'x'",
    HEAD + "@job(cron='61 * * * *')\ndef f(): pass\n": "'61' is no minute; expected",
    HEAD + "@job(at='tomorrow')\ndef f(): pass\n": "'tomorrow' is not a time; expected one such",
    HEAD + "@job(every='5s', cron='* * * * *')\ndef f(): pass\n": "exactly one of every=, cron=",
    # The life cycle.
    HEAD + "async def init(ctx): pass\n": "init.*`async def`.*make it a plain function",
    HEAD + "from json import loads as init\n": "imported.*import it under another name",
    HEAD + "def init(ctx): ctx.spwan(print)\n": "do you mean ctx.spawn",
    HEAD + "def init(ctx): ctx.config.key\n": r"write ctx\.config\['key'\]",
    HEAD + "ctx.defer(print)\n": "'ctx' is not defined.*init\\(ctx\\)",
    HEAD + "def init(ctx): ctx.demand('net:x')\n": "'net:x' to `capabilities`.*--grant net:x",
    HEAD + "def register(ctx): ctx.export(print, scalar)\n": r"kind first: ctx\.export\(scalar",
    HEAD + "import sys\nsys.exit(3)\n": "SystemExit: 3 .*line 7",
    HEAD + "def f():\n\tif 1:\n        pass\n": "TabError.*line 8",
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


def test_there_are_as_many_as_the_trial_made():
    assert len(MISTAKES) >= 56


def test_what_new_writes_is_valid_and_its_test_passes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "greet"]) == 0
    assert main(["check", "greet.py"]) == 0
    assert "greet.greet" in capsys.readouterr().out
    assert pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:frontrun", "test_greet.py"]) == 0
