"""`make demo-agent` in small: every kind of change, and no wrong answer."""

import sys

from tests.sizes import sized

from epochal.demo.agent import main


def test_a_session_outlives_every_kind_of_change(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["agent", str(sized(6, 40, 200))])
    assert main() == 0, capsys.readouterr().out
    assert "0 failed, 0 mixed, 0 stale" in capsys.readouterr().out
