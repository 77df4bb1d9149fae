"""The second act, shortened: it passes when all is well, and fails when something is lost."""

import io
import json
import sys

import pytest
from rich.console import Console

from epochal.cli import main
from epochal.demo import stateful
from epochal.demo.screen import follow
from epochal.demo.stateful import StatefulDemonstration, show_stateful
from epochal.examples import path

_START = "self.number = number"
_LEAP = "self.number = number + 2 if number else 0"
SHORT = {"seconds": 1.5, "reloads": 12}


def text(renderable):
    console = Console(file=io.StringIO(), width=160)
    console.print(renderable)
    return console.file.getvalue()


def test_every_part_works_and_nothing_is_lost():
    demonstration = StatefulDemonstration(**SHORT)
    report = demonstration.run(lambda: None)
    assert report.passed, report.faults
    assert [verdict.part for verdict in report.verdicts] == ["service", "stream", "index", "job"]
    assert all(verdict.did > 0 for verdict in report.verdicts)
    assert (report.reloads, report.refused, report.leaked) == (12, 2, 0)
    assert set(report.pause_ms) >= {"quota", "feed", "lake", "fulltext"}
    assert "passed" in text(show_stateful(report))


def test_the_command_writes_json_and_the_verdict(capsys):
    assert main(["demo", "--stateful", "--seconds", "1", "--reloads", "6", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"]
    assert {verdict["part"]: verdict["lost"] for verdict in report["verdicts"]} == dict.fromkeys(
        ("service", "stream", "index", "job"), 0
    )


def test_a_missing_extra_of_the_second_act_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "epochal.demo.stateful", None)
    assert main(["demo", "--stateful"]) == 1
    assert "needs the extra 'demo': pip install 'epochal[demo]'" in capsys.readouterr().err


def spoiled(monkeypatch, tmp_path, plugin, whole, wrong):
    source = path(plugin).read_text()
    assert whole in source
    other = tmp_path / f"{plugin}.py"
    other.write_text(source.replace(whole, wrong))
    monkeypatch.setattr(stateful, "example", lambda name: other if name == plugin else path(name))


@pytest.mark.parametrize(
    ("part", "plugin", "whole", "wrong"),
    [
        ("service", "quota", 'self.counts = state["counts"]', "pass"),
        (
            "stream",
            "feed",
            _START,
            _LEAP,
        ),
        ("job", "reporter", 'every="50ms"', 'every="300ms"'),
    ],
)
def test_a_part_that_loses_uses_fails(monkeypatch, tmp_path, part, plugin, whole, wrong):
    """Only the released versions lose it: what is loaded first is as it should be."""
    spoiled(monkeypatch, tmp_path, plugin, whole, wrong)
    monkeypatch.setattr(stateful, "_BROKEN_EVERY", 10_000)
    report = StatefulDemonstration(**SHORT).run(lambda: None)
    verdicts = {verdict.part: verdict for verdict in report.verdicts}
    assert not report.passed
    assert verdicts[part].lost > 0


def test_without_a_terminal_a_line_shows_the_parts():
    console = Console(file=io.StringIO(), width=200)
    demonstration = StatefulDemonstration(**SHORT)
    with follow(demonstration, console) as on_sample:
        demonstration.run(on_sample)
    assert "reloads" in console.file.getvalue()
    assert "calls counted" in console.file.getvalue()


def test_in_a_terminal_the_parts_are_drawn():
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    demonstration = StatefulDemonstration(0.01, 6)  # no time between the reloads
    with follow(demonstration, console) as on_sample:
        demonstration.run(on_sample)
    assert "changes streamed" in console.file.getvalue()
