"""Writes the matrix and all outcomes as a page of Markdown."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Final

from conformance.scenarios import SCENARIOS
from conformance.systems import SYSTEMS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conformance.system import Outcome

    Results = Mapping[tuple[str, str], Outcome]

_MARKS: Final = {True: "passes", False: "**fails**", None: "n/a"}


def page(results: Results, ran: Mapping[str, str]) -> str:
    """The text of docs/conformance.md.

    Args:
        results: outcome by (system, scenario).
        ran: the date and Python version of each system's run.
    """
    head = f"| scenario | {' | '.join(system.name for system in SYSTEMS.values())} |"
    rows = [
        f"| [{_title(name)}](#{name.replace('_', '-')}) | "
        + " | ".join(_MARKS[results[key, name].passed] for key in SYSTEMS)
        + " |"
        for name in SCENARIOS
    ]
    parts = [
        "# A conformance suite for hot reload",
        "Ways to swap Python code in a running process, and their effects on the work that runs\n"
        "meanwhile. Each scenario counts the observations of its own operations. Each system is\n"
        "used as its documentation describes, in its own process. *n/a*: the system makes no such\n"
        "promise. `make conformance` writes this page.",
        "\n".join([head, "|---" * (len(SYSTEMS) + 1) + "|", *rows]),
        "## The systems",
        "\n".join(
            f"- **{system.name}**: {system.how}. ({ran[key]})" for key, system in SYSTEMS.items()
        ),
        *(_section(name, results) for name in SCENARIOS),
    ]
    return "\n\n".join(parts) + "\n"


def _section(name: str, results: Results) -> str:
    about = inspect.getdoc(SCENARIOS[name]) or ""
    outcomes = [
        f"- {system.name}: {_MARKS[results[key, name].passed]}. {results[key, name].evidence}"
        for key, system in SYSTEMS.items()
    ]
    return "\n".join([f"## {_title(name)}", "", about, "", *outcomes])


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
