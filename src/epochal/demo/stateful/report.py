"""What the second act found: for people and for machines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one part did, and what was found of it.

    Attributes:
        part: `service`, `stream`, `index` or `job`.
        plugins: that were reloaded.
        did: how often it was used.
        unit: what `did` counts.
        lost: of what it did, what was not found.
        doubled: what was found more than once.
        remark: one line more.
    """

    part: str
    plugins: str
    did: int
    unit: str
    lost: int
    doubled: int
    remark: str

    @property
    def passed(self) -> bool:
        """Whether it did something, and all of it was found once."""
        return self.did > 0 and not self.lost and not self.doubled


@dataclass(frozen=True, slots=True)
class StatefulReport:
    """What one run found.

    Attributes:
        seconds: how long plugins were changed.
        reloads: changes that were published.
        refused: changes that could not take over, and were rolled back.
        pause_ms: the longest pause of each plugin, in milliseconds.
        leaked: generations whose memory did not come back.
        verdicts: of each part.
        faults: in words, what went wrong.
    """

    seconds: float
    reloads: int
    refused: int
    pause_ms: dict[str, float]
    leaked: int
    verdicts: Sequence[Verdict]
    faults: Sequence[str]

    @property
    def passed(self) -> bool:
        """Whether nothing went wrong."""
        all_well = all(verdict.passed for verdict in self.verdicts)
        return all_well and not self.faults and not self.leaked and self.refused > 0

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {**asdict(self), "passed": self.passed}


def parts_table(verdicts: Sequence[Verdict], *, judged: bool = True) -> Table:
    """The parts, a line each.

    Args:
        verdicts: of each part.
        judged: whether it is known what was lost; before the end it is not.
    """
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(min_width=8, style="bold")
    table.add_column(justify="right", min_width=9)
    table.add_column(min_width=16)
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_column(style="dim")
    for one in verdicts:
        table.add_row(
            one.part,
            f"{one.did:,}",
            one.unit,
            _zero(one.lost, "lost") if judged else "",
            _zero(one.doubled, "doubled") if judged else "",
            one.remark,
        )
    return table


def show_stateful(report: StatefulReport) -> RenderableType:
    """The report as a page."""
    pauses = ", ".join(f"{plugin} {ms:.1f} ms" for plugin, ms in sorted(report.pause_ms.items()))
    told = Text(
        f"{report.reloads} reloads in {report.seconds:.0f} s; {report.refused} more could not take "
        "over and were refused, as they had to be"
    )
    verdict = Text("passed", "bold green") if report.passed else Text("FAILED", "bold red")
    return Group(
        Text(),
        parts_table(report.verdicts),
        Text(),
        told,
        Text(f"longest pauses while state moved: {pauses}", "dim"),
        Text.assemble(_zero(report.leaked, "generations leaked")),
        Text(),
        verdict,
        *[Text(f"  {fault}", "red") for fault in report.faults],
    )


def _zero(count: int, words: str) -> Text:
    return Text(f"{count:,} {words}", "bold green" if count == 0 else "bold red")
