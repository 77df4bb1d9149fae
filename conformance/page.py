"""The matrix as a page."""

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
    """Everything that was found.

    Args:
        results: outcome by (system, scenario).
        ran: when and on what each system was run, in words.
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
        "Ways to swap Python code in a running process, and what happens to the work that runs\n"
        "meanwhile. Each scenario counts what its operations themselves saw; each system is used\n"
        "as its documentation says, in a process of its own. *n/a*: it makes no such promise.\n"
        "`make conformance` writes this page.",
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
    found = [
        f"- {system.name}: {_MARKS[results[key, name].passed]}. {results[key, name].evidence}"
        for key, system in SYSTEMS.items()
    ]
    return "\n".join([f"## {_title(name)}", "", about, "", *found])


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
