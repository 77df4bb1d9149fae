"""What a SQL text names: the functions that it calls, the parameters that it has.

The problem: a plan, and a stream that has not begun, keep *every* function of their planning
context alive (seen: one that the query never called), so a query of ten hours would hold back every
plugin. A query is therefore planned in a context that has the functions its SQL calls and no
others. Which these are must be known before planning.

The idea: a function call is a name followed by a parenthesis, so no parser is needed, only a scan
that knows what is not SQL's own text: comments, strings, quoted names. Plugin functions have at
least two parts in their names (`geo.distance`), which no keyword and no built-in has, so anything
the scan takes for a call and is not one does not matter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from epochal.sql.complexity import Depth

_SPACE: Final = r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*"
_NAME: Final = r'(?:[^\W\d][\w$]*|"(?:[^"]|"")*"|`(?:[^`]|``)*`)'

_TOKEN: Final = re.compile(
    rf"""
      [eE]'(?:[^'\\]|''|\\.)*'                                   # a string with escapes
    | '(?:[^']|'')*'
    | --[^\n]*
    | \$(?P<tag>(?:[^\W\d]\w*)?)\$ .*? \$(?P=tag)\$              # a dollar-quoted string
    | (?P<comment>/\*)
    | \$(?P<parameter>\w+)
    | (?P<name>{_NAME}(?:{_SPACE}\.{_SPACE}{_NAME})*)(?P<call>(?={_SPACE}\())?
    | (?P<number>\d[\w.]*)
    | (?P<sign>[<>!=|:][<>=|:]|[-+*/%<>=!~|&^\#@:?,;()\[\]{{}}])
    """,
    re.DOTALL | re.VERBOSE,
)
_PART: Final = re.compile(rf"{_SPACE}({_NAME}){_SPACE}\.?", re.DOTALL)
_COMMENT: Final = re.compile(r"/\*|\*/")
_KEPT: Final = 10_000
"""Longer texts are scanned anew each time, not kept."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function with a name of several parts.

    Attributes:
        start: where the name begins in the text.
        end: where it ends.
        name: the name as it is written, without quotes.
        folded: the same as SQL reads it: what is not quoted in lower case.
    """

    start: int
    end: int
    name: str
    folded: str


@dataclass(frozen=True, slots=True)
class Scan:
    """What a SQL text names.

    Attributes:
        calls: in the order of the text.
        parameters: the names of its parameters, `"1"` for `$1`.
    """

    calls: tuple[Call, ...]
    parameters: frozenset[str]


def scan(sql: str) -> Scan:
    """Find the calls and the parameters in a SQL text, which may be wrong SQL.

    Raises:
        QueryError: planning it could overflow the stack, or take for ever; see `Depth`.
    """
    return _kept_scan(sql) if len(sql) <= _KEPT else _scan(sql)


def _scan(sql: str) -> Scan:
    depth = Depth()
    calls: list[Call] = []
    parameters: set[str] = set()
    position = 0
    while (found := _TOKEN.search(sql, position)) is not None:
        position = found.end()
        if found["comment"]:
            position = _end_of_comment(sql, position)
        elif found["parameter"]:
            parameters.add(found["parameter"])
        elif found["sign"]:
            depth.sign(found["sign"])
        elif found["name"]:
            depth.word(found["name"])
            if found["call"] is not None and "." in (call := _call(found)).name:
                calls.append(call)
        else:
            depth.word("")
    return Scan(tuple(calls), frozenset(parameters))


def may_name(sql: str, name: str) -> bool:
    """Whether a text may name a table; true for all that do, and for some that do not.

    Only the engine knows, which also takes `FROM 'orders'`: so wherever the letters are.
    """
    if "\\" in sql or not name.replace("_", "").isalnum():  # it may be written in another way
        return True
    return name.casefold() in sql.casefold()


_kept_scan: Final = lru_cache(maxsize=512)(_scan)


def _end_of_comment(sql: str, position: int) -> int:
    """The end of a comment whose opening was read; comments nest."""
    depth = 1
    while depth:
        found = _COMMENT.search(sql, position)
        if found is None:
            return len(sql)
        depth += 1 if found[0] == "/*" else -1
        position = found.end()
    return position


def _call(found: re.Match[str]) -> Call:
    parts = _PART.findall(found["name"])
    return Call(
        found.start("name"),
        found.end("name"),
        ".".join(_unquote(part) for part in parts),
        ".".join(_unquote(part) if part[0] in '"`' else part.lower() for part in parts),
    )


def _unquote(part: str) -> str:
    quote = part[0]
    return part[1:-1].replace(quote * 2, quote) if quote in '"`' else part
