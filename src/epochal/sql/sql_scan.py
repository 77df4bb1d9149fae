"""Finds the function calls and the parameters in a SQL text, without a parser.

The problem: a plan, and a stream that has not begun, keep *every* function of their planning
context alive, even one that the query never calls, so a query of ten hours would hold back every
plugin. Therefore a query is planned in a context that has only the functions its SQL calls, and
these must be known before planning.

The idea: a function call is a name followed by a parenthesis, so a scan is enough that knows
comments, strings and quoted names. Plugin functions have names of at least two parts
(`geo.distance`), which no keyword and no built-in function has. If the scan takes something else
for a call, no such function is found, and nothing happens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from epochal.sql.complexity import MAX_ESTIMATE, DepthCounter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Possessive: a text of a hundred bytes must not have a thousand ways to be read.
_NAME: Final = r'(?:[^\W\d][\w$]*+|"(?:[^"]|"")*+"|`(?:[^`]|``)*+`)'

_TOKEN: Final = re.compile(
    rf"""
      [eE]'(?:[^'\\]|''|\\.)*+'                                  # a string with escapes
    | '(?:[^']|'')*+'
    | (?P<line>--[^\n]*+)
    | (?P<dollar>\$(?:[^\W\d]\w*+)?\$)                          # opens a dollar-quoted string
    | (?P<comment>/\*)
    | \$(?P<parameter>\w++)
    | (?P<name>{_NAME}(?:\s*+\.\s*+{_NAME})*+)
    | (?P<dot>\.)
    | (?P<number>\d[\w.]*+)
    | (?P<sign>[<>!=|:][<>=|:]|[-+*/%<>=!~|&^\#@:?,;()\[\]{{}}])
    """,
    re.DOTALL | re.VERBOSE,
)
_PART: Final = re.compile(_NAME)
_COMMENT: Final = re.compile(r"/\*|\*/")
_LONGEST_CACHED: Final = 10_000
"""Longer texts are not cached."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function with a name of several parts.

    Attributes:
        start: offset of the name in the text.
        end: offset of the name's end.
        name: the name as written, without quotes.
        folded: the name as SQL reads it: the parts without quotes in lower case.
    """

    start: int
    end: int
    name: str
    folded: str


@dataclass(frozen=True, slots=True)
class Token(Call):
    """One token of a SQL text: its offsets, and its name, which is its text if it is no name.

    Attributes:
        text: as written.
        is_name: whether it is a name or a keyword.
    """

    text: str
    is_name: bool


@dataclass(frozen=True, slots=True)
class Scan:
    """The calls and parameters in a SQL text.

    Attributes:
        calls: in the order of the text.
        parameters: the names of its parameters, `"1"` for `$1`.
        explains: whether the text is an EXPLAIN.
        may_explode: whether its plan may be far larger than the text; see `complexity`.
    """

    calls: tuple[Call, ...]
    parameters: frozenset[str]
    explains: bool
    may_explode: bool


def scan(sql: str) -> Scan:
    """Find the calls and the parameters in a SQL text, which may be invalid SQL.

    Raises:
        QueryError: planning it could overflow the stack, or never end; see `complexity`.
    """
    return _cached_scan(sql) if len(sql) <= _LONGEST_CACHED else _scan(sql)


def _scan(sql: str) -> Scan:
    depth = DepthCounter()
    calls: list[Call] = []
    parameters: set[str] = set()
    position = 0
    name = _OpenName()
    while (match := _TOKEN.search(sql, position)) is not None:
        position = match.end()
        if match["comment"]:
            position = _end_of_comment(sql, position)
        elif match["line"]:
            continue
        elif match["name"]:
            depth.word(match["name"])
            name.add(match)
        elif match["dot"]:
            name.dot()
        else:
            if match["sign"] == "(" and (call := name.call()) is not None:
                calls.append(call)
            name.end()
            if match["sign"]:
                depth.sign(match["sign"])
            elif match["parameter"]:
                parameters.add(match["parameter"])
            else:
                depth.word("")
            if match["dollar"]:
                position = _end_of_dollar(sql, match["dollar"], position)
    return Scan(tuple(calls), frozenset(parameters), depth.explains, depth.estimate > MAX_ESTIMATE)


class _OpenName:
    """The name that the scan is at, whose parts may have comments between them."""

    __slots__ = ("_end", "_follows_dot", "_parts", "_start")

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._follows_dot = False
        self._start = self._end = 0

    def add(self, match: re.Match[str]) -> None:
        """Go on with these parts after a dot, or begin a name with them."""
        if not self._follows_dot:
            self._parts, self._start = [], match.start()
        self._parts += _PART.findall(match["name"])
        self._end, self._follows_dot = match.end(), False

    def dot(self) -> None:
        """Expect another part."""
        self._follows_dot = bool(self._parts)

    def end(self) -> None:
        """Another token follows: the name is over."""
        self._parts, self._follows_dot = [], False

    def call(self) -> Call | None:
        """The call that a parenthesis makes of the name, if it has several parts."""
        name = ".".join(map(_unquote, self._parts))
        if "." not in name or self._follows_dot:
            return None
        return Call(self._start, self._end, name, _folded(self._parts))


def tokens(sql: str) -> Iterator[Token]:
    """The tokens of a SQL text, without comments."""
    position = 0
    while (match := _TOKEN.search(sql, position)) is not None:
        position = match.end()
        if match["comment"]:
            position = _end_of_comment(sql, position)
        elif match["name"]:
            parts = _PART.findall(match["name"])
            name = ".".join(map(_unquote, parts))
            yield Token(match.start(), position, name, _folded(parts), match[0], True)
        elif not match["line"]:
            if match["dollar"]:
                position = _end_of_dollar(sql, match["dollar"], position)
            text = sql[match.start() : position]
            yield Token(match.start(), position, text, text, text, False)


def may_name(sql: str, name: str) -> bool:
    """Whether a text may name a table: never false for a text that does.

    Only the engine knows for sure, and it also accepts `FROM 'orders'`; so the letters are looked
    for anywhere in the text.
    """
    if "\\" in sql or not name.replace("_", "").isalnum():  # escapes may hide the name
        return True
    return name.casefold() in sql.casefold()


_cached_scan: Final = lru_cache(maxsize=512)(_scan)


def _end_of_comment(sql: str, position: int) -> int:
    """The offset after the end of a comment whose opening precedes `position`; comments nest."""
    depth = 1
    while depth:
        match = _COMMENT.search(sql, position)
        if match is None:
            return len(sql)
        depth += 1 if match[0] == "/*" else -1
        position = match.end()
    return position


def _end_of_dollar(sql: str, tag: str, position: int) -> int:
    """The offset after the end of a dollar-quoted string whose opening precedes `position`."""
    end = sql.find(tag, position)
    return end + len(tag) if end >= 0 else len(sql)


def _folded(parts: Sequence[str]) -> str:
    """A name as SQL reads it: the parts without quotes in lower case."""
    return ".".join(_unquote(p) if p[0] in '"`' else p.lower() for p in parts)


def _unquote(part: str) -> str:
    quote = part[0]
    return part[1:-1].replace(quote * 2, quote) if quote in '"`' else part
