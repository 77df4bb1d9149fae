"""An epoch's tools, resources and prompts as clients see them: plain data, made once an epoch.

It holds nothing of a plugin, so it may outlive its epoch. The order is that of names: a reload that
changes nothing a client can see gives the same list, byte for byte, and keeps the client's cache of
its prompt warm.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from epochal.kinds import prompt, resource, tool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from epochal import Epoch
    from epochal.tools import PromptFacts, ResourceFacts, ToolFacts

Json: TypeAlias = dict[str, Any]

META: Final = "epochal"
"""The key of what this library says in `_meta`."""

COMPLETE: Final[Json] = {"resultType": "complete"}
"""What the newer protocol asks of each result; the older one's results are sent without it."""

FRESH: Final[Json] = {**COMPLETE, "ttlMs": 0, "cacheScope": "private"}
"""Likewise of what a client may keep: not at all, since it may change at any time."""

_HINTS: Final = {
    "read_only": "readOnlyHint",
    "destructive": "destructiveHint",
    "idempotent": "idempotentHint",
}


class Catalogue:
    """What clients see of one epoch.

    Args:
        epoch: is read, and not kept.

    Attributes:
        number: the epoch's number.
        id: the epoch's id.
        tools: full name -> facts, in the order of names; likewise `resources`, `prompts`.
        digests: `tools`, `resources`, `prompts` -> a name for all that clients see of them.
        pages: the results of list requests as they were sent, by method, protocol version and form.
    """

    def __init__(self, epoch: Epoch) -> None:
        self.number: Final = epoch.number
        self.id: Final = epoch.id
        self.tools: Final[Mapping[str, ToolFacts]] = _facts(epoch[tool])
        self.resources: Final[Mapping[str, ResourceFacts]] = _facts(epoch[resource])
        self.prompts: Final[Mapping[str, PromptFacts]] = _facts(epoch[prompt])
        self.digests: Final = {
            "tools": _digest(self.tools.values()),
            "resources": _digest(self.resources.values()),
            "prompts": _digest(self.prompts.values()),
        }
        self.pages: Final[dict[tuple[str, str, str], Json]] = {}

    @property
    def meta(self) -> Json:
        """What a list says of its epoch."""
        return {META: {"epoch": self.number, "id": self.id}}


def catalogue_of(epoch: Epoch) -> Catalogue:
    """The catalogue of an epoch."""
    return epoch.derived(Catalogue, Catalogue)


def call_meta(epoch: Epoch, plugin: str) -> Json:
    """What the result of a call says of the code that made it."""
    generation = epoch.generation(plugin)
    return {
        META: {
            "epoch": epoch.number,
            "id": epoch.id,
            "plugin": plugin,
            "version": generation.version,
            "generation": generation.number,
            "digest": generation.digest,
        }
    }


def tool_entry(facts: ToolFacts, name: str) -> Json:
    """A tool in a list."""
    entry: Json = {"name": name, "description": facts.description}
    if facts.title:
        entry["title"] = facts.title
    entry["inputSchema"] = facts.input_schema
    if facts.output_schema is not None:
        entry["outputSchema"] = facts.output_schema
    if facts.hints:
        entry["annotations"] = {_HINTS[key]: value for key, value in facts.hints.items()}
    return entry


def resource_entry(facts: ResourceFacts) -> Json:
    """A resource, or a template of resources, in its list."""
    entry: Json = {"name": facts.name, "description": facts.description}
    entry["uriTemplate" if facts.arguments else "uri"] = facts.uri
    if facts.title:
        entry["title"] = facts.title
    if facts.mime_type:
        entry["mimeType"] = facts.mime_type
    return entry


def prompt_entry(facts: PromptFacts, name: str) -> Json:
    """A prompt in a list."""
    arguments = [
        {
            "name": argument,
            "required": argument in facts.required,
            **({"description": schema["description"]} if "description" in schema else {}),
        }
        for argument, schema in facts.arguments.items()
    ]
    entry: Json = {"name": name, "description": facts.description, "arguments": arguments}
    if facts.title:
        entry["title"] = facts.title
    return entry


def _facts(exports: Mapping[str, Any]) -> dict[str, Any]:
    return {name: exports[name].facts for name in sorted(exports)}


def _digest(facts: Iterable[Any]) -> str:
    return hashlib.sha256("".join(one.digest for one in facts).encode()).hexdigest()
