"""Proposals of plugins: made, shown, published over the epoch that they were tried beside, undone.

What is approved is a *fingerprint*: a digest over the plugin's id, its source, its test and the
version that it replaces. So nobody approves one source and gets another, and an approval lapses
when the version that it was compared with is no longer the one that serves. A proposal's *handle*
is a secret of the session that made it; only it publishes.

An agent adds plugins, and replaces those whose active version it published here. The host names
further plugins that it may replace. A new plugin gets the kinds of tools, resources and prompts and
no services; a replaced one keeps its grants.

Threads: all methods may be called from any thread. ``_lock`` guards ``_proposals`` and
``_published``; nothing foreign runs under it.
"""

from __future__ import annotations

import ast
import hashlib
import json
import secrets
import threading
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from epochal.artifact import Artifact, read_manifest
from epochal.authoring.source_diff import MOST_LINES, diff
from epochal.authoring.trial import Trial, needed
from epochal.errors import EpochalError, EpochMovedError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from epochal import Epoch
    from epochal.authoring.trial import TriedVersion
    from epochal.report import Cutover
    from epochal.runtime import Runtime

MAX_SOURCE: Final = 256 * 1024
"""Bytes of a source, and of a test: a person is to read them."""

MAX_PROPOSALS: Final = 32
MAX_REASON: Final = 1_000
GRANTS: Final = ("agent.tool", "agent.resource", "agent.prompt")
_RESERVED: Final = "tools"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plugin that an agent proposes, which has passed its trial.

    Attributes:
        handle: the secret with which its maker publishes it.
        fingerprint: names exactly what is shown, and so what is approved.
        plugin: the plugin's id.
        version: its version.
        source: its text.
        test: the text of its test.
        replaces: the text of the version that serves; None for a new plugin.
        diff: the difference between the two.
        tools: the names of its tools.
        epoch: the id of the epoch that it was tried beside.
        reason: why, in its maker's words.
        author: its maker.
        session: the session that it belongs to; None where there is none.
    """

    handle: str
    fingerprint: str
    plugin: str
    version: str
    source: str
    test: str
    replaces: str | None
    diff: str
    tools: tuple[str, ...]
    epoch: str
    reason: str
    author: str
    session: str | None


@dataclass(frozen=True, slots=True)
class _Publication:
    """What one proposal has replaced; `digest` is of the version that it published."""

    proposal: Proposal
    digest: str
    before: TriedVersion | None


class Authoring:
    """Takes proposals of plugins, and publishes what is approved.

    Args:
        rt: the runtime.
        approve: is called with a proposal that is to be published: the approver's name, or None
            for no. It is asked once for each publication, and must not approve by a name alone:
            `Proposal.fingerprint` is what was shown. `ApprovalFolder` asks a person.
        may_replace: patterns of plugin ids that may be replaced, beside the agent's own.
        grants: capability patterns for new plugins.
        trial_timeout: seconds for a trial.
        audit: takes a record of each step as JSON values; None for the store's alone, which has the
            changes.

    Raises:
        ValueError: the timeout is not a time.
    """

    def __init__(
        self,
        rt: Runtime,
        approve: Callable[[Proposal], str | None],
        *,
        may_replace: Collection[str] = (),
        grants: Collection[str] = GRANTS,
        trial_timeout: float = 60.0,
        audit: Callable[[Mapping[str, Any]], object] | None = None,
    ) -> None:
        self._rt: Final = rt
        self._approve: Final = approve
        self._may_replace: Final = tuple(may_replace)
        self._grants: Final = tuple(grants)
        self._trial: Final = Trial(trial_timeout)
        self._audit: Final = audit or getattr(approve, "audit", None)
        self._shown: Final[Callable[[Proposal], object] | None] = getattr(approve, "show", None)
        self._lock: Final = threading.Lock()
        self._proposals: Final[dict[str, Proposal]] = {}
        self._published: Final[dict[str, _Publication]] = {}

    def close(self) -> None:
        """End the trial that runs, and begin no other. Idempotent."""
        self._trial.close()

    def propose(
        self, source: str, test: str, *, reason: str, author: str, session: str | None = None
    ) -> Proposal:
        """Check a plugin, try it beside what serves, and note it for approval.

        Args:
            source: the text of the plugin, with its manifest.
            test: the text of its test, for pytest; the plugin lies beside it.
            reason: why it is proposed.
            author: its maker, for the record.
            session: that may publish it; None for whoever has its handle.

        Raises:
            PluginError: the source is at fault.
            RefusedError: it may not be proposed, or fails its trial.
        """
        reason, author = _plain(reason), _plain(author)
        told = {"author": author, "session": session, "reason": reason}
        try:
            proposal = self._propose(source, test, reason, author, session)
        except EpochalError as error:
            self._note("refused", error=str(error)[:MAX_REASON], **told)
            raise
        with self._lock:
            self._proposals[proposal.handle] = proposal
            while len(self._proposals) > MAX_PROPOSALS:
                del self._proposals[next(iter(self._proposals))]
        if self._shown is not None:
            self._shown(proposal)
        self._note("proposed", **_said_of(proposal))
        return proposal

    def _propose(
        self, source: str, test: str, reason: str, author: str, session: str | None
    ) -> Proposal:
        _check_texts(source, test, reason)
        manifest = read_manifest(_artifact("proposal", source))
        plugin = manifest.id
        artifact = _artifact(plugin, source)
        epoch = self._rt.epoch
        seen, replaced = epoch.id, self._replaced(plugin, epoch)
        old = None if replaced is None else _named(plugin, replaced.artifact)
        replaces = None if old is None else _text(old)
        _check_shown("version that it replaces", replaces or "")
        serving = needed(manifest, epoch)
        del epoch  # a trial takes long, and holds nothing in use
        grants = self._grants if replaced is None else sorted(replaced.grants)
        tools = self._trial.run(artifact, plugin, test, serving, grants)
        return Proposal(
            secrets.token_urlsafe(16),
            fingerprint(plugin, source, test, replaces),
            plugin,
            str(manifest.version),
            source,
            test,
            replaces,
            diff({} if old is None else old.files, artifact.files),
            tools,
            seen,
            reason,
            author,
            session,
        )

    def _replaced(self, plugin: str, epoch: Epoch) -> TriedVersion | None:
        """What a proposal would replace; None for a new plugin.

        Raises:
            RefusedError: it may not.
        """
        if plugin == _RESERVED:
            raise RefusedError(f"a plugin may not be named {plugin}: those are the server's own")
        generation = epoch.generations.get(plugin)
        there = None if generation is None else generation.candidate
        if there is None or any(fnmatchcase(plugin, one) for one in self._may_replace):
            return there
        with self._lock:
            own = {one.digest for one in self._published.values()}
        if there.artifact.digest not in own:
            raise RefusedError(
                f"the plugin {plugin} is not yours to replace: choose another id, or ask for the "
                "right to replace it"
            )
        return there

    def publish(self, handle: str, *, author: str, session: str | None = None) -> Cutover:
        """Publish a proposal that has been approved, over the epoch that it was tried beside.

        Args:
            handle: the proposal's.
            author: for the record.
            session: the caller's.

        Raises:
            RefusedError: there is no such proposal of that session, or it is not approved.
            EpochMovedError: what serves has changed meanwhile: propose it again.
            EpochalError: as for `Runtime.reload`; an approval that was used has lapsed.
        """
        proposal = self._own(self._proposals, handle, session)
        told = {**_said_of(proposal), "author": author}
        current = self._rt.epoch
        if current.id != proposal.epoch:
            raise EpochMovedError(
                expected=proposal.epoch, number=current.number, current=current.id
            )
        del current
        approver = self._approve(proposal)
        if not approver:
            raise RefusedError(
                f"the proposal {proposal.fingerprint[:12]} of {proposal.plugin} is not approved "
                "(yet): nothing was changed. A person has to look at it; publish it after that"
            )
        self._note("approved", approver=approver, **told)
        try:
            cutover = self._change(proposal, author, approver)
        except EpochalError as error:
            self._note("failed", error=str(error)[:MAX_REASON], **told)
            raise
        self._note("published", approver=approver, epoch=self._rt.epoch.number, **told)
        return cutover

    def _change(self, proposal: Proposal, author: str, approver: str) -> Cutover:
        plugin, artifact = proposal.plugin, _artifact(proposal.plugin, proposal.source)
        generation = self._rt.epoch.generations.get(plugin)
        before = None if generation is None else generation.candidate
        del generation
        said = f"proposed by {author}, approved by {approver}: {proposal.reason}"
        # Of another epoch than the proposal's, `before` would be wrong: the change refuses that.
        change = self._rt.change(if_epoch=proposal.epoch, reason=said, drain_timeout=0.0)
        if before is None:
            change.load(artifact, grants=self._grants)
        else:
            change.reload(plugin, artifact)
        cutover = change.run()
        with self._lock:
            self._proposals.pop(proposal.handle, None)
            self._published[proposal.handle] = _Publication(proposal, artifact.digest, before)
        return cutover

    def roll_back(self, handle: str, *, author: str, session: str | None = None) -> Cutover:
        """Bring back what a published proposal has replaced, if it still serves.

        Args:
            handle: the proposal's.
            author: for the record.
            session: the caller's.

        Raises:
            RefusedError: that session has published no such proposal, or it serves no more.
            EpochalError: as for `Runtime.reload`.
        """
        done = self._own(self._published, handle, session)
        plugin, was, epoch = done.proposal.plugin, done.before, self._rt.epoch
        there = epoch.generations.get(plugin)
        if there is None or there.digest != done.digest:
            raise RefusedError(f"{plugin} has changed since: nothing was rolled back")
        reason = f"rolled back by {author}: {done.proposal.reason}"
        change = self._rt.change(if_epoch=epoch.id, reason=reason, drain_timeout=0.0)
        del epoch, there
        if was is None:
            change.remove(plugin)
        else:
            change.reload(plugin, was.artifact, config=was.config, grants=was.grants)
        cutover = change.run()
        with self._lock:
            self._published.pop(handle, None)
        self._note("rolled-back", **{**_said_of(done.proposal), "author": author})
        return cutover

    def _own(self, those: Mapping[str, Any], handle: str, session: str | None) -> Any:
        with self._lock:
            found = those.get(handle)
        proposal: Proposal | None = getattr(found, "proposal", found)
        if proposal is None or proposal.session not in (None, session):
            raise RefusedError(
                "there is no such proposal of this session: it was published or rolled back "
                "before, is too old, or belongs to another session; propose it again"
            )
        return found

    def _note(self, step: str, **facts: Any) -> None:
        if self._audit is not None:
            self._audit({"at": time.time(), "step": step, **facts})


def fingerprint(plugin: str, source: str, test: str, replaces: str | None) -> str:
    """A digest over all that a person is shown of a proposal."""
    shown = json.dumps([plugin, source, test, replaces])
    return hashlib.sha256(shown.encode()).hexdigest()


def _check_texts(source: str, test: str, reason: str) -> None:
    """Check what can be checked before anything of it runs.

    Raises:
        RefusedError: it is too long, is not Python, or its reason is missing.
    """
    if not reason.strip():
        raise RefusedError("a proposal needs a reason: a person decides by it")
    for what, text in (("source", source), ("test", test)):
        size = len(text.encode(errors="replace"))
        if size > MAX_SOURCE:
            raise RefusedError(f"the {what} has {size:,} bytes, and {MAX_SOURCE:,} are allowed")
        _check_shown(what, text)
        if not text.strip():
            raise RefusedError(f"the {what} is empty: a proposal needs a source and its test")
        try:
            ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise RefusedError(f"the {what} is not Python: {error}") from None


def _check_shown(what: str, text: str) -> None:
    """Check that a text is shown line by line: nobody approves what is only named.

    Raises:
        RefusedError: it has too many lines.
    """
    if (lines := len(text.splitlines())) > MOST_LINES:
        raise RefusedError(f"the {what} has {lines:,} lines; {MOST_LINES:,} can be shown to people")


def _plain(text: str) -> str:
    """A text that a log and a store take."""
    return text.encode(errors="replace").decode()[:MAX_REASON]


def _artifact(plugin: str, source: str) -> Artifact:
    return Artifact(plugin, {f"{plugin}.py": source.encode()})


def _named(plugin: str, artifact: Artifact) -> Artifact:
    """A version that serves, with its one file named as that of a proposal."""
    if artifact.is_package:
        return artifact
    return Artifact(plugin, {f"{plugin}.py": artifact.files[artifact.root]})


def _text(artifact: Artifact) -> str:
    return "\n".join(part.decode(errors="replace") for _, part in sorted(artifact.files.items()))


def _said_of(proposal: Proposal) -> dict[str, Any]:
    return {
        "plugin": proposal.plugin,
        "version": proposal.version,
        "fingerprint": proposal.fingerprint,
        "reason": proposal.reason,
        "author": proposal.author,
        "session": proposal.session,
    }
