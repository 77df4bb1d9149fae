"""What a run came to: the figures, and how they are shown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of one run.

    Attributes:
        seconds: how long plugins were changed.
        operations: queries that were answered or failed.
        flights: rows whose stamps were compared.
        overtaken: queries that ended on code that had been replaced while they ran.
        away: queries that were rightly told that a plugin is away.
        failed: queries that raised.
        mixed: queries that saw more than one version of anything, or what no epoch ever was.
        used_after_shutdown: queries in which a generation was used after its shutdown.
        missing: queries that did not find a function that was there.
        reloads: changes that were published.
        refused: changes that were refused, as they had to be.
        cutover_ms: what each change took, without waiting for queries to end.
        quiet_ms: what each query took while nothing changed.
        reload_ms: what each query took while plugins were changed.
        wakeup_us: from the last release of each generation to its drain being awake.
        reclaimed: generations whose memory came back.
        leaked: generations whose memory did not.
        rss_growth_mib: by how much the process grew while plugins were changed.
        faults: what went wrong, in words.
    """

    seconds: float
    operations: int
    flights: int
    overtaken: int
    away: int
    failed: int
    mixed: int
    used_after_shutdown: int
    missing: int
    reloads: int
    refused: int
    cutover_ms: Sequence[float]
    quiet_ms: Sequence[float]
    reload_ms: Sequence[float]
    wakeup_us: Sequence[float]
    reclaimed: int
    leaked: int
    rss_growth_mib: float | None
    faults: Sequence[str]

    @property
    def passed(self) -> bool:
        """Whether everything that must be zero is zero, and every change ended as it had to.

        A run without operations would have zeros too, so there must have been some.
        """
        return self.operations > 0 and not (
            self.failed
            or self.mixed
            or self.used_after_shutdown
            or self.missing
            or self.leaked
            or self.faults
        )

    def as_dict(self) -> dict[str, Any]:
        """The figures for machines; a percentile of nothing is None."""
        return {
            "operations": self.operations,
            "failed": self.failed,
            "mixed": self.mixed,
            "used_after_shutdown": self.used_after_shutdown,
            "missing": self.missing,
            "reloads": self.reloads,
            "cutover_ms": _p50_p99(self.cutover_ms),
            "query_ms": {
                "quiet_p99": percentile(self.quiet_ms, 99),
                "reload_p99": percentile(self.reload_ms, 99),
            },
            "drain_wakeup_us": _p50_p99(self.wakeup_us),
            "reclaimed": self.reclaimed,
            "leaked": self.leaked,
            "rss_growth_mib": None
            if self.rss_growth_mib is None
            else round(self.rss_growth_mib, 2),
        }


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The smallest value that so many percent of all do not exceed (nearest rank); None of none."""
    if not values:
        return None
    rank = math.ceil(len(values) * percent / 100)
    return round(sorted(values)[max(0, rank - 1)], 3)


def _p50_p99(values: Sequence[float]) -> dict[str, float | None]:
    return {"p50": percentile(values, 50), "p99": percentile(values, 99)}


# --- for people --------------------------------------------------------------------------------


def show(report: Report) -> RenderableType:
    """The report as a page."""
    verdict = Text("passed", "bold green") if report.passed else Text("FAILED", "bold red")
    faults = [Text(f"  {fault}", "red") for fault in report.faults]
    return Group(Text(), _checked(report), Text(), _measured(report), Text(), verdict, *faults)


def _checked(report: Report) -> Table:
    table = _grid()
    table.add_row(
        f"{report.operations:,}",
        "operations",
        f"{report.flights:,} rows compared; {report.overtaken:,} queries ended on code "
        "that had been replaced meanwhile",
    )
    zeros = (
        (report.failed, "failed", ""),
        (report.mixed, "mixed versions", "rows, provenance and linked plugins all agree"),
        (report.used_after_shutdown, "used after shutdown", ""),
        (
            report.missing,
            "missing functions",
            f"{report.away} more were rightly told that a plugin was away" if report.away else "",
        ),
        (report.leaked, "leaked", f"{report.reclaimed} generations reclaimed"),
    )
    for count, words, remark in zeros:
        style = "bold green" if count == 0 else "bold red"
        table.add_row(Text(f"{count:,}", style), words, remark)
    return table


def _measured(report: Report) -> Table:
    table = _grid()
    table.add_row(
        f"{report.reloads}",
        "changes published",
        f"in {report.seconds:.0f} s; {report.refused} more were refused, as they had to be",
    )
    cutover, wakeup = _p50_p99(report.cutover_ms), _p50_p99(report.wakeup_us)
    quiet, busy = percentile(report.quiet_ms, 99), percentile(report.reload_ms, 99)
    table.add_row(*_figure(cutover["p50"], "ms"), f"cutover; p99 {_words(cutover['p99'], 'ms')}")
    table.add_row(
        *_figure(wakeup["p50"], "µs"),
        f"from the last release to the drain awake; p99 {_words(wakeup['p99'], 'µs')}",
    )
    table.add_row(
        *_figure(busy, "ms"),
        f"query p99 while plugins change; {_words(quiet, 'ms')} while nothing does",
    )
    growth = report.rss_growth_mib
    table.add_row(
        "-" if growth is None else f"{growth:+.1f}",
        "MiB",
        "growth of the process while plugins changed",
    )
    return table


def _grid() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", min_width=9)
    table.add_column(min_width=19)
    table.add_column(style="dim")
    return table


_SHOWN: Final = {"ms": 1, "µs": 0}


def _figure(value: float | None, unit: str) -> tuple[str, str]:
    return ("-", unit) if value is None else (f"{value:,.{_SHOWN[unit]}f}", unit)


def _words(value: float | None, unit: str) -> str:
    return " ".join(_figure(value, unit))
