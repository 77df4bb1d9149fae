"""A plugin's configuration, checked against the class that its manifest names.

``config = "Settings"`` in a manifest names a dataclass, or a model of pydantic, in the plugin's
root module. The host's JSON values are checked against it when the plugin is linked, before `init`,
and `ctx.settings` is the instance. Every fault is reported at once, each with its key.

A dataclass is checked here, without a library: by its annotations, from the types that JSON has
(`bool`, `int`, `float`, `str`, `list`, `dict`, None), unions and `Literal` of these, enumerations
by value, paths, and dataclasses within it.
"""

from __future__ import annotations

import dataclasses
import types
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from epochal.errors import ConfigError, LinkError, format_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import ModuleType

_WRONG: Final = object()


def read_settings(plugin: str, root: ModuleType, name: str, config: Mapping[str, Any]) -> Any:
    """An instance of the class that a manifest names, made of the configuration.

    Args:
        plugin: the plugin's id.
        root: its root module, which has the class.
        name: the class's name.
        config: the host's JSON values.

    Raises:
        ConfigError: a key is missing, unknown, or has a wrong value; the error has every fault.
        LinkError: the module has no such class.
    """
    schema = vars(root).get(name)
    if isinstance(schema, type) and callable(getattr(schema, "model_validate", None)):
        return _of_pydantic(plugin, schema, config)
    if not (isinstance(schema, type) and dataclasses.is_dataclass(schema)):
        raise LinkError(
            f"plugin {plugin!r} says `config = {name!r}` in its manifest, and {name} is not a "
            "dataclass or pydantic model at the top level of its module",
            plugin=plugin,
        )
    faults: list[str] = []
    settings = _instance(schema, config, "", faults)
    if faults:
        raise ConfigError(plugin, faults)
    return settings


def _of_pydantic(plugin: str, schema: Any, config: Mapping[str, Any]) -> Any:
    try:
        return schema.model_validate(dict(config))
    except ValueError as error:
        if not callable(getattr(error, "errors", None)):
            raise
        found: Any = error
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'it'}: {_lower(fault['msg'])}"
            for fault in found.errors()
        ]
        raise ConfigError(plugin, faults) from None


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _instance(schema: Any, values: Mapping[str, Any], at: str, faults: list[str]) -> Any:
    """An instance of a dataclass; adds to `faults` what keeps it from being made."""
    before = len(faults)
    hints = get_type_hints(schema)
    fields = {field.name: field for field in dataclasses.fields(schema) if field.init}
    given: dict[str, Any] = {}
    for key, value in values.items():
        if key in fields:
            given[key] = _converted(hints[key], value, f"{at}{key}", faults)
        else:
            faults.append(f"{at}{key} is unknown; it has: {', '.join(fields) or 'no keys'}")
    for name, field in fields.items():
        default = field.default is dataclasses.MISSING
        if name not in values and default and field.default_factory is dataclasses.MISSING:
            faults.append(f"{at}{name} is missing; expected {_named(hints[name])}")
    if len(faults) > before:
        return None
    try:
        return schema(**given)
    except Exception as error:  # noqa: BLE001  its `__post_init__` is foreign code
        reason = str(error) if isinstance(error, ValueError) else format_error(error)
        faults.append(f"{at.rstrip('.')}: {reason}" if at else reason)
        return None


def _converted(hint: Any, value: Any, at: str, faults: list[str]) -> Any:
    """A JSON value as its annotation has it; adds a fault if it does not fit."""
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _instance(hint, value, f"{at}.", faults)
    items, keys = _items(hint, value)
    if items is not None:
        made = [_converted(inner, one, f"{at}.{key}", faults) for key, inner, one in items]
        if keys is not None:
            return dict(zip(keys, made, strict=True))
        return tuple(made) if (get_origin(hint) or hint) is tuple else made
    fitting = next((one for one in _fitting(hint, value, at) if one is not _WRONG), _WRONG)
    if fitting is _WRONG:
        faults.append(f"{at} is {value!r}; expected {_named(hint)}")
    return fitting


def _items(hint: Any, value: Any) -> tuple[list[tuple[object, Any, Any]] | None, list[str] | None]:
    """The items of a list or dictionary that has the annotation's form, each with its own."""
    made, inner = get_origin(hint) or hint, get_args(hint)
    if made is dict and isinstance(value, dict):
        of = inner[1] if inner else Any
        return [(key, of, one) for key, one in value.items()], list(value)
    if made in (list, tuple) and isinstance(value, list):
        if made is tuple and inner and inner[-1] is not ...:
            if len(inner) != len(value):
                return None, None
            return list(zip(range(len(value)), inner, value, strict=True)), None
        of = inner[0] if inner else Any
        return [(number, of, one) for number, one in enumerate(value)], None
    return None, None


def _fitting(hint: Any, value: Any, at: str) -> Iterator[Any]:
    """The value as each of an annotation's alternatives has it, or `_WRONG`."""
    made = get_origin(hint)
    if hint is Any:
        yield value
    elif made in (Union, types.UnionType):
        for one in get_args(hint):
            faults: list[str] = []
            fitting = _converted(one, value, at, faults)
            yield _WRONG if faults else fitting
    elif made is Literal:
        # `1 == True`: the types count, too.
        fits = any(value == one and type(value) is type(one) for one in get_args(hint))
        yield value if fits else _WRONG
    elif hint is float:
        yield float(value) if type(value) in (int, float) else _WRONG
    elif hint in (None, type(None)):
        yield None if value is None else _WRONG
    elif isinstance(hint, type) and issubclass(hint, Enum):
        yield next((member for member in hint if member.value == value), _WRONG)
    elif isinstance(hint, type) and issubclass(hint, PurePath):
        yield hint(value) if isinstance(value, str) else _WRONG
    else:
        yield value if type(value) is hint else _WRONG


def _named(hint: Any) -> str:
    """An annotation as an author writes it."""
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " or ".join(repr(member.value) for member in hint)
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
