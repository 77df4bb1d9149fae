"""The tools with which an agent proposes plugins, for servers whose operator grants them."""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from epochal.errors import EpochalError
from epochal.mcp.announcer import connection_of
from epochal.mcp.catalogue import COMPLETE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mcp.server.context import ServerRequestContext

    from epochal.authoring import Authoring

    Context = ServerRequestContext[Any, Any]
    Json = dict[str, Any]

_SESSION: Final = "epochal authoring"
_ABOUT: Final = {
    "source": "the plugin's Python text, which begins with its manifest: "
    '# /// plugin, # id = "name", # version = "1.0", # ///',
    "test": "the text of its test, for pytest: `def test_it(epochal_plugin): "
    "plugin = epochal_plugin('name.py'); assert plugin.call('function', 1) == 2`",
    "reason": "why, for the person who approves it",
    "proposal": "what tools.propose returned as `proposal`",
}
_TOOLS: Final[dict[str, tuple[str, tuple[str, ...], bool]]] = {
    "tools.propose": (
        "Propose a plugin with tools that you have written. It is tried, with its test, and shown "
        "to a person; nothing is changed by it.",
        ("source", "test", "reason"),
        False,
    ),
    "tools.publish": (
        "Publish a proposal of yours, once a person has approved it. If what serves has changed "
        "meanwhile, propose it again.",
        ("proposal",),
        True,
    ),
    "tools.rollback": (
        "Take back a proposal of yours that was published: what it replaced serves again.",
        ("proposal",),
        True,
    ),
}


class AuthoringTools:
    """Answers the calls of these tools.

    Args:
        authoring: takes the proposals.
    """

    def __init__(self, authoring: Authoring) -> None:
        self._authoring: Final = authoring

    def has(self, name: str) -> bool:
        """Whether a tool is one of these."""
        return name in _TOOLS

    def close(self) -> None:
        """End the trial that runs."""
        self._authoring.close()

    def entries(self, shown: Callable[[str], str]) -> list[Json]:
        """The tools, in a list of tools.

        Args:
            shown: makes the name that clients see.
        """
        return [
            {
                "name": shown(name),
                "description": text,
                "inputSchema": {
                    "type": "object",
                    "properties": {
                        one: {"type": "string", "description": _ABOUT[one]} for one in arguments
                    },
                    "required": list(arguments),
                    "additionalProperties": False,
                },
                "annotations": {"readOnlyHint": False, "destructiveHint": destructive},
            }
            for name, (text, arguments, destructive) in _TOOLS.items()
        ]

    async def call(self, ctx: Context, name: str, arguments: Mapping[str, Any]) -> Json:
        """The result of a call, errors included."""
        expected = _TOOLS[name][1]
        faults = [f"{one} is missing" for one in expected if one not in arguments]
        faults += [f"{one} is not known" for one in arguments if one not in expected]
        faults += [
            f"{one} is text" for one in expected if not isinstance(arguments.get(one, ""), str)
        ]
        if faults:
            return _result("; ".join(faults), is_error=True)
        call = getattr(self, "_" + name.removeprefix("tools."))
        try:
            # On a thread: a trial takes seconds, and a change waits for its turn.
            return await asyncio.to_thread(partial(call, _who(ctx), **arguments))
        except EpochalError as error:
            return _result(f"[{error.code}] {error}", is_error=True)

    def _propose(self, who: Mapping[str, Any], source: str, test: str, reason: str) -> Json:
        proposal = self._authoring.propose(source, test, reason=reason, **who)
        told = ("fingerprint", "plugin", "version", "tools")
        result = {key: getattr(proposal, key) for key in told}
        text = (
            f"{proposal.plugin} {proposal.version} passed its trial. It serves nobody yet: a "
            f"person has to approve {proposal.fingerprint[:12]}; then call tools.publish.\n"
            f"{proposal.diff}"
        )
        return _result(text, {"proposal": proposal.handle, **result})

    def _publish(self, who: Mapping[str, Any], proposal: str) -> Json:
        return _result(str(self._authoring.publish(proposal, **who)), {"proposal": proposal})

    def _rollback(self, who: Mapping[str, Any], proposal: str) -> Json:
        return _result(str(self._authoring.roll_back(proposal, **who)), {"proposal": proposal})


def _who(ctx: Context) -> dict[str, str | None]:
    """The caller: what its client calls itself, and its session.

    Requests of the newer protocol have no session: there the proposal's handle alone decides.
    """
    connection = connection_of(ctx)
    params = connection.client_params
    client = "an MCP client" if params is None else params.client_info.name[:80]
    if ctx.protocol_version not in HANDSHAKE_PROTOCOL_VERSIONS:
        return {"author": client, "session": None}
    return {
        "author": client,
        "session": connection.state.setdefault(_SESSION, secrets.token_hex(8)),
    }


def _result(text: str, facts: Json | None = None, *, is_error: bool = False) -> Json:
    content: Json = {**COMPLETE, "content": [{"type": "text", "text": text}]}
    if facts is not None:
        content["structuredContent"] = facts
    return {**content, "isError": is_error}
