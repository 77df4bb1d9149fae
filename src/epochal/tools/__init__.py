"""Tools of agents in your own program: offered to a chat API, called, and kept compatible.

::

    with rt.operation("turn") as epoch:
        offer = anthropic(epoch)
        …
        messages.append({"role": "user", "content": [offer.call(block) for block in chosen]})

A turn that holds its offer calls the functions that the model was shown, whatever is changed
meanwhile. `epochal.mcp` serves the same tools to MCP clients.
"""

from epochal.kinds.prompt import Prompt, PromptFacts
from epochal.kinds.resource import Resource, ResourceFacts
from epochal.kinds.tool import Tool, ToolFacts, breaking
from epochal.kinds.tool_call import CallReporter, ToolCall, current_call, running
from epochal.tools.breaking_changes import refuse_breaking
from epochal.tools.chat_apis import ToolOffer, anthropic, openai
from epochal.tools.tool_run import run

__all__ = [
    "CallReporter",
    "Prompt",
    "PromptFacts",
    "Resource",
    "ResourceFacts",
    "Tool",
    "ToolCall",
    "ToolFacts",
    "ToolOffer",
    "anthropic",
    "breaking",
    "current_call",
    "openai",
    "refuse_breaking",
    "run",
    "running",
]
