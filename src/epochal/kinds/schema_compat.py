"""Whether a caller that saw an old JSON Schema may go on under a new one.

Arguments: every object that the old schema allows must be allowed by the new one. Results: every
object that the new schema promises must be one that the old one allows. Both are the same question,
`faults(narrow, wide)`: is there a value that `narrow` allows and `wide` does not?

The answer errs on one side: a pair that is not understood counts as a fault, unless it is equal. It
covers what pydantic writes for annotations. Titles, descriptions, defaults and examples mean
nothing to a caller's values.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    Schema = dict[str, Any]

_WORDS: Final = frozenset(
    {"title", "description", "default", "examples", "$defs", "$schema", "deprecated", "readOnly"}
)
_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_EXACT: Final = (
    *("pattern", "format", "multipleOf", "uniqueItems", "prefixItems", "contentEncoding"),
    *("not", "oneOf", "allOf", "patternProperties", "propertyNames", "dependentRequired"),
)
_DEEPEST: Final = 40


def argument_faults(old: Schema, new: Schema) -> list[str]:
    """In words, why a caller that saw the old schema of arguments may be refused by the new one."""
    return list(_Comparison(old, new).faults(old, new, "", 0))


def result_faults(old: Schema | None, new: Schema | None) -> list[str]:
    """In words, why a caller that saw the old schema of results may be given something else."""
    if old is None:
        return []
    if new is None:
        return ["nothing is promised any more"]
    return list(_Comparison(new, old).faults(new, old, "", 0))


class _Comparison:
    """A comparison of two documents, whose references lead into their own definitions."""

    def __init__(self, narrow: Schema, wide: Schema) -> None:
        self._narrow: Final = narrow.get("$defs", {})
        self._wide: Final = wide.get("$defs", {})
        self._entered: Final[set[tuple[str, str]]] = set()  # pairs that are being compared

    def faults(self, narrow: Any, wide: Any, place: str, depth: int) -> Iterator[str]:
        """Yield what `narrow` allows and `wide` does not."""
        if wide is True or wide == {} or narrow is False:
            return
        if depth > _DEEPEST or not isinstance(narrow, dict) or not isinstance(wide, dict):
            if narrow != wide:
                yield f"{_named(place)} is another"
            return
        pair = (str(narrow.get("$ref", "")), str(wide.get("$ref", "")))
        if not all(pair):
            yield from self._followed_faults(narrow, wide, place, depth)
        elif pair not in self._entered:  # else a recursive type, which is being compared
            self._entered.add(pair)
            try:
                found = list(self._followed_faults(narrow, wide, place, depth))
            finally:
                self._entered.discard(pair)
            yield from found

    def _followed_faults(
        self, narrow: Schema, wide: Schema, place: str, depth: int
    ) -> Iterator[str]:
        narrow, wide = _followed(narrow, self._narrow), _followed(wide, self._wide)
        if "anyOf" in narrow:
            for one in narrow["anyOf"]:
                yield from self.faults(one, wide, place, depth + 1)
        elif "anyOf" in wide:
            if all(list(self.faults(narrow, one, place, depth + 1)) for one in wide["anyOf"]):
                yield f"{_named(place)} may not be {_type_of(narrow)} any more"
        else:
            yield from self._plain_faults(narrow, wide, place, depth)

    def _plain_faults(self, narrow: Schema, wide: Schema, place: str, depth: int) -> Iterator[str]:
        types, allowed = _types(narrow), _types(wide)
        if allowed and not (types and types <= allowed):
            yield f"{_named(place)} is {_type_of(wide)}, not {_type_of(narrow)}"
            return
        yield from _value_faults(narrow, wide, place)
        yield from _bound_faults(narrow, wide, place)
        if "items" in wide:
            yield from self.faults(
                narrow.get("items", True), wide["items"], f"{place}[]", depth + 1
            )
        if "properties" in wide or "required" in wide or "additionalProperties" in wide:
            yield from self._object_faults(narrow, wide, place, depth)

    def _object_faults(self, narrow: Schema, wide: Schema, place: str, depth: int) -> Iterator[str]:
        given, known = narrow.get("properties", {}), wide.get("properties", {})
        for name in sorted(set(wide.get("required", ())) - set(narrow.get("required", ()))):
            yield f"{_named(_within(place, name))} is required"
        others, rest = (
            narrow.get("additionalProperties", True),
            wide.get("additionalProperties", True),
        )
        for name, schema in given.items():
            inner = _within(place, name)
            if name in known:
                yield from self.faults(schema, known[name], inner, depth + 1)
            elif rest is False:
                yield f"{_named(inner)} is gone"
            else:
                yield from self.faults(schema, rest, inner, depth + 1)
        if others is not False and rest is not True:
            yield from self.faults(others, rest, _within(place, "*"), depth + 1)


def _followed(schema: Schema, definitions: Schema) -> Schema:
    for _ in range(_DEEPEST):
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            break
        found = definitions.get(reference.removeprefix("#/$defs/"), {})
        schema = {**found, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


def _types(schema: Schema) -> set[str]:
    given = schema.get("type")
    types = set(given) if isinstance(given, list) else {given} if given else set[str]()
    if not types:
        values = (
            schema["enum"] if "enum" in schema else [schema["const"]] if "const" in schema else ()
        )
        types = {_JSON_TYPES.get(type(value), "object") for value in values}
    return types | {"integer"} if "number" in types else types


_JSON_TYPES: Final[dict[type, str]] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
    list: "array",
    dict: "object",
}


def _type_of(schema: Schema) -> str:
    types = sorted(_types(schema) - ({"integer"} if "number" in _types(schema) else set()))
    return " or ".join(types) or "of any type"


def _values(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    values: list[Any] | None = schema.get("enum")
    return values


def _value_faults(narrow: Schema, wide: Schema, place: str) -> Iterator[str]:
    allowed = _values(wide)
    if allowed is None:
        return
    given = _values(narrow)
    if given is None:
        yield f"{_named(place)} must be one of {json.dumps(allowed)}"
        return
    gone = [value for value in given if not any(_is_same(value, one) for one in allowed)]
    if gone:
        yield f"{_named(place)} may not be {', '.join(map(json.dumps, gone))} any more"


def _is_same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and bool(left == right)


def _bound_faults(narrow: Schema, wide: Schema, place: str) -> Iterator[str]:
    for key in _LOWER:
        if key in wide and not (key in narrow and narrow[key] >= wide[key]):
            yield f"{_named(place)} has {key} {wide[key]}"
    for key in _UPPER:
        if key in wide and not (key in narrow and narrow[key] <= wide[key]):
            yield f"{_named(place)} has {key} {wide[key]}"
    for key in _EXACT:
        if key in wide and narrow.get(key) != wide[key]:
            yield f"{_named(place)} has another {key}"
    unknown = (set(wide) - _UNDERSTOOD) - {k for k in wide if narrow.get(k) == wide[k]}
    for key in sorted(unknown):
        yield f"{_named(place)} has {key}, which is not understood"


_UNDERSTOOD: Final = frozenset(
    {
        *_WORDS,
        *_LOWER,
        *_UPPER,
        *_EXACT,
        *("type", "enum", "const", "items", "properties", "required", "additionalProperties"),
        *("anyOf", "$ref", "discriminator"),
    }
)


def _within(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _named(place: str) -> str:
    return repr(place) if place else "it"
