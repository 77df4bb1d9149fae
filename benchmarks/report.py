"""Writes RESULTS.md and its plots from the kept results; `make bench` does so at its end."""

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
    ("RSS growth over 10,000 reloads after the first 500", "memory", "resident memory, growth"),
    ("drain wake-up, mean: 10 ms polling against ours", "drains", "polling every 10 ms / ours"),
)
ABOUT = {
    "hotpath": "A call by every way that people take, in one process, by turns.",
    "calls": "Ratios of pairs that were measured by turns.",
    "swaps": "Four threads, each operation two calls with 1 ms between them; new code each time.",
    "drains": "From the last release to the waiter awake, and what waiting burns.",
    "reloads": "A reload of a 300-line plugin, alone and beside ten million objects.",
    "growth": "Plugins of ten exports each; chains and stars of requirements; holders.",
    "memory": "Resident memory over thousands of reloads.",
    "restarts": "The same answer behind gunicorn with two uvicorn workers, and behind one process "
    "whose plugin is saved; 16 connections, client and server on two processors.",
    "kinds": "Hooks beside pluggy's; the pause in which a service's state moves; indexes that are "
    "opened and built; tables of plugins beside the engine's own.",
    "sql": "A vectorized function over a table, beside plain DataFusion, and under reloads.",
    "store": "Commits and restarts.",
    "service": "`epochal serve`, 64 connections, a small query.",
}


def write() -> None:
    """Write the page and the plots."""
    records = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("python-*.json"))]
    parts = [_head(records), _goals(records)]
    newest = records[0]
    _plot(newest["groups"])
    parts += [_group(name, records) for name in newest["groups"]]
    PAGE.write_text("\n".join(parts))


def _head(records: list[dict[str, Any]]) -> str:
    runs = "\n".join(line for one in records for line in _runs(one))
    return f"""# Results

Written by `make bench` from `results/`; `make bench-quick` takes two minutes and writes nothing.
Ratios compare what was measured by turns in one process; a value is the median of its repeats, with
the lowest and the highest, unless its name says otherwise. `results/history.jsonl` keeps every run.
What each figure costs and why:
[performance.md](../docs/performance.md). What other ways to swap code do to running work:
[conformance.md](../docs/conformance.md).

{runs}
"""


def _runs(record: dict[str, Any]) -> list[str]:
    """Where and when its groups were measured: one line for each run, the largest first."""
    groups: dict[str, list[str]] = {}
    for group, run in record["runs"].items():
        groups.setdefault(run, []).append(group)
    largest = sorted(groups, key=lambda run: -len(groups[run]))
    return [f"- Python {record['python']}, {', '.join(groups[run])}: {run}" for run in largest]


def _goals(records: list[dict[str, Any]]) -> str:
    names = " | ".join(f"Python {_short(one)}" for one in records)
    lines = ["## Goals", "", f"| what | goal | {names} |", f"|---|---|{'---|' * len(records)}"]
    for what, group, start in GOALS:
        found = [_find(one, group, start) for one in records]
        first = next((one for one in found if one), None)
        cells = " | ".join(_said(one) if one else "" for one in found)
        lines.append(f"| {what} | {_goal(first) if first else ''} | {cells} |")
    return "\n".join([*lines, ""])


def _find(record: dict[str, Any], group: str, start: str) -> dict[str, Any] | None:
    figures: Figures = record["groups"].get(group, [])
    return next((one for one in figures if one["name"].startswith(start)), None)


def _group(name: str, records: list[dict[str, Any]]) -> str:
    head = " | ".join(f"Python {_short(one)}" for one in records)
    lines = [f"## {name}", "", ABOUT[name], ""]
    if (RESULTS / f"{name}.svg").exists():
        lines += [f"![{name}](results/{name}.svg)", ""]
    lines += [f"| what | {head} | goal |", f"|---|{'---|' * (len(records) + 1)}"]
    for figure in records[0]["groups"][name]:
        found = [_find(one, name, figure["name"]) for one in records]
        cells = " | ".join(_said(one) if one else "" for one in found)
        lines.append(f"| {figure['name']} | {cells} | {_goal(figure)} |")
    return "\n".join([*lines, ""])


def _said(figure: dict[str, Any]) -> str:
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
    # The same figures give the same files.
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
    names = [one["name"].removeprefix("call: ") for one in figures][::-1]
    values = [one["value"] for one in figures][::-1]
    colors = ["#e8893a" if "(ours)" in name else "#3b6fd4" for name in names]
    axes.barh(names, values, color=colors)
    axes.set_xscale("log")
    axes.set_xlabel("ns a call (logarithmic)")
    _save(chart, "hotpath")


def _plot_growth(figures: Figures) -> None:
    from matplotlib import pyplot

    found: dict[str, dict[int, float]] = {}
    for one in figures:
        match = re.match(r"([\d,]+) plugins of \d+ exports: (.*)", one["name"])
        if match:
            size = int(match[1].replace(",", ""))
            found.setdefault(match[2], {})[size] = one["value"]
    chart, all_axes = pyplot.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    for axes, name, unit in zip(
        all_axes,
        ("reload of one", "load, each", 'epoch[kind]["name"](x)'),
        ("ms", "ms", "ns"),
        strict=True,
    ):
        axes.plot(list(found[name]), list(found[name].values()), marker="o", color="#e8893a")
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
            next(one["value"] for one in figures if one["name"] == f"{start}{joint}{share}")
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
