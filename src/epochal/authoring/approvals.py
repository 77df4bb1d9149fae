"""Approval by a person: proposals lie in a folder, `epochal approve` shows and approves them.

``FINGERPRINT.json``
    A proposal: source, test, the version that it replaces, the reason, the author.
``FINGERPRINT.approved``
    The approver and the time; it counts once.
``audit.jsonl``
    A line of JSON for each step: proposed, refused, approved, published, failed, rolled back.

The name of a proposal is computed from its content when it is shown, and again from what the server
has in memory when it is published: a changed file approves nothing. The folder is its owner's alone
(mode 0700), and whoever can write there approves: so can Python code that runs as the same user.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from epochal.authoring.source_diff import diff
from epochal.authoring.workbench import fingerprint
from epochal.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from epochal.authoring.workbench import Proposal

_log: Final = logging.getLogger("epochal")

MAX_WAITING: Final = 100
_SHOWN: Final = ("plugin", "version", "source", "test", "replaces", "reason", "author")


class ApprovalFolder:
    """A folder of proposals; called by `Authoring` to ask whether one is approved.

    Args:
        path: the folder, which is made if there is none.

    Raises:
        HostError: it cannot be made.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Final = Path(path)
        self._lock: Final = threading.Lock()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise HostError(f"{self.path} cannot hold proposals: {error}") from error

    def __call__(self, proposal: Proposal) -> str | None:
        """The approver's name, once for each approval; None if nobody has approved it."""
        name = self.path / f"{proposal.fingerprint}.approved"
        taken = name.with_suffix(f".taken-{time.time_ns()}")
        try:
            name.rename(taken)  # of two that publish at once, one succeeds
        except FileNotFoundError:
            return None
        text = taken.read_text()
        taken.unlink()
        try:
            by = str(json.loads(text)["by"])
        except (ValueError, KeyError, TypeError) as error:
            raise HostError(f"{name} is not an approval: {error!r}; approve it again") from None
        (self.path / f"{proposal.fingerprint}.json").unlink(missing_ok=True)
        return by

    def show(self, proposal: Proposal) -> None:
        """Write a proposal for a person.

        Raises:
            HostError: too many wait.
        """
        name = self.path / f"{proposal.fingerprint}.json"
        if len([*self.path.glob("*.json")]) >= MAX_WAITING and not name.exists():
            raise HostError(f"{MAX_WAITING} proposals wait in {self.path}: approve or delete some")
        content = {key: getattr(proposal, key) for key in _SHOWN}
        _write(name, json.dumps(content, indent=1))
        _log.info(
            "%s %s is proposed; look at it with: epochal approve %s %s",
            *(proposal.plugin, proposal.version, self.path, proposal.fingerprint[:12]),
        )

    def waiting(self) -> list[str]:
        """The fingerprints of the proposals that are there, the oldest first."""
        found = [(path.stat().st_mtime, path.stem) for path in self.path.glob("*.json")]
        return [stem for _, stem in sorted(found)]

    def find(self, prefix: str) -> tuple[str, Mapping[str, Any]]:
        """A proposal by the first digits of its fingerprint, and the fingerprint of its content.

        Raises:
            HostError: there is none, or several; or its content is not what its name says.
        """
        found = [one for one in self.waiting() if one.startswith(prefix)]
        if len(found) != 1:
            what = f"{len(found)} proposals begin with" if found else "no proposal begins with"
            raise HostError(f"{what} {prefix!r} in {self.path}")
        try:
            content = json.loads((self.path / f"{found[0]}.json").read_text())
            facts = [content[key] for key in ("plugin", "source", "test", "replaces")]
        except (ValueError, KeyError, TypeError) as error:
            raise HostError(f"{found[0]} is not a proposal: {error!r}") from error
        if fingerprint(*facts) != found[0]:
            raise HostError(f"{found[0]} was changed after it was proposed: delete it")
        return found[0], content

    def approve(self, name: str, by: str) -> None:
        """Approve what `find` returned."""
        _write(self.path / f"{name}.approved", json.dumps({"by": by, "at": time.time()}))
        self.audit({"at": time.time(), "step": "shown and approved", "fingerprint": name, "by": by})

    def audit(self, record: Mapping[str, Any]) -> None:
        """Append to the audit log."""
        with self._lock, (self.path / "audit.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")


def shown(content: Mapping[str, Any]) -> str:
    """The difference that a proposal makes, and its test, for a person."""
    name = f"{content['plugin']}.py"
    old = {} if content["replaces"] is None else {name: content["replaces"].encode()}
    test = {f"test_{name}": content["test"].encode()}
    return diff(old, {name: content["source"].encode()}) + diff({}, test)


def _write(path: Path, text: str) -> None:
    """Write a file whole."""
    part = path.with_suffix(f".part-{os.getpid()}-{time.time_ns()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
