"""The kinds of docs/kinds.md that keep state do what the page says of them."""

import re
from pathlib import Path

from epochal import Runtime

PAGE = (Path(__file__).parents[2] / "docs/kinds.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_kind_with_state_hands_it_over(tmp_path, monkeypatch):
    (example,) = [text for text in EXAMPLES if "class Move" in text]
    (tmp_path / "myhost.py").write_text(f"{example}\ncache = Cache('my.cache')\n")
    monkeypatch.syspath_prepend(tmp_path)
    plugin = tmp_path / "geo.py"
    plugin.write_text(
        '# /// plugin\n# id = "geo"\n# version = "1"\n# ///\n'
        "from myhost import cache\n@cache\nclass c:\n"
        "    def __init__(self): self.entries = []\n    def add(self, x): self.entries.append(x)\n"
        "    def all(self): return self.entries\n"
    )
    with Runtime() as rt:
        from myhost import cache

        rt.load(plugin)
        rt.epoch[cache]["geo.c"].add(1)
        rt.reload("geo")
        rt.epoch[cache]["geo.c"].add(2)
        assert rt.epoch[cache]["geo.c"].all() == [1, 2]


def test_the_service_counts_on(tmp_path):
    from epochal.kinds import service

    (example,) = [text for text in EXAMPLES if "class limiter" in text]
    plugin = tmp_path / "quota.py"
    plugin.write_text(f'# /// plugin\n# id = "quota"\n# version = "1"\n# ///\n{example}')
    with Runtime() as rt:
        rt.load(plugin)
        assert rt.epoch[service]["quota.limiter"].hit("alice") == 1
        rt.reload("quota")
        assert rt.epoch[service]["quota.limiter"].hit("alice") == 2


def test_the_kind_with_a_gate_loses_nothing(tmp_path, monkeypatch):
    (example,) = [text for text in EXAMPLES if "class Book" in text]
    (tmp_path / "mybooks.py").write_text(f"{example}\n\nbook = Book('my.book')\n")
    monkeypatch.syspath_prepend(tmp_path)
    plugin = tmp_path / "geo.py"
    plugin.write_text(
        '# /// plugin\n# id = "geo"\n# version = "1"\n# ///\n'
        "from mybooks import book\n@book\nclass b:\n"
        "    def __init__(self): self.entries = []\n"
        "    def add(self, entry): self.entries.append(entry); return len(self.entries)\n"
        "    def take(self, entries): self.entries = entries\n"
    )
    with Runtime() as rt:
        from mybooks import book

        rt.load(plugin)
        with rt.operation("old") as old:
            assert old[book]["geo.b"].add("one") == 1
            rt.reload("geo", drain_timeout=0.0)
            assert old[book]["geo.b"].add("two") == 2
        assert rt.epoch[book]["geo.b"].add("three") == 3
