"""What tools, resources and prompts have in common: a function with a contract, called by name.

Such a kind reads the contract (`tool_contract`) to validate an export, and again after the
generation's `init`, to keep until the generation goes: it refers to the plugin's classes. A small
contract takes 0.4 ms to read. The epoch offers a `Checked`:
the function, which carries the lease, with the checks of its arguments and its result.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Generic

from epochal._core.generation.kind import Export, Kind
from epochal._core.use.lease import carry
from epochal.kinds.tool_contract import Contract

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import TypeVar

    from epochal._core.use.lease import Lease, RevocableLease

    Facts = TypeVar("Facts", bound="ContractFacts", default=Any)
else:
    from typing import TypeVar

    Facts = TypeVar("Facts")


class ContractFacts:
    """What there is to say of an export, as plain data that holds nothing of its plugin.

    Attributes:
        name: full name, `plugin.name`.
        plugin: id of its plugin.
        title: for people; None if it has none.
        description: its docstring.
    """

    def __init__(self, export: Export) -> None:
        self.name: Final = export.name
        self.plugin: Final = export.plugin
        self.title: Final[str | None] = export.options["title"]
        self.description: Final = inspect.getdoc(export.target) or ""

    def _seen(self) -> list[Any]:
        """All that a client can see, as JSON values; each kind adds its own."""
        return [self.name, self.title, self.description]

    @cached_property
    def digest(self) -> str:
        """Names all that a client can see; the body of the function is no part of it."""
        text = json.dumps(self._seen(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def __repr__(self) -> str:
        kind = type(self).__name__.removesuffix("Facts").lower()
        return f"<facts of {kind} {self.name}>"


class OpenedContract:
    """An export of one generation, with its contract."""

    __slots__ = ("contract", "facts", "target")

    def __init__(self, kind: ContractKind, export: Export) -> None:
        self.target: Any = export.target
        self.contract: Final = Contract(export.target)
        self.facts: Final[Any] = kind.facts_of(export, self.contract)

    def close(self) -> None:
        """Drop what refers to the plugin."""
        self.contract.close()
        self.target = None


class Checked(Generic[Facts]):
    """A function as an epoch offers it: call it like the function. It keeps its generation in use.

    Attributes:
        facts: its name, description and schemas, as plain data.
        function: the function, which carries the lease.
    """

    __slots__ = ("__weakref__", "_contract", "facts", "function")

    facts: Facts
    function: Callable[..., Any]

    def __init__(self, opened: OpenedContract, lease: Lease | RevocableLease) -> None:
        self.function = carry(opened.target, lease)
        self._contract: Final = opened.contract
        self.facts = opened.facts

    def __call__(self, *args: Any, **kw: Any) -> Any:
        """Call the function as Python does, without a check."""
        return self.function(*args, **kw)

    @property
    def name(self) -> str:
        """The full name, `plugin.name`."""
        return self.facts.name

    def check(self, arguments: Mapping[str, Any] | str | bytes) -> dict[str, Any]:
        """The arguments of a call as the function takes them, from a JSON object.

        Raises:
            ToolArgumentError: they do not fit; it names each argument at fault.
        """
        return self._contract.check(self.name, arguments)

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} {self.name}>"


class ContractKind(Kind[Any]):
    """A kind of functions that are called by name, with arguments that are checked."""

    __slots__ = ()
    is_local = False  # Every process opens the same contract.

    def facts_of(self, export: Export, contract: Contract) -> ContractFacts:
        """What there is to say of an export, as plain data that holds nothing of its plugin.

        Raises:
            TypeError, ValueError: it cannot be one.
        """
        raise NotImplementedError

    def facts(self, export: Export) -> Any:
        """What there is to say of an export.

        Raises:
            TypeError, ValueError: it cannot be one; the message names the argument.
        """
        target = export.target
        if inspect.isclass(target):
            raise TypeError("is a class; expected a function, or a method of an object")
        if inspect.isgeneratorfunction(target):
            raise TypeError("is a generator; write `async def`, or return a list")
        contract = Contract(target)
        try:
            return self.facts_of(export, contract)
        finally:
            contract.close()

    def validate(self, export: Export) -> None:
        """Require a function with a contract.

        Raises:
            TypeError, ValueError: it has none; the message names the argument.
        """
        super().validate(export)
        self.facts(export)

    def open(self, export: Export) -> OpenedContract:
        """Read the contract of one generation's export."""
        return OpenedContract(self, export)

    def close(self, instance: Any) -> None:
        """Drop what refers to the plugin's classes."""
        instance.close()
