"""The tools of an epoch in the forms of chat APIs, and one function to call what a model chose.

::

    offer = openai(rt.epoch)
    answer = client.chat.completions.create(model=…, messages=messages, tools=offer)
    for call in answer.choices[0].message.tool_calls or ():
        messages.append(offer.call(call))

An offer is a list, to be passed on as it is. It keeps the plugins of its tools in use for as long
as it lives, and calls the very functions whose schemas the model saw: drop it at the end of the
turn. An answer to the model never raises for the model's mistakes: wrong arguments and a failing
tool are answers, too.

The APIs allow no dot in a name: `web.search` is `web-search` there.
"""

from __future__ import annotations

import asyncio
import json
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Literal

from epochal.errors import ToolError
from epochal.kinds.tool import tool
from epochal.tools.tool_run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from epochal import Epoch, Operation
    from epochal.kinds.tool import Tool, ToolFacts

    Json = dict[str, Any]


class ToolOffer(list["Json"]):
    """The tools of one epoch as a chat API takes them; made by `openai` and `anthropic`.

    Args:
        tools: by the name that the API has for them.
        schema: makes an entry of the list.
        read: reads the model's choice: its id, the name, the arguments.
        answer: makes the answer of an id, a text, and whether it is an error.
        timeout: seconds that a call may take, where the tool has no limit of its own.
    """

    def __init__(
        self,
        tools: Mapping[str, Tool],
        schema: Callable[[str, ToolFacts], Json],
        read: Callable[[Any], tuple[str, str, Any]],
        answer: Callable[[str, str, bool], Json],
        timeout: float | None,
    ) -> None:
        super().__init__(schema(name, one.facts) for name, one in tools.items())
        self._tools: Final = dict(tools)
        self._read: Final = read
        self._answer: Final = answer
        self._timeout: Final = timeout

    def call(self, chosen: Any) -> Json:
        """Call what a model chose, and block until it ends; `acall` for event loops.

        Args:
            chosen: the API's own object, or its JSON as a dictionary.

        Returns:
            The message that goes back to the model, an error included.
        """
        return asyncio.run(self.acall(chosen))

    async def acall(self, chosen: Any) -> Json:
        """Call what a model chose; see `call`."""
        call_id, name, arguments = self._read(chosen)
        offered = self._tools.get(name)
        if offered is None:
            near = get_close_matches(name, self._tools) or sorted(self._tools)
            there = ", ".join(near) or "there is none"
            return self._answer(call_id, f"there is no tool {name!r}; expected: {there}", True)
        limit = offered.facts.timeout if offered.facts.timeout is not None else self._timeout
        try:
            result = await run(offered, offered.check(arguments), timeout=limit)
            return self._answer(call_id, text_of(offered.dump(result)), False)
        except ToolError as error:
            return self._answer(call_id, str(error), True)


def openai(
    epoch: Epoch | Operation,
    *,
    only: Collection[str] | None = None,
    api: Literal["chat", "responses"] = "chat",
    timeout: float | None = None,
) -> ToolOffer:
    """The tools of an epoch as OpenAI's APIs take them, and many that speak like them.

    Args:
        epoch: has the tools.
        only: the full names of the tools to offer; None for all.
        api: the chat completions, or the responses API.
        timeout: seconds that a call may take, where the tool has no limit of its own.

    Raises:
        ValueError: there is no such API, or no such tool.
    """
    if api == "chat":
        return ToolOffer(_tools(epoch, only), _chat_schema, _read_chat, _chat_answer, timeout)
    if api == "responses":
        return ToolOffer(
            _tools(epoch, only), _flat_schema, _read_responses, _responses_answer, timeout
        )
    raise ValueError(f"api={api!r} is not known; expected 'chat' or 'responses'")


def anthropic(
    epoch: Epoch | Operation,
    *,
    only: Collection[str] | None = None,
    timeout: float | None = None,
) -> ToolOffer:
    """The tools of an epoch as Anthropic's messages API takes them.

    Args:
        epoch: has the tools.
        only: the full names of the tools to offer; None for all.
        timeout: seconds that a call may take, where the tool has no limit of its own.

    Raises:
        ValueError: there is no such tool.
    """
    return ToolOffer(
        _tools(epoch, only), _anthropic_schema, _read_anthropic, _anthropic_answer, timeout
    )


def text_of(value: Any) -> str:
    """A result in JSON values as a model reads it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _tools(epoch: Epoch | Operation, only: Collection[str] | None) -> dict[str, Tool]:
    there = epoch[tool]
    names = sorted(there if only is None else only)
    if missing := [name for name in names if name not in there]:
        raise ValueError(f"there is no tool {missing[0]!r}; there is {', '.join(sorted(there))}")
    return {name.replace(".", "-"): there[name] for name in names}


def _field(value: Any, name: str) -> Any:
    return value[name] if isinstance(value, dict) else getattr(value, name)


def _chat_schema(name: str, facts: ToolFacts) -> Json:
    function = {
        "name": name,
        "description": facts.description,
        "parameters": facts.input_schema,
    }
    return {"type": "function", "function": function}


def _read_chat(chosen: Any) -> tuple[str, str, Any]:
    function = _field(chosen, "function")
    return _field(chosen, "id"), _field(function, "name"), _field(function, "arguments")


def _chat_answer(call_id: str, text: str, is_error: bool) -> Json:
    content = f"Error: {text}" if is_error else text
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def _flat_schema(name: str, facts: ToolFacts) -> Json:
    return {"type": "function", **_chat_schema(name, facts)["function"]}


def _read_responses(chosen: Any) -> tuple[str, str, Any]:
    return _field(chosen, "call_id"), _field(chosen, "name"), _field(chosen, "arguments")


def _responses_answer(call_id: str, text: str, is_error: bool) -> Json:
    output = f"Error: {text}" if is_error else text
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def _anthropic_schema(name: str, facts: ToolFacts) -> Json:
    return {"name": name, "description": facts.description, "input_schema": facts.input_schema}


def _read_anthropic(chosen: Any) -> tuple[str, str, Any]:
    return _field(chosen, "id"), _field(chosen, "name"), _field(chosen, "input")


def _anthropic_answer(call_id: str, text: str, is_error: bool) -> Json:
    answer: Json = {"type": "tool_result", "tool_use_id": call_id, "content": text}
    return {**answer, "is_error": True} if is_error else answer
