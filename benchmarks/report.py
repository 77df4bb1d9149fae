"""Writes RESULTS.md and its plots from the stored results, as the last step of `make bench`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE / "RESULTS.md"
Figures = list[dict[str, Any]]

GOALS = (
    ("captured export call", "calls", "call of a captured export / bare function"),
    ("pin (`rt.epoch`), over an empty statement", "calls", "epoch = rt.epoch, over"),
    ("operations failed, mixed, missing, used late", "swaps", "operations failed"),
    ("operation p99 during reloads, against quiet", "swaps", "operation p99 at"),
    ("reload of one among 10,000 plugins, against 10", "growth", "reload of one among"),
    ("loading 1,000 plugins, against importing them", "growth", "load of 1,000 plugins"),
    ("`import epochal`, against `import pluggy`", "starts", "import epochal / import pluggy"),
    ("what a pytest run without our fixtures pays for us", "starts", "a pytest run without"),
    ("RSS growth over 10,000 reloads after the first 500", "memory", "resident memory, growth"),
    ("drain wake-up, mean: 10 ms polling against ours", "drains", "polling every 10 ms / ours"),
)
ABOUT = {
    "hotpath": "A call in each of the usual ways, in one process, by turns.",
    "calls": "Ratios of pairs, measured by turns.",
    "swaps": "Four threads, each operation two calls with 1 ms between them; new code each time.",
    "drains": "From the last release to the waiter's wake-up; the processor time of a wait.",
    "reloads": "A reload of a 300-line plugin, alone and beside ten million objects.",
    "growth": "Plugins of ten exports each; chains and stars of requirements; holders.",
    "memory": "Resident memory over thousands of reloads.",
    "restarts": "The same application behind gunicorn with two uvicorn workers, and in one process "
    "that reloads the saved plugin; 16 connections, client and server on two processors.",
    "kinds": "Hooks compared with pluggy's; the pause while a service's state moves; opening and "
    "building indexes; tables of plugins compared with the engine's own.",
    "sql": "A vectorized function over a table, compared with plain DataFusion, and under reloads.",
    "store": "Commits and restarts.",
    "starts": "New processes, by turns; processor time. Their bytecode is written before.",
    "service": "`epochal serve`, a plain service (Starlette, DataFusion, a pool of two threads) "
    "and Datasette, by turns; 64 connections from a process of their own, a small query.",
    "wasm": "A WebAssembly plugin compared with Python ones, by turns; its limits; two threads.",
    "mcp": "`epochal mcp` and a plain server of the official SDK, by turns, over stdio; the newer "
    "protocol and the one before.",
}


def write() -> None:
    """Write the page, and the plots of the first version of Python."""
    records = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("python-*.json"))]
    parts = [_head(records), _goals(records)]
    newest = records[0]
    _plot(newest["groups"])
    parts += [_group(name, records) for name in newest["groups"]]
    PAGE.write_text("\n".join(parts))


def _head(records: list[dict[str, Any]]) -> str:
    runs = "\n".join(line for record in records for line in _runs(record))
    return f"""# Results

Written by `make bench` from `results/`; `make bench-quick` takes two minutes and writes nothing.
Both sides of a ratio were measured by turns in one process. A value is the median of its repeats,
with the lowest and the highest, unless its name states otherwise. `results/history.jsonl` keeps
every run. [performance.md](../docs/performance.md) explains the figures;
[conformance.md](../docs/conformance.md) compares the effects of code swaps on running work.

{runs}
"""


def _runs(record: dict[str, Any]) -> list[str]:
    """A line for each run of a record, with its groups, machine and time; the largest run first."""
    groups: dict[str, list[str]] = {}
    for group, run in record["runs"].items():
        groups.setdefault(run, []).append(group)
    largest = sorted(groups, key=lambda run: -len(groups[run]))
    return [f"- Python {record['python']}, {', '.join(groups[run])}: {run}" for run in largest]


def _goals(records: list[dict[str, Any]]) -> str:
    names = " | ".join(f"Python {_short(record)}" for record in records)
    lines = ["## Goals", "", f"| figure | goal | {names} |", f"|---|---|{'---|' * len(records)}"]
    for label, group, start in GOALS:
        figures = [_find(record, group, start) for record in records]
        first = next((figure for figure in figures if figure), None)
        cells = " | ".join(_cell(figure) if figure else "" for figure in figures)
        lines.append(f"| {label} | {_goal(first) if first else ''} | {cells} |")
    return "\n".join([*lines, ""])


def _find(record: dict[str, Any], group: str, start: str) -> dict[str, Any] | None:
    figures: Figures = record["groups"].get(group, [])
    return next((figure for figure in figures if figure["name"].startswith(start)), None)


def _group(name: str, records: list[dict[str, Any]]) -> str:
    head = " | ".join(f"Python {_short(record)}" for record in records)
    lines = [f"## {name}", "", ABOUT[name], ""]
    if (RESULTS / f"{name}.svg").exists():
        lines += [f"![{name}](results/{name}.svg)", ""]
    lines += [f"| figure | {head} | goal |", f"|---|{'---|' * (len(records) + 1)}"]
    for figure in records[0]["groups"][name]:
        same = [_find(record, name, figure["name"]) for record in records]
        cells = " | ".join(_cell(other) if other else "" for other in same)
        lines.append(f"| {figure['name']} | {cells} | {_goal(figure)} |")
    return "\n".join([*lines, ""])


def _cell(figure: dict[str, Any]) -> str:
    unit = {"x": " times", "us": " µs"}.get(figure["unit"], f" {figure['unit']}".rstrip())
    text = f"{_number(figure['value'])}{unit}"
    if figure["spread"]:
        low, high = map(_number, figure["spread"])
        text += f" ({low} to {high})"
    return text if figure["reached"] is not False else f"**{text}: missed**"


def _goal(figure: dict[str, Any]) -> str:
    if figure["goal"] is None:
        return ""
    unit = {"x": " times", "us": " µs"}.get(figure["unit"], f" {figure['unit']}".rstrip())
    return f"at {'least' if figure['higher'] else 'most'} {_number(figure['goal'])}{unit}"


def _number(value: float) -> str:
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _short(record: dict[str, Any]) -> str:
    return ".".join(record["python"].split(".")[:2])


# --- plots -------------------------------------------------------------------------------------


def _plot(groups: dict[str, Figures]) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    # A fixed salt, so that the same figures give the same files.
    mpl.rcParams["svg.hashsalt"] = "epochal"
    if "hotpath" in groups:
        _plot_calls(groups["hotpath"])
    if "growth" in groups:
        _plot_growth(groups["growth"])
    if "drains" in groups:
        _plot_drains(groups["drains"])


def _plot_calls(figures: Figures) -> None:
    from matplotlib import pyplot

    chart, axes = pyplot.subplots(figsize=(8, 4.2), layout="constrained")
    names = [figure["name"].removeprefix("call: ") for figure in figures][::-1]
    values = [figure["value"] for figure in figures][::-1]
    colors = ["#e8893a" if "(ours)" in name else "#3b6fd4" for name in names]
    axes.barh(names, values, color=colors)
    axes.set_xscale("log")
    axes.set_xlabel("ns a call (logarithmic)")
    _save(chart, "hotpath")


def _plot_growth(figures: Figures) -> None:
    from matplotlib import pyplot

    values: dict[str, dict[int, float]] = {}
    for figure in figures:
        match = re.match(r"([\d,]+) plugins of \d+ exports: (.*)", figure["name"])
        if match:
            size = int(match[1].replace(",", ""))
            values.setdefault(match[2], {})[size] = figure["value"]
    chart, all_axes = pyplot.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    for axes, name, unit in zip(
        all_axes,
        ("reload of one", "load, each", 'epoch[kind]["name"](x)'),
        ("ms", "ms", "ns"),
        strict=True,
    ):
        axes.plot(list(values[name]), list(values[name].values()), marker="o", color="#e8893a")
        axes.set(xscale="log", xlabel="plugins", title=f"{name}, {unit}")
        axes.set_ylim(bottom=0)
    _save(chart, "growth")


def _plot_drains(figures: Figures) -> None:
    from matplotlib import pyplot

    chart, axes = pyplot.subplots(figsize=(8, 2.6), layout="constrained")
    rows = {"ours": "last release to drain awake"} | {
        f"polling every {ms} ms": f"polling every {ms} ms, wake-up" for ms in ("0.1", "1", "10")
    }
    for place, start in enumerate(rows.values()):
        low, high = (
            next(f["value"] for f in figures if f["name"] == f"{start}{joint}{share}")
            for joint, share in (
                ((", ", "p50"), (", ", "p99")) if place == 0 else ((" ", "p50"), (" ", "p99"))
            )
        )
        axes.plot([low, high], [place, place], lw=6, color="#3b6fd4" if place else "#e8893a")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_xscale("log")
    axes.set_xlabel("µs from the last release to awake, p50 to p99 (logarithmic)")
    _save(chart, "drains")


def _save(chart: Any, name: str) -> None:
    from matplotlib import pyplot

    chart.savefig(RESULTS / f"{name}.svg", metadata={"Date": None})
    chart.savefig(RESULTS / f"{name}.png", dpi=120)
    pyplot.close(chart)


if __name__ == "__main__":
    write()
