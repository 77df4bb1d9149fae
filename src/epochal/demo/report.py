"""The figures of a run, for people and for machines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

    Row = tuple[str | Text, str, str | Text]

README_CUTOVER_MS: Final = 5.5
"""Of a plugin of 300 lines, in a process that does nothing else (README.md, "Cost")."""


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of one run."""

    seconds: float  # in which plugins were changed
    finished: bool  # not interrupted
    operations: int  # queries that returned or failed
    flights: int  # rows whose stamps were compared
    overtaken: int  # queries that ended on code that had been replaced while they ran
    away: int  # queries that rightly failed because a plugin was removed
    failed: int  # queries that raised
    mixed: int  # queries that saw two versions of a plugin, or a set that no epoch had
    used_after_shutdown: int  # queries in which a generation was used after its shutdown
    missing: int  # queries that failed because an existing function was not found
    reloads: int  # published changes
    refused: int  # changes that were refused, as they must be
    cutover_ms: Sequence[float]  # each change, without waiting for queries to end
    idle_cutover_ms: Sequence[float]  # each change of one plugin while no query ran
    quiet_ms: Sequence[float]  # each query while nothing changed
    reload_ms: Sequence[float]  # each query while plugins were changed
    python_ms: Sequence[float]  # each query about lengths while `geo` was Python
    wasm_ms: Sequence[float]  # and while it was WebAssembly
    wakeup_us: Sequence[float]  # from the last release of each generation to its drain awake
    reclaimed: int  # generations whose memory came back
    leaked: int  # generations whose memory did not
    rss_growth_mib: float | None  # of the process while plugins were changed; None if unknown
    faults: Sequence[str]

    @property
    def wrong(self) -> int:
        """Queries that failed, saw a mix, or missed a function."""
        return self.failed + self.mixed + self.missing

    @property
    def passed(self) -> bool:
        """Whether all that must be zero is, after some operations, and all changes went right."""
        zeros = (self.failed, self.mixed, self.used_after_shutdown, self.missing, self.leaked)
        return self.finished and self.operations > 0 and not any(zeros) and not self.faults

    def as_dict(self) -> dict[str, Any]:
        """The figures for machines; a percentile of nothing is None."""
        counts = ("operations", "failed", "mixed", "used_after_shutdown", "missing", "reloads")
        growth = self.rss_growth_mib
        return {
            **{name: getattr(self, name) for name in counts},
            "cutover_ms": _p50_p99(self.cutover_ms),
            "query_ms": {
                "quiet_p99": percentile(self.quiet_ms, 99),
                "reload_p99": percentile(self.reload_ms, 99),
            },
            "geo_ms": {
                "python_p50": percentile(self.python_ms, 50),
                "wasm_p50": percentile(self.wasm_ms, 50),
            },
            "drain_wakeup_us": _p50_p99(self.wakeup_us),
            "reclaimed": self.reclaimed,
            "leaked": self.leaked,
            "rss_growth_mib": None if growth is None else round(growth, 2),
        }


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The smallest value that so many percent of all do not exceed (nearest rank); None of none."""
    if not values:
        return None
    rank = math.ceil(len(values) * percent / 100)
    return round(sorted(values)[max(0, rank - 1)], 3)


def _p50_p99(values: Sequence[float]) -> dict[str, float | None]:
    return {"p50": percentile(values, 50), "p99": percentile(values, 99)}


def show(report: Report) -> RenderableType:
    """The report as a page."""
    compared = f"{report.flights:,} rows; their code, provenance and links agree"
    away = f"{report.away} more rightly failed: a plugin was removed" if report.away else ""
    reclaimed = f"{report.reclaimed} removed versions gave their memory back"
    published = f"in {report.seconds:.0f} s; {report.refused} more were refused, as they must be"
    idle = _number(percentile(report.idle_cutover_ms, 50), 1)
    cutover, late = (_number(percentile(report.cutover_ms, p), 1) for p in (50, 99))
    wakeup, wakeups = (_number(percentile(report.wakeup_us, p), 0) for p in (50, 99))
    quiet, busy = (_number(percentile(ms, 99), 1) for ms in (report.quiet_ms, report.reload_ms))
    python, wasm = (_number(percentile(ms, 50), 1) for ms in (report.python_ms, report.wasm_ms))
    growth = "-" if report.rss_growth_mib is None else f"{report.rss_growth_mib:+.1f}"
    overtaken = "ended on code that was replaced meanwhile, as it was planned"
    rows: list[Row] = [
        (zero(report.failed), "failed", ""),
        (zero(report.mixed), "mixed versions", compared),
        (zero(report.used_after_shutdown), "after shutdown", ""),
        (zero(report.missing), "missing", away),
        (zero(report.leaked), "leaked", reclaimed),
        ("", "", ""),
        (f"{report.reloads}", "changes", published),
        (f"{report.overtaken:,}", "queries", overtaken),
        (idle, "ms", f"cutover without load; README says {README_CUTOVER_MS} ms"),
        (cutover, "ms", f"cutover beside the queries, on busy processors; p99 {late} ms"),
        (busy, "ms", f"query p99 during changes; {quiet} ms without"),
        (wasm, "ms", f"median query with geo in WebAssembly; {python} ms with geo in Python"),
        (wakeup, "µs", f"from last use to shutdown's turn; p99 {wakeups} µs"),
        (growth, "MiB", "growth of the process"),
    ]
    return page(
        verdict(report.wrong, report.operations, "queries"),
        rows,
        report.faults,
        ended="stopped" if not report.finished else "passed" if report.passed else "FAILED",
    )


def verdict(wrong: int, total: int, unit: str) -> Text:
    """The figure that matters: how many were wrong, of how many."""
    return Text(f"{wrong:,} of {total:,} {unit} wrong", "bold red" if wrong else "bold green")


def zero(count: int, unit: str = "") -> Text:
    """A count that must be zero, green or red."""
    return Text(f"{count:,} {unit}".rstrip(), "bold green" if count == 0 else "bold red")


def page(first: Text, rows: Iterable[Row], faults: Iterable[str], *, ended: str) -> RenderableType:
    """A report: the figure that matters, its rows, and how it ended, with the faults."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", min_width=7)
    table.add_column(min_width=14)
    table.add_column(style="dim")
    for row in rows:
        table.add_row(*row)
    styles = {"passed": "bold green", "stopped": "bold yellow"}
    last = Text(ended, styles.get(ended, "bold red"))
    return Group(
        Text(), first, Text(), table, Text(), last, *(Text(f"  {fault}", "red") for fault in faults)
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
