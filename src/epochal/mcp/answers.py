"""Calling tools, reading resources and filling in prompts: each in one epoch.

A model's mistakes, and a tool that fails, are results that say so (`isError`): the model reads them
and tries again. Such a result names the argument at fault, and shows what is there now.
"""

from __future__ import annotations

import base64
import json
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS

from epochal.errors import ToolArgumentError, ToolError
from epochal.kinds import prompt, resource, tool
from epochal.mcp.announcer import connection_of
from epochal.mcp.call_reports import LOG_LEVEL, Reporter
from epochal.mcp.catalogue import COMPLETE, FRESH, call_meta, catalogue_of
from epochal.tools import run
from epochal.tools.chat_apis import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mcp.server.context import ServerRequestContext

    from epochal import Operation
    from epochal.mcp.catalogue import Catalogue
    from epochal.mcp.superseded import Superseded
    from epochal.runtime import Runtime
    from epochal.tools import Tool, ToolFacts

    Context = ServerRequestContext[Any, Any]
    Json = dict[str, Any]
    Refuse = Callable[[Context, ToolFacts], str | None]

SEEN: Final = "epochal tools seen"
"""The key of what a session has listed, in its connection's state."""

GRACE_S: Final = 5.0
"""For so long after a list its session's calls may have been made by an earlier one: the client's
other tasks go on while the list is on its way."""


class SeenTools(dict[str, str]):
    """What a session has listed: the name of each tool, and the digest of its version.

    Attributes:
        at: the time of the list.
    """

    def __init__(self, versions: Mapping[str, str]) -> None:
        super().__init__(versions)
        self.at: Final = monotonic()


_SHOWN_NAMES: Final = 40


class Answers:
    """Answers the calls of a server's clients.

    Args:
        rt: the runtime.
        superseded: what clients saw before a change.
        timeout: seconds that a call may take, where the tool has no limit of its own.
        refuse: why a request may not call a tool; None if it may.
    """

    def __init__(
        self, rt: Runtime, superseded: Superseded, timeout: float | None, refuse: Refuse | None
    ) -> None:
        self._refuse: Final = refuse
        self._rt: Final = rt
        self._superseded: Final = superseded
        self._timeout: Final = timeout

    async def call_tool(self, ctx: Context, name: str, arguments: Mapping[str, Any]) -> Json:
        """The result of a call, errors included."""
        seen: SeenTools | None = connection_of(ctx).state.get(SEEN)
        epoch = self._rt.epoch
        catalogue = catalogue_of(epoch)
        facts = catalogue.tools.get(name)
        digest = None if seen is None else seen.get(name)
        faults = [] if digest is None else self._superseded.faults(name, digest, facts)
        held = self._superseded.held(name, digest) if digest is not None and faults else None
        if held is not None and (checked := _fitting(held.tool, arguments)) is not None:
            del epoch
            return await self._run(ctx, held.tool, checked, None, held.meta)
        offered = epoch[tool].get(name)
        if faults and held is None and not _survives(faults, offered, arguments):
            return self._changed(name, catalogue, seen, faults)
        # From here: the client knows the tool as it is, or nothing is known of the client.
        operation = self._rt.operation(f"MCP: {name}", epoch=epoch)
        meta = None if facts is None else call_meta(epoch, facts.plugin)
        del epoch
        with operation:
            if offered is None or meta is None:
                refusal = self._unknown(name, catalogue)
            else:
                try:
                    checked = offered.check(arguments)
                except ToolArgumentError as error:
                    refusal = self._refused(name, error, catalogue, seen)
                except ToolError as error:
                    return _failed(str(error), meta)
                else:
                    return await self._run(ctx, offered, checked, operation, meta)
            del offered
        # A session that listed the tools knows better, but for calls that were on their way.
        knows = seen is not None and monotonic() - seen.at > GRACE_S
        found = None if knows else self._superseded.accepting(name, arguments)
        if found is None:
            return refusal
        return await self._run(ctx, found[0].tool, found[1], None, found[0].meta)

    async def _run(
        self,
        ctx: Context,
        offered: Tool,
        arguments: Mapping[str, Any],
        operation: Operation | None,
        meta: Json,
    ) -> Json:
        facts = offered.facts
        # Here, where every call passes: the facts are those of the version that would run.
        if self._refuse is not None and (why := self._refuse(ctx, facts)) is not None:
            return _failed(why, meta, "right")
        reporter = Reporter(ctx, connection_of(ctx).state.get(LOG_LEVEL))
        try:
            result = await run(
                offered,
                arguments,
                timeout=self._timeout if facts.timeout is None else facts.timeout,
                reporter=reporter,
                operation=operation,
            )
            await reporter.flush()
            return _result(offered, result, meta)
        except ToolError as error:
            await reporter.flush()
            return _failed(str(error), meta)

    def _changed(
        self, name: str, catalogue: Catalogue, seen: SeenTools | None, faults: list[str]
    ) -> Json:
        facts = catalogue.tools.get(name)
        if facts is None:
            return self._unknown(name, catalogue)
        if seen is not None:
            seen[name] = facts.digest  # by this answer
        text = (
            f"{name} has changed since you listed it: {'; '.join(faults)}. It was not called. "
            f"Its arguments are now: {json.dumps(facts.input_schema)}"
        )
        return _failed(text, catalogue.meta, "tool-changed")

    def _refused(
        self,
        name: str,
        error: ToolArgumentError,
        catalogue: Catalogue,
        seen: SeenTools | None,
    ) -> Json:
        text = f"{error}. Its arguments are: {json.dumps(error.schema)}"
        if self._superseded.was_there(name):
            text += (
                ". The tool has changed of late; list the tools again if you know another schema"
            )
        if seen is not None:
            seen[name] = catalogue.tools[name].digest
        return _failed(text, catalogue.meta, error.code)

    def _unknown(self, name: str, catalogue: Catalogue) -> Json:
        what = "is gone" if self._superseded.was_there(name) else "does not exist"
        names = list(catalogue.tools)
        there = ", ".join(names[:_SHOWN_NAMES]) or "none"
        more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
        text = f"the tool {name} {what}. The tools are now: {there}{more}"
        return _failed(text, catalogue.meta, "tool-changed")

    async def read_resource(self, ctx: Context, uri: str) -> Json | None:
        """The contents of a resource; None if no plugin has it.

        Raises:
            MCPError: it could not be read.
        """
        epoch = self._rt.epoch
        for name, facts in catalogue_of(epoch).resources.items():
            if (arguments := facts.match(uri)) is None:
                continue
            offered, meta = epoch[resource][name], call_meta(epoch, facts.plugin)
            operation = self._rt.operation(f"MCP: {uri}", epoch=epoch)
            del epoch
            value = await self._value(ctx, offered, arguments, operation)
            entry: Json = {"uri": uri}
            if isinstance(value, (bytes, bytearray, memoryview)):
                entry["blob"] = base64.b64encode(value).decode()
                entry["mimeType"] = facts.mime_type or "application/octet-stream"
            elif isinstance(value, str):
                entry["text"], entry["mimeType"] = value, facts.mime_type or "text/plain"
            else:
                from pydantic_core import to_json

                entry["text"] = to_json(value, fallback=str).decode()
                entry["mimeType"] = facts.mime_type or "application/json"
            return {**FRESH, "contents": [entry], "_meta": meta}
        return None

    async def get_prompt(
        self, ctx: Context, name: str, arguments: Mapping[str, Any]
    ) -> Json | None:
        """A prompt's messages; None if no plugin has it.

        Raises:
            MCPError: the arguments do not fit, or it failed.
        """
        epoch = self._rt.epoch
        offered = epoch[prompt].get(name)
        if offered is None:
            return None
        meta = call_meta(epoch, offered.facts.plugin)
        operation = self._rt.operation(f"MCP: prompt {name}", epoch=epoch)
        del epoch
        value = await self._value(ctx, offered, arguments, operation)
        given = value if isinstance(value, (list, tuple)) else [value]
        messages = [_message(one) for one in given]
        description = offered.facts.description
        return {**COMPLETE, "description": description, "messages": messages, "_meta": meta}

    async def _value(
        self, ctx: Context, offered: Any, arguments: Mapping[str, Any], operation: Operation
    ) -> Any:
        reporter = Reporter(ctx, connection_of(ctx).state.get(LOG_LEVEL))
        code, text = INTERNAL_ERROR, ""
        with operation:
            try:
                return await run(
                    offered,
                    offered.check(arguments),
                    timeout=self._timeout,
                    reporter=reporter,
                    operation=operation,
                )
            except ToolArgumentError as error:
                code, text = INVALID_PARAMS, str(error)
            except ToolError as error:
                text = str(error)
        raise MCPError(code, text)


def _fitting(offered: Tool, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        return offered.check(arguments)
    except ToolError:
        return None


def _survives(faults: list[str], offered: Tool | None, arguments: Mapping[str, Any]) -> bool:
    """Whether a call is right, although the tool has changed since the session listed it.

    The arguments may be of a caller that knows more; but clients check results by what they saw.
    """
    is_of_result = any(fault.startswith("its result") for fault in faults)
    return offered is not None and not is_of_result and _fitting(offered, arguments) is not None


def _result(offered: Tool, result: Any, meta: Json) -> Json:
    blocks = result if isinstance(result, list) else [result]
    if blocks and all(type(one).__module__.startswith("mcp_types") for one in blocks):
        content = [one.model_dump(by_alias=True, mode="json", exclude_none=True) for one in blocks]
        return {**COMPLETE, "content": content, "isError": False, "_meta": meta}
    value = offered.dump(result)
    content = [] if value is None else [{"type": "text", "text": text_of(value)}]
    answer: Json = {**COMPLETE, "content": content, "isError": False, "_meta": meta}
    if offered.output_schema is not None:
        answer["structuredContent"] = {"result": value} if offered.is_wrapped else value
    return answer


def _failed(text: str, meta: Json, code: str | None = None) -> Json:
    if code is not None:
        meta = {key: {**facts, "code": code} for key, facts in meta.items()}
    content = [{"type": "text", "text": text}]
    return {**COMPLETE, "content": content, "isError": True, "_meta": meta}


def _message(given: Any) -> Json:
    if isinstance(given, str):
        return {"role": "user", "content": {"type": "text", "text": given}}
    if type(given).__module__.startswith("mcp_types"):
        message: Json = given.model_dump(by_alias=True, mode="json", exclude_none=True)
        return message
    if isinstance(given, dict) and "role" in given and "content" in given:
        content = given["content"]
        if isinstance(content, str):
            content = {"type": "text", "text": content}
        return {"role": given["role"], "content": content}
    raise MCPError(
        INTERNAL_ERROR,
        f"a prompt's message is text, or has role and content, and not {type(given).__name__}",
    )
