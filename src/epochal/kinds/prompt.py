r"""Prompts of agents: messages that a client offers to a person, with blanks to fill in.

::

    @prompt(title="Review a change")
    def review(diff: str, tone: str = "kind") -> str:
        "Review a diff."
        return f"Review this diff in a {tone} tone:\n{diff}"

The function returns text, which becomes a message of the user, or a list of messages: texts, or
mappings such as `{"role": "assistant", "content": "…"}`. Clients give every argument as text.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

from epochal.kinds.contract_kind import Checked, ContractFacts, ContractKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from epochal._core.generation.kind import Export
    from epochal._core.use.lease import Lease, RevocableLease
    from epochal.kinds.marker_types import PromptMarker
    from epochal.kinds.tool_contract import Contract


class PromptFacts(ContractFacts):
    """What there is to say of a prompt, as plain data that holds nothing of its plugin.

    Attributes:
        name: full name, `plugin.name`.
        plugin: id of its plugin.
        title: for people; None if it has none.
        description: its docstring.
        arguments: name -> its JSON Schema.
        required: the names of those that must be given.
    """

    def __init__(self, export: Export, schema: Mapping[str, Any]) -> None:
        super().__init__(export)
        self.arguments: Final[dict[str, Any]] = dict(schema.get("properties", {}))
        self.required: Final = frozenset(schema.get("required", ()))

    def _seen(self) -> list[Any]:
        return [*super()._seen(), self.arguments, sorted(self.required)]


class Prompt(Checked[PromptFacts]):
    """A prompt as an epoch offers it: call it like the function.

    Attributes:
        facts: its name, description and arguments, as plain data.
        function: the function, which carries the lease.
    """

    __slots__ = ()


class PromptKind(ContractKind):
    """The kind of prompts; its one instance is `epochal.kinds.prompt`."""

    __slots__ = ()

    if TYPE_CHECKING:
        __call__: PromptMarker  # type: ignore[assignment]  # overloads

    def options(self, *, title: str | None = None, **unknown: Any) -> Mapping[str, Any]:
        """Check the marker's options.

        Args:
            title: a name for people.
            **unknown: refused.

        Raises:
            TypeError: the kind has no such option.
        """
        if unknown:
            raise TypeError(
                f"prompt does not know the options {sorted(unknown)}; it takes title and name"
            )
        return {"title": title}

    def facts_of(self, export: Export, contract: Contract) -> PromptFacts:
        """What there is to say of a prompt.

        Raises:
            TypeError: it is an async generator.
        """
        if inspect.isasyncgenfunction(export.target):
            raise TypeError("is an async generator; a prompt is returned whole")
        return PromptFacts(export, contract.input_schema)

    def wrap(self, instance: Any, lease: Lease | RevocableLease) -> Prompt:
        """The prompt that an epoch offers."""
        return Prompt(instance, lease)


prompt: Final = PromptKind("agent.prompt", "messages that an agent's client offers to a person")
