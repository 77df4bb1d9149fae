"""Tools of agents: functions that a language model may call.

::

    @tool(read_only=True, timeout=30)
    async def search(query: str, limit: Annotated[int, Field(ge=1, le=50)] = 10) -> list[Page]:
        "Find pages about something."

A function, a coroutine or an async generator. Its docstring is what the model reads, its
annotations become the JSON Schemas of its arguments and its result (`tool_contract`; the extra
`mcp`). A function runs on a thread of its own. An async generator's items are the result, a list;
each is reported to the caller as it comes. `epochal.kinds.tool_call` has progress, logs and
cancellation.

`epoch[tool]["web.search"]` is a `Tool`: called like the function, with `name`, `description` and
the schemas.

A reload may break a caller that has seen the old schema. The change goes through and hosts announce
it, unless the reload is within `with breaking("refuse")`, or its host refuses such changes
(`epochal.tools.refuse_breaking`), which `with breaking("accept")` overrules.
"""

from __future__ import annotations

import inspect
import math
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from epochal.kinds.contract_kind import Checked, ContractFacts, ContractKind
from epochal.kinds.schema_compat import argument_faults, result_faults

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from epochal._core.generation.kind import Export
    from epochal._core.use.lease import Lease, RevocableLease
    from epochal.kinds.marker_types import ToolMarker
    from epochal.kinds.tool_contract import Contract

Breaking: TypeAlias = Literal["accept", "refuse"]

_choice: Final[ContextVar[Breaking | None]] = ContextVar("breaking changes of tools", default=None)

_HINTS: Final = ("read_only", "destructive", "idempotent")


@contextmanager
def breaking(choice: Breaking) -> Iterator[None]:
    """Choose, for the changes in the block, what happens to tools that break their callers.

    Args:
        choice: `"refuse"` rolls the change back; `"accept"` lets it through, also where the host
            refuses such changes.
    """
    if choice not in ("accept", "refuse"):
        raise ValueError(f"{choice!r} is not known; expected 'accept' or 'refuse'")
    token = _choice.set(choice)
    try:
        yield
    finally:
        _choice.reset(token)


def breaking_choice() -> Breaking | None:
    """The choice of the block that the running code, or the change that runs it, began in."""
    return _choice.get()


class ToolFacts(ContractFacts):
    """What there is to say of a tool, as plain data that holds nothing of its plugin.

    Args:
        export: the tool.
        contract: its schemas.

    Attributes:
        name: full name, `plugin.name`.
        plugin: id of its plugin.
        title: for people; None if it has none.
        description: its docstring.
        input_schema: JSON Schema of the arguments.
        output_schema: JSON Schema of the result; None where nothing is promised.
        hints: `read_only`, `destructive`, `idempotent`, as far as the plugin states them.
        timeout: seconds that a call may take; None for the host's limit.
    """

    def __init__(self, export: Export, contract: Contract) -> None:
        super().__init__(export)
        options = export.options
        self.input_schema: Final = contract.input_schema
        self.output_schema: Final = contract.output_schema
        self.hints: Final = {key: options[key] for key in _HINTS if options[key] is not None}
        self.timeout: Final[float | None] = options["timeout"]

    def _seen(self) -> list[Any]:
        return [*super()._seen(), self.hints, self.input_schema, self.output_schema]

    def faults_after(self, new: ToolFacts) -> list[str]:
        """In words, why a caller that saw this version may be wrong about a new one."""
        arguments = argument_faults(self.input_schema, new.input_schema)
        results = result_faults(self.output_schema, new.output_schema)
        faults = [*(f"argument {t}" for t in arguments), *(f"its result: {t}" for t in results)]
        return list(dict.fromkeys(faults))


class Tool(Checked[ToolFacts]):
    """A tool as an epoch offers it: call it like the function. It keeps its generation in use.

    Attributes:
        facts: its name, description and schemas, as plain data.
        function: the function, which carries the lease.
    """

    __slots__ = ()

    @property
    def description(self) -> str:
        """The docstring."""
        return self.facts.description

    @property
    def input_schema(self) -> dict[str, Any]:
        """JSON Schema of the arguments."""
        return self.facts.input_schema

    @property
    def output_schema(self) -> dict[str, Any] | None:
        """JSON Schema of the result; None where nothing is promised."""
        return self.facts.output_schema

    @property
    def is_wrapped(self) -> bool:
        """Whether `output_schema` has the result under the key `result`."""
        return self._contract.is_wrapped

    def dump(self, result: Any) -> Any:
        """A result of the function as JSON values.

        Raises:
            ToolFailedError: it is not what the function declares.
        """
        return self._contract.dump(self.name, result)


class ToolKind(ContractKind):
    """The kind of tools; its one instance is `epochal.kinds.tool`."""

    __slots__ = ()

    if TYPE_CHECKING:
        __call__: ToolMarker  # type: ignore[assignment]  # overloads

    def options(
        self,
        *,
        title: str | None = None,
        read_only: bool | None = None,
        destructive: bool | None = None,
        idempotent: bool | None = None,
        timeout: float | None = None,
        **unknown: Any,
    ) -> Mapping[str, Any]:
        """Check the marker's options.

        Args:
            title: a name for people.
            read_only: it changes nothing.
            destructive: it may remove or overwrite something.
            idempotent: calling it again with the same arguments changes nothing more.
            timeout: seconds that a call may take; None for the host's limit.
            **unknown: refused.

        Raises:
            TypeError: the kind has no such option, or it is of another type.
            ValueError: the timeout is not a time.
        """
        if unknown:
            raise TypeError(
                f"tool does not know the options {sorted(unknown)}; it takes title, read_only, "
                "destructive, idempotent, timeout and name"
            )
        if title is not None and not isinstance(title, str):
            raise TypeError(f"title is text, not {title!r}")
        hints = dict(zip(_HINTS, (read_only, destructive, idempotent), strict=True))
        for key, value in hints.items():
            if value is not None and not isinstance(value, bool):
                raise TypeError(f"{key} is True, False or None, not {value!r}")
        if timeout is not None:
            if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
                raise TypeError(f"timeout is a number of seconds, not {timeout!r}")
            if not (timeout > 0 and math.isfinite(timeout)):
                raise ValueError(f"timeout is a positive number of seconds, not {timeout!r}")
        return {"title": title, "timeout": timeout, **hints}

    def facts_of(self, export: Export, contract: Contract) -> ToolFacts:
        """What there is to say of a tool.

        Raises:
            ValueError: it has no docstring.
        """
        if not (inspect.getdoc(export.target) or "").strip():
            raise ValueError("has no docstring, and a model reads nothing else: say what it does")
        return ToolFacts(export, contract)

    def compare(self, old: Export, new: Export) -> None:
        """Refuse, if the reload chose so, a version that breaks callers of the old one.

        Raises:
            ValueError: it does; the message has each difference.
        """
        if _choice.get() == "refuse" and (faults := self.faults_between(old, new)):
            raise ValueError(refusal_of(faults))

    def faults_between(self, old: Export, new: Export) -> list[str]:
        """In words, why a caller that saw an old version may be wrong about a new one."""
        before: ToolFacts = self.facts(old)
        return before.faults_after(self.facts(new))

    def check_removed(self, old: Export) -> str | None:
        """Refuse, if the reload chose so, a version that leaves a tool out.

        Raises:
            ValueError: it does.
        """
        if _choice.get() == "refuse":
            raise ValueError(refusal_of(["the tool is gone"]))
        return None

    def wrap(self, instance: Any, lease: Lease | RevocableLease) -> Tool:
        """The tool that an epoch offers."""
        return Tool(instance, lease)


def refusal_of(faults: list[str]) -> str:
    """The words of a refusal of a breaking change."""
    return (
        f"a caller that saw the old version would be wrong: {'; '.join(faults)}. "
        "Keep the old arguments valid, or accept the change with `breaking('accept')`"
    )


tool: Final = ToolKind("agent.tool", "a function that a language model may call")
