"""An aggregating query over many files, as one query for each file and the merging of their states.

`SELECT origin, count(*), geo.mean(delay) FROM data GROUP BY origin` is run on each file with a
function in the place of each aggregate that returns the aggregate's *state*; a second query merges
the states of all files. The classes of plugins write, read and merge their states themselves
(`epochal.kinds.aggregate`). Of the engine's aggregates, those are merged whose state SQL can write:
the engine does not hand out the sketches of the others.

A text is split only where that is certain to give the answer of one query over all rows: one SELECT
over one table, each of whose columns is one of GROUP BY, or an aggregate as it is. Anything else is
refused; its place is a query over the merged rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

import pyarrow as pa

from epochal.errors import QueryError
from epochal.sql.aggregates import PART_SUFFIX, WHOLE_SUFFIX, AggregateFunction
from epochal.sql.sql_scan import tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from epochal.sql.function_registry import FunctionIndex
    from epochal.sql.sql_scan import Token

TABLE: Final = "data"
"""The table that each file is."""

_LATER: Final = frozenset(
    (
        *("HAVING", "ORDER", "LIMIT", "OFFSET", "FETCH", "QUALIFY", "WINDOW"),
        *("UNION", "INTERSECT", "EXCEPT", "MINUS"),
    )
)
"""What may follow the groups in SQL: it is about all rows, so a part cannot do it."""


class _Merge(NamedTuple):
    """How an aggregate is merged.

    Attributes:
        states: SQL of its states, of its arguments and of `FILTER (...)`, or nothing.
        whole: SQL of its value, of the columns of states, given the type of the first.
        result: the type of the value, of that of the first states; None for the merging query's.
    """

    states: tuple[str, ...]
    whole: Callable[[pa.DataType], str]
    result: Callable[[pa.DataType], pa.DataType | None] = lambda first: first


def _by_functions(part: str, whole: str, *, same_type: bool = True) -> _Merge:
    result = (lambda first: first) if same_type else (lambda _: None)
    return _Merge((f"{part}({{0}}){{1}}",), lambda _: f"{whole}({{0}})", result)


def _average(average: pa.DataType) -> str:
    # The engine sums decimals as they are, and other numbers as floats. These are halved, which is
    # exact: a sum of casts would have the name of the sum without them, and be refused beside it.
    return "sum({1}) / sum({3})" if pa.types.is_decimal(average) else "2 * sum({2}) / sum({3})"


def _count_different(states: pa.DataType) -> str:
    if pa.types.is_nested(states.value_type):
        _refuse(f"different values of the type {states.value_type} cannot be merged")
    return "cardinality(array_distinct(flatten(array_agg({0}))))"


def _different(kind: pa.DataType) -> _Merge:
    states = ("array_agg(DISTINCT {0}){1} IGNORE NULLS",)
    return _Merge(states, _count_different, lambda _: kind)


_BUILT_IN: Final = {
    "count": _by_functions("count", "sum"),
    "count(DISTINCT ...)": _different(pa.int64()),
    "approx_distinct": _different(pa.uint64()),
    "avg": _Merge(
        ("avg({0}){1}", "sum({0}){1}", "sum(({0}) * 0.5e0){1}", "count({0}){1}"),
        _average,
    ),
    **{
        name: _by_functions(name, name)
        for name in ("sum", "min", "max", "bool_and", "bool_or", "bit_and", "bit_or", "bit_xor")
    },
}


@dataclass(frozen=True, slots=True)
class _Column:
    """One column of the query.

    Attributes:
        part: its SQL in the query over one file; for an aggregate, of its first state.
        name: the name of an aggregate in the answer; a column of GROUP BY has the engine's.
        merge: how it is merged; None for a column of GROUP BY.
        more: SQL of an aggregate's other states.
    """

    part: str
    name: str = ""
    merge: _Merge | None = None
    more: tuple[str, ...] = ()


class MergedQuery:
    """A query that is run on each of many files, and whose states are merged.

    Args:
        sql: the query over all rows, which are the table `data`.
        index: the functions of the epoch that it runs in.

    Attributes:
        part: the query over one file, which is the table `data` in it.

    Raises:
        QueryError: it cannot be run in parts; the message names what prevents it.
    """

    __slots__ = ("_columns", "part")

    def __init__(self, sql: str, index: FunctionIndex) -> None:
        self._columns, rest = _split(sql, index)
        # Each column at its place, to which GROUP BY may refer; more states come last.
        listed = [
            column.part if column.merge is None else f'{column.part} AS "state {at}"'
            for at, column in enumerate(self._columns)
        ]
        more = [state for column in self._columns for state in column.more]
        listed += [f'{state} AS "more {at}"' for at, state in enumerate(more)]
        self.part: Final = f"SELECT {', '.join(listed)} {rest}"

    def whole(self, parts: pa.Schema) -> str:
        """The query over the rows of all parts, which are the table `parts` in it.

        Args:
            parts: their columns.
        """
        more = iter([_quoted(name) for name in parts.names[len(self._columns) :]])
        listed, keys = [], []
        for column, field in zip(self._columns, parts, strict=False):
            value = _quoted(field.name)
            if column.merge is None:
                listed.append(value)
                keys.append(value)
            else:
                states = [value, *(next(more) for _ in column.more)]
                merged = column.merge.whole(field.type).format(*states)
                listed.append(f"{merged} AS {_quoted(column.name)}")
        groups = f" GROUP BY {', '.join(keys)}" if keys else ""
        return f"SELECT {', '.join(listed)} FROM parts{groups}"

    def typed(self, whole: pa.Table, parts: pa.Schema) -> pa.Table:
        """The answer of `whole` with the types of one query over all rows."""
        fields = [
            found.with_type(
                (column.merge.result(first.type) if column.merge else None) or found.type
            )
            for column, first, found in zip(self._columns, parts, whole.schema, strict=False)
        ]
        return whole.cast(pa.schema(fields))


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def _refuse(reason: str) -> NoReturn:
    raise QueryError(
        f"{reason}; what is merged is one SELECT of columns and aggregates FROM {TABLE}, with "
        "WHERE and GROUP BY, and the final query computes the rest over the merged rows"
    )


class _Words:
    """Tokens of a text, with its slices."""

    def __init__(self, sql: str, words: Sequence[Token]) -> None:
        self.sql: Final = sql
        self.words: Final = words

    def __getitem__(self, part: slice) -> _Words:
        return _Words(self.sql, self.words[part])

    def __len__(self) -> int:
        return len(self.words)

    @property
    def text(self) -> str:
        """As written."""
        return self.sql[self.words[0].start : self.words[-1].end] if self.words else ""

    def key(self, table: str) -> tuple[str, ...]:
        """The same for texts that mean the same: case, spaces, and the table's name apart."""
        return tuple(
            word.folded.removeprefix(f"{table}.") if word.is_name else word.text
            for word in self.words
        )

    def is_at(self, at: int, *keywords: str) -> bool:
        """Whether one of some keywords is at a place."""
        return 0 <= at < len(self.words) and self.words[at].text.upper() in keywords

    def is_call(self, at: int) -> bool:
        """Whether a name with a parenthesis after it is at a place."""
        return at < len(self.words) and self.words[at].is_name and self.is_at(at + 1, "(")

    def outside(self) -> Iterator[tuple[int, Token]]:
        """The tokens outside of parentheses, with their places."""
        depth = 0
        for at, word in enumerate(self.words):
            depth -= word.text in (")", "]", "}")
            if depth == 0:
                yield at, word
            depth += word.text in ("(", "[", "{")

    def find(self, *keywords: str) -> int:
        """The place of the first of some keywords outside of parentheses; the end if none is."""
        for at, word in self.outside():
            is_distinct_from = word.text.upper() == "FROM" and self.is_at(at - 1, "DISTINCT")
            if word.text.upper() in keywords and not (at and is_distinct_from):
                return at
        return len(self)

    def items(self) -> list[_Words]:
        """The parts between commas."""
        commas = [at for at, word in self.outside() if word.text == ","]
        starts, ends = [0, *(at + 1 for at in commas)], [*commas, len(self)]
        return [self[start:end] for start, end in zip(starts, ends, strict=True)]

    def close(self) -> int:
        """The place of the parenthesis that closes the one at 1."""
        for at, word in self[1:].outside():
            if word.text == ")":
                return at + 1
        _refuse(f"a parenthesis is not closed in {self.text}")


def _split(sql: str, index: FunctionIndex) -> tuple[tuple[_Column, ...], str]:
    """The columns of a query, and its text from FROM on."""
    words = _Words(sql, list(tokens(sql)))
    if words.is_at(len(words) - 1, ";"):
        words = words[:-1]
    selects = [word for word in words.words if word.text.upper() in ("SELECT", "WITH")]
    if not words.is_at(0, "SELECT") or len(selects) != 1:
        _refuse("a query in parts is one SELECT, without others in it")
    if words.is_at(1, "DISTINCT", "ALL"):
        _refuse("SELECT DISTINCT is about all rows")
    if any(word.text == ";" for word in words.words):
        _refuse("there is more than one statement")
    source = words.find("FROM")
    selected, rest = words[1:source], words[source:]
    table, clauses = _table(rest)
    groups = clauses.find("GROUP")
    _refuse_later(clauses)
    if groups < len(clauses) and not clauses.is_at(groups + 1, "BY"):
        _refuse(f"GROUP is not followed by BY in {rest.text}")
    keys = clauses[groups + 2 :].items() if groups < len(clauses) else []
    columns = _columns(selected.items(), keys, table, index)
    return columns, rest.text


def _table(rest: _Words) -> tuple[str, _Words]:
    """The name by which the query calls the table, and what follows FROM."""
    if len(rest) < 2 or rest.words[1].folded != TABLE or rest.is_call(1):
        _refuse(f"it does not read FROM {TABLE}")
    at = 2 + rest.is_at(2, "AS")
    name = TABLE
    if at < len(rest) and not rest.is_at(at, "WHERE", "GROUP", *_LATER):
        name, at = rest.words[at].folded, at + 1
    if at < len(rest) and not rest.is_at(at, "WHERE", "GROUP", *_LATER):
        _refuse(f"it reads more than the table {TABLE}: {rest[2:].text}")
    return name, rest[at:]


def _refuse_later(clauses: _Words) -> None:
    for _, word in clauses.outside():
        if word.text.upper() in _LATER:
            _refuse(f"{word.text.upper()} is about all rows (if it is a column, quote it)")


def _columns(
    items: Sequence[_Words], keys: Sequence[_Words], table: str, index: FunctionIndex
) -> tuple[_Column, ...]:
    found: list[_Column] = []
    wanted = [key.key(table) for key in keys]
    met: set[tuple[str, ...]] = set()
    for number, item in enumerate(items, 1):
        aggregate = _aggregate(item, index)
        if aggregate is None:
            ways = {(str(number),), *_ways(item, table)}
            if ways.isdisjoint(wanted):
                _refuse(
                    f"{item.text} is not in GROUP BY, and not an aggregate that can be merged: one "
                    f"of plugins, or {', '.join(sorted(_BUILT_IN))}"
                )
            met |= ways
        found.append(aggregate or _Column(item.text))
    for key, words in zip(wanted, keys, strict=True):
        if key not in met:
            _refuse(f"{words.text} of GROUP BY is not selected, so its groups cannot be merged")
    return tuple(found)


def _ways(item: _Words, table: str) -> Iterator[tuple[str, ...]]:
    """How GROUP BY may name a column: as it is written, and by its alias."""
    yield item.key(table)
    if len(item) > 1 and item.words[-1].is_name:
        expression = item[: -2 if item.is_at(len(item) - 2, "AS") else -1].key(table)
        name = item.words[-1].folded
        yield expression
        # Otherwise, the name is that of a column, too, and GROUP BY means the column.
        if name not in expression:
            yield (name,)


def _aggregate(item: _Words, index: FunctionIndex) -> _Column | None:
    """A column that is an aggregate as it is; None for any other."""
    if len(item) < 3 or not item.is_call(0):
        return None
    close = item.close()
    arguments, rest = item[2:close], item[close + 1 :]
    function = item.words[0]
    is_distinct = arguments.is_at(0, "DISTINCT")
    merge = _merge_of(function, index, is_distinct=is_distinct)
    if merge is None:
        return None
    if arguments.find("ORDER") < len(arguments):
        _refuse(f"{item.text} depends on the order of all rows")
    filtered = ""
    if rest.is_at(0, "FILTER"):
        end = rest.close()
        filtered, rest = f" {rest[: end + 1].text}", rest[end + 1 :]
    rest = rest[1:] if rest.is_at(0, "AS") else rest
    if len(rest) > 1 or (rest and not rest.words[0].is_name):
        _refuse(f"{item.text} computes with an aggregate")
    name = rest.words[0].folded if rest else item[: len(item) - len(rest)].text
    passed = arguments[is_distinct:].text
    part, *more = [state.format(passed, filtered) for state in merge.states]
    return _Column(part, name, merge, tuple(more))


def _merge_of(function: Token, index: FunctionIndex, *, is_distinct: bool) -> _Merge | None:
    """How an aggregate is merged; None if it cannot be, or is none."""
    if "." not in function.folded:
        name = {"mean": "avg"}.get(function.folded, function.folded)
        return _BUILT_IN.get(f"{name}(DISTINCT ...)" if is_distinct else name)
    called = index.resolve(function)
    makes = [source.make for source in index.names.get(called or "", ())]
    if makes != [AggregateFunction] or is_distinct:
        return None
    part, whole = _quoted(f"{called}{PART_SUFFIX}"), _quoted(f"{called}{WHOLE_SUFFIX}")
    return _by_functions(part, whole, same_type=False)
