"""The contract of a tool: the JSON Schemas of its arguments and its result, and their checks.

The annotations of the function are the contract; pydantic (the extra `mcp`) reads them: models,
dataclasses, typed dictionaries, enumerations, unions, `Annotated` with constraints and
descriptions, defaults. The schemas are plain data. The checks refer to the plugin's classes, so a
contract belongs to one generation, which drops it as it goes (`ToolKind.close`); pydantic's own
caches hold no class of a plugin for longer than the plugin does.

Arguments are checked by the rules of JSON, not of Python: `"2026-01-01"` is a date, a list is a
tuple or a set.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin, get_type_hints

from epochal.errors import ToolArgumentError, ToolFailedError, format_error, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import ModuleType

    Schema = dict[str, Any]

WRAPPED: Final = "result"
"""The key of a result that is no object, in the object that a protocol asks for."""

_STREAMS: Final = (AsyncIterator, AsyncGenerator, AsyncIterable)
_MAX_FAULTS: Final = 8


class Contract:
    """What a tool takes and returns.

    Args:
        function: the plugin's own function.

    Raises:
        TypeError: its signature cannot be offered; the message names the argument.

    Attributes:
        input_schema: JSON Schema of the arguments, an object.
        output_schema: JSON Schema of the result, an object; None where nothing is promised.
        is_wrapped: whether the result stands under `result` in that object.
    """

    __slots__ = ("_arguments", "_dump", "_result", "input_schema", "is_wrapped", "output_schema")

    def __init__(self, function: Callable[..., Any]) -> None:
        pydantic = load_pydantic()
        check_parameters(function)
        try:
            adapter = pydantic.TypeAdapter(function)
            self.input_schema: Final[Schema] = without_titles(adapter.json_schema())
        except Exception as error:
            name_the_argument(pydantic, function)
            raise TypeError(
                f"no JSON Schema can be made of its arguments: {_told(error)}"
            ) from error
        self._arguments: Any = _validator(adapter.core_schema)
        self._result: Any = None
        self._dump: Any = None
        self.output_schema: Schema | None = None
        self.is_wrapped = False
        self._read_result(pydantic, function)

    def _read_result(self, pydantic: ModuleType, function: Callable[..., Any]) -> None:
        hint = get_type_hints(function, include_extras=True).get("return", inspect.Parameter.empty)
        if inspect.isasyncgenfunction(function) and get_origin(hint) in _STREAMS:
            hint = list[get_args(hint)[0]]  # type: ignore[misc]
        if hint in (inspect.Parameter.empty, type(None), None, Any) or _is_content(hint):
            return
        try:
            self._result = pydantic.TypeAdapter(hint)
            schema = self._result.json_schema(mode="serialization")
        except Exception as error:
            raise TypeError(f"no JSON Schema can be made of its result: {_told(error)}") from error
        self._dump = self._result.dump_python
        self.is_wrapped = schema.get("type") != "object"
        if self.is_wrapped:
            definitions = schema.pop("$defs", None)
            schema = {"type": "object", "properties": {WRAPPED: schema}, "required": [WRAPPED]}
            if definitions:
                schema["$defs"] = definitions
        self.output_schema = without_titles(schema)

    def check(self, name: str, arguments: Mapping[str, Any] | str | bytes) -> dict[str, Any]:
        """The arguments of a call, as the function takes them.

        Args:
            name: of the tool, for the error.
            arguments: a JSON object, parsed or not.

        Raises:
            ToolArgumentError: they do not fit; the message names each argument at fault.
        """
        from pydantic_core import ValidationError, to_json

        is_text = isinstance(arguments, (str, bytes))
        given: Any = (arguments or b"{}") if is_text else to_json(arguments)
        # Raised outside of the handlers: an error's context keeps the frames of a plugin's checks.
        try:
            return dict(self._arguments.validate_json(given)[1])
        except ValidationError as error:
            refusal: Exception = ToolArgumentError(name, list(_faults(error)), self.input_schema)
        except Exception as error:  # noqa: BLE001  a plugin's own check may raise anything
            text = f"a check of the arguments of {name} failed: {format_error(error)}"
            refusal = ToolFailedError(text, tool=name)
        raise refusal

    def dump(self, name: str, value: Any) -> Any:
        """A result as JSON values, without the wrapping.

        Raises:
            ToolFailedError: the plugin broke its own contract.
        """
        from pydantic_core import to_jsonable_python

        try:
            if self._result is None:
                return to_jsonable_python(value, fallback=str)
            return self._dump(self._result.validate_python(value), mode="json")
        except Exception as error:  # noqa: BLE001  a plugin's own serializer may raise anything
            text = f"{name} returned something else than it declares: {_told(error)}"
        raise ToolFailedError(text, tool=name)

    def close(self) -> None:
        """Drop the checks, which refer to the plugin's classes."""
        self._arguments = self._result = self._dump = None


def load_pydantic() -> ModuleType:
    """The library.

    Raises:
        TypeError: it is not installed.
    """
    try:
        import pydantic
    except ImportError:
        raise TypeError(
            "tools need the extra 'mcp', for their JSON Schemas: pip install 'epochal[mcp]'"
        ) from None
    return pydantic


def check_parameters(function: Callable[..., Any]) -> None:
    """Refuse parameters that a JSON object cannot give.

    Raises:
        TypeError: it names the first.
    """
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise TypeError(f"has no signature that can be read: {error}") from None
    for parameter in parameters.values():
        name, kind = parameter.name, parameter.kind
        if kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            raise TypeError(f"argument {name!r} has no name for callers, who give them by name")
        if kind is parameter.VAR_KEYWORD:
            raise TypeError(f"argument {name!r} takes any name, so no caller can know what to give")
        if parameter.annotation is parameter.empty:
            raise TypeError(f"argument {name!r} needs an annotation: its JSON Schema is made of it")


def name_the_argument(pydantic: ModuleType, function: Callable[..., Any]) -> None:
    """Raise for the first argument whose annotation has no JSON Schema, if there is one.

    Raises:
        TypeError: it names the argument.
    """
    for name, parameter in inspect.signature(function).parameters.items():
        hint = parameter.annotation
        try:
            if isinstance(hint, str):
                hint = get_type_hints(function, include_extras=True)[name]
            pydantic.TypeAdapter(hint).json_schema()
        except Exception as error:
            raise TypeError(
                f"argument {name!r}: no JSON Schema can be made of its annotation: {_told(error)}"
            ) from error


def _validator(schema: Any) -> Any:
    """A validator of the arguments alone, which does not call the function."""
    from pydantic_core import SchemaValidator

    def arguments_in(schema: Any) -> Any:
        if schema["type"] == "definitions":  # of classes that occur twice
            return {**schema, "schema": arguments_in(schema["schema"])}
        return schema["arguments_schema"]

    return SchemaValidator(arguments_in(schema))


def _is_content(hint: Any) -> bool:
    """Whether an annotation is the MCP library's own content, which is passed on as it is."""
    inner = [*get_args(hint), hint]
    return any(getattr(one, "__module__", "").startswith("mcp_types") for one in inner)


def _told(error: BaseException) -> str:
    if type(error).__module__.partition(".")[0] in ("pydantic", "pydantic_core"):
        return str(error).partition("\n\nFor further information")[0].strip()
    return reason_of(error) if isinstance(error, (TypeError, ValueError)) else format_error(error)


def _faults(error: Any) -> Iterator[str]:
    faults = error.errors(include_url=False, include_context=False, include_input=True)
    for fault in faults[:_MAX_FAULTS]:
        place = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in fault["loc"])
        name, what = place.removeprefix("."), fault["msg"]
        if fault["type"] == "missing_argument":
            yield f"{name!r} is missing"
        elif fault["type"] == "unexpected_keyword_argument":
            yield f"{name!r} is not an argument of this tool"
        elif not name:
            yield what[:1].lower() + what[1:]
        else:
            shown = repr(fault["input"])
            shown = shown if len(shown) < 80 else f"{shown[:77]}..."
            yield f"{name!r}: {what[:1].lower()}{what[1:]}, not {shown}"
    if len(faults) > _MAX_FAULTS:
        yield f"and {len(faults) - _MAX_FAULTS} more"


_OF_SCHEMAS: Final = ("properties", "$defs", "patternProperties", "dependentSchemas")
_LISTS: Final = ("anyOf", "allOf", "oneOf", "prefixItems")
_SINGLE: Final = ("items", "additionalProperties", "not", "contains", "propertyNames")


def without_titles(schema: Schema) -> Schema:
    """A schema without the titles that pydantic derives from names: a model pays for each word."""
    kept = {key: value for key, value in schema.items() if key != "title"}
    for key in _OF_SCHEMAS:
        if key in kept:
            kept[key] = {name: without_titles(inner) for name, inner in kept[key].items()}
    for key in _LISTS:
        if key in kept:
            kept[key] = [without_titles(inner) for inner in kept[key]]
    for key in _SINGLE:
        if isinstance(kept.get(key), dict):
            kept[key] = without_titles(kept[key])
    return kept
