"""`epochal approve`: a person looks at what an agent proposes, and approves it."""

from __future__ import annotations

import getpass
from pathlib import Path  # noqa: TC003  typer reads annotations when it runs
from typing import TYPE_CHECKING, Annotated, Any

import typer

from epochal.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Mapping


def approve(
    folder: Annotated[
        Path, typer.Argument(help="The folder that `epochal mcp --allow-authoring` was given.")
    ],
    proposal: Annotated[
        str | None,
        typer.Argument(help="The first digits of its fingerprint; without, all are listed."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Approve without a question.")] = False,
) -> None:
    """Look at a plugin that an agent proposes, and approve it.

    For example:
      epochal approve proposals
      epochal approve proposals 3f2a9c

    Shows the difference to what serves, and the test. The approval is of
    exactly that, and counts once; the agent publishes it then. Every step is
    in FOLDER/audit.jsonl.
    """
    from epochal.authoring.approvals import ApprovalFolder, shown

    if not folder.is_dir():
        raise HostError(f"{folder} is not a folder; name the one of --allow-authoring")
    approvals = ApprovalFolder(folder)
    if proposal is None:
        for name in approvals.waiting():
            _, content = approvals.find(name)
            print(f"{name[:12]}  {_line(content)}")
        return
    name, content = approvals.find(proposal)
    print(_line(content))
    print(_escaped(shown(content)))
    if not yes and not typer.confirm("Approve this for publication?"):
        raise typer.Exit(1)
    approvals.approve(name, getpass.getuser())
    print(f"approved {name[:12]}; the agent can publish it now")


def _line(content: Mapping[str, Any]) -> str:
    plugin, version, author = content["plugin"], content["version"], content["author"]
    return _escaped(" ".join(f"{plugin} {version} by {author}: {content['reason']}".split()))


def _escaped(text: str) -> str:
    """The text with what steers a terminal made visible: nothing may hide a line of it."""
    return "".join(one if one.isprintable() or one in "\n\t" else repr(one)[1:-1] for one in text)
