"""Resources of agents: text or data that a client reads by its address.

::

    @resource(uri="notes://{topic}", mime_type="text/markdown")
    def note(topic: str) -> str:
        "The note about a topic."

The names in braces are the function's arguments; an address without any is one resource, with some
a template. The function returns text, bytes, or a value that is sent as JSON.
"""

from __future__ import annotations

import inspect
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from epochal.kinds.contract_kind import Checked, ContractFacts, ContractKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from epochal._core.generation.kind import Export
    from epochal._core.use.lease import Lease, RevocableLease
    from epochal.kinds.marker_types import ResourceMarker
    from epochal.kinds.tool_contract import Contract

_NAME: Final = re.compile(r"\{([A-Za-z_]\w*)\}")
_ADDRESS: Final = re.compile(r"[a-z][a-z0-9+.-]*:[^\s{}]*", re.IGNORECASE)


class ResourceFacts(ContractFacts):
    """What there is to say of a resource, as plain data that holds nothing of its plugin.

    Attributes:
        name: full name, `plugin.name`.
        plugin: id of its plugin.
        title: for people; None if it has none.
        description: its docstring.
        uri: its address, with the names of arguments in braces.
        arguments: these names.
        mime_type: of what it returns; None where the value tells.
    """

    def __init__(self, export: Export, names: Sequence[str]) -> None:
        super().__init__(export)
        self.uri: Final[str] = export.options["uri"]
        self.arguments: Final = tuple(names)
        self.mime_type: Final[str | None] = export.options["mime_type"]

    def _seen(self) -> list[Any]:
        return [*super()._seen(), self.uri, self.mime_type]

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        pieces = _NAME.split(self.uri)  # text, name, text, name, …, text
        pattern = "".join(
            f"(?P<{piece}>[^/?#]+)" if number % 2 else re.escape(piece)
            for number, piece in enumerate(pieces)
        )
        return re.compile(pattern)

    def match(self, uri: str) -> dict[str, str] | None:
        """The arguments that an address gives; None if it is another's."""
        found = self._pattern.fullmatch(uri)
        if found is None:
            return None
        return {name: unquote(value) for name, value in found.groupdict().items()}


class Resource(Checked[ResourceFacts]):
    """A resource as an epoch offers it: call it like the function.

    Attributes:
        facts: its name, description and address, as plain data.
        function: the function, which carries the lease.
    """

    __slots__ = ()


class ResourceKind(ContractKind):
    """The kind of resources; its one instance is `epochal.kinds.resource`."""

    __slots__ = ()

    if TYPE_CHECKING:
        __call__: ResourceMarker  # type: ignore[assignment]  # overloads

    def options(
        self,
        *,
        uri: str = "",
        title: str | None = None,
        mime_type: str | None = None,
        **unknown: Any,
    ) -> Mapping[str, Any]:
        """Check the marker's options.

        Args:
            uri: the address, such as `notes://{topic}`; names in braces are arguments.
            title: a name for people.
            mime_type: of what the function returns.
            **unknown: refused.

        Raises:
            TypeError: the kind has no such option.
            ValueError: there is no address, or it is none.
        """
        if unknown:
            raise TypeError(
                f"resource does not know the options {sorted(unknown)}; it takes uri, title, "
                "mime_type and name"
            )
        if not (isinstance(uri, str) and _ADDRESS.fullmatch(_NAME.sub("x", uri))):
            raise ValueError(f"uri={uri!r} is not an address such as 'notes://{{topic}}'")
        return {"uri": uri, "title": title, "mime_type": mime_type}

    def facts_of(self, export: Export, contract: Contract) -> ResourceFacts:
        """What there is to say of a resource.

        Raises:
            ValueError: its address does not name the function's arguments.
        """
        names = _NAME.findall(export.options["uri"])
        known = set(contract.input_schema.get("properties", ()))
        needed = set(contract.input_schema.get("required", ()))
        if not needed <= set(names) <= known or len(set(names)) != len(names):
            raise ValueError(
                f"the address {export.options['uri']!r} names {sorted(names)}, and the function "
                f"takes {sorted(known)}: they must be the same"
            )
        if inspect.isasyncgenfunction(export.target):
            raise TypeError("is an async generator; a resource is returned whole")
        return ResourceFacts(export, names)

    def wrap(self, instance: Any, lease: Lease | RevocableLease) -> Resource:
        """The resource that an epoch offers."""
        return Resource(instance, lease)


resource: Final = ResourceKind("agent.resource", "text or data that an agent's client reads")
