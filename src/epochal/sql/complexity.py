"""Limits the depth of a SQL text, and estimates the size of its plan, before it is planned.

The problem: the engine walks its trees by recursion in native code. One expression of 20,000 terms,
40 kB of text, overflows the stack and kills the process; planning a third of that takes minutes.
The engine's parser limits how deep parentheses nest, but not the length of a chain: `a + b + c`,
`… AND …`, `… UNION ALL …`, a join of a hundred tables. Each link of such a chain is a level.
And its rewrites multiply: `nvl(x, y)` becomes a CASE with `x` in it twice, `x BETWEEN y AND z` two
comparisons of `x`; a filter over `SELECT x * x AS x` gets both; a table of a WITH that is named
twice is planned twice. So a few hundred bytes become a plan of gigabytes.

The idea: the scanner of the text reports each word and sign here. A link adds a level to the
expression around it. A comma ends that expression, except between the tables of a FROM, which are
joined. A closing parenthesis adds the depth inside it to the depth around it. The count is too high
where links of different precedence alternate (`a = 1 OR b = 2` counts three), never too low. A text
beyond the limit is refused.

The size of the plan is estimated from what may multiply: the levels of parentheses, CASE and
BETWEEN, and, for each SELECT in another, the uses of one name. That is far too high for most texts,
so a text beyond that bound is not refused: it is planned on trial (see `trial_planning`).

Measured with the engine's stack of 8 MB: 1,000 links may overflow it; 300 are planned within a
second. Of ninety ways to nest, the steepest triple the plan, or its time, with each level.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

from epochal.errors import QueryError

MAX_DEPTH: Final = 500
MAX_WORDS: Final = 200_000
"""Words and signs of a text; a longer list of values is data."""

MAX_ESTIMATE: Final = 3_000_000
"""A text with a higher estimate is planned on trial; one below took 0.1 s at most."""

_GROWTH: Final = 3
_STEEP: Final = 40
"""An exponent at which every estimate is beyond the bound."""

_PRODUCERS: Final = frozenset(
    {"repeat", "lpad", "rpad", "range", "generate_series", "array_repeat", "list_repeat"}
    | {"array_resize", "list_resize", "cube"}
)
"""They make much of little: values of constants while planning, or groupings."""

_LINKS: Final = frozenset(
    {"and", "or", "union", "except", "intersect", "join", "is", "like", "ilike", "similar"}
    | {"between", "in", "collate", "div", "at"}
)
_AFTER_TABLES: Final = frozenset(
    {"where", "group", "having", "order", "limit", "window", "qualify", "select", "union"}
)
_OPENING: Final = frozenset("([{")
_CLOSING: Final = frozenset(")]}")


class _Level:
    """The text between two parentheses."""

    __slots__ = ("deepest", "doublings", "in_from", "inside", "links")

    def __init__(self) -> None:
        self.links = 0  # since the last comma
        self.inside = 0  # depth of the deepest parenthesis since the last comma
        self.deepest = 0  # of the expressions that a comma has ended
        self.doublings = 0  # CASEs that are open, and BETWEENs since the last comma
        self.in_from = False

    @property
    def depth(self) -> int:
        return max(self.deepest, self.links + self.inside)


class DepthCounter:
    """Counts the depth of a text from its words and signs, which must come in order.

    Attributes:
        explains: whether the first word is EXPLAIN.
    """

    __slots__ = (
        "_level",
        "_nesting",
        "_outer",
        "_outer_doublings",
        "_produces",
        "_selects",
        "_uses",
        "_words",
        "explains",
    )

    def __init__(self) -> None:
        self._outer: Final[list[_Level]] = []
        self._level = _Level()
        self._outer_doublings = 0  # of all levels in `_outer`
        self._nesting = 0  # the deepest so far
        self._produces = False
        self._selects = 0
        self._uses: Final[Counter[str]] = Counter()
        self._words = 0
        self.explains = False

    @property
    def estimate(self) -> float:
        """An upper bound of the plan's nodes, for most texts far too high."""
        if self._produces:
            return math.inf
        uses = max(self._uses.values(), default=0)
        inner = min(max(0, self._selects - 1), _STEEP)
        return float(self._words * _GROWTH ** min(self._nesting, _STEEP) * max(2, uses) ** inner)

    def word(self, word: str) -> None:
        """Count a name, keyword, number or string.

        Raises:
            QueryError: the text is too deep or too long.
        """
        self._count()
        word = word.lower()
        if self._words == 1:
            self.explains = word == "explain"
        if word in _LINKS:
            self._link()
        if word == "from":
            self._level.in_from = True
        elif word in _AFTER_TABLES:
            self._level.in_from = False
        if word == "select":  # in a chain of WITH, each may read from the next
            self._selects += 1
            self._check(self._selects)
        elif word in {"case", "between"}:
            self._level.doublings += 1
            self._note_nesting()
        elif word == "end":
            self._level.doublings = max(0, self._level.doublings - 1)
        elif word in _PRODUCERS and not self._level.in_from:
            self._produces = True
        elif word:
            self._uses[word] += 1

    def sign(self, sign: str) -> None:
        """Count an operator, comma or parenthesis.

        Raises:
            QueryError: the text is too deep or too long.
        """
        self._count()
        if sign in _OPENING:
            if sign == "[":  # it may index the expression before it
                self._link()
            self._outer.append(self._level)
            self._outer_doublings += self._level.doublings
            self._level = _Level()
            self._note_nesting()
        elif sign in _CLOSING:
            self._close()
        elif sign == ";" or (sign == "," and not self._level.in_from):
            self._end_expression()
        else:
            self._link()

    def _link(self) -> None:
        self._level.links += 1
        self._check(self._level.links + len(self._outer))

    def _close(self) -> None:
        if not self._outer:  # invalid SQL, which the engine reports
            return
        depth = self._level.depth + 1
        self._level = self._outer.pop()
        self._outer_doublings -= self._level.doublings
        self._level.inside = max(self._level.inside, depth)
        self._check(self._level.depth)

    def _end_expression(self) -> None:
        level = self._level
        level.deepest = level.depth
        level.links = level.inside = level.doublings = 0

    def _note_nesting(self) -> None:
        here = len(self._outer) + self._outer_doublings + self._level.doublings
        self._nesting = max(self._nesting, here)

    def _check(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise QueryError(
                f"the SQL has more than {MAX_DEPTH} operators in one expression, tables in one "
                "join or SELECTs; use IN (…) or a table in place of a long chain"
            )

    def _count(self) -> None:
        self._words += 1
        if self._words > MAX_WORDS:
            raise QueryError(
                f"the SQL has more than {MAX_WORDS:,} words; give data as a table, not as SQL"
            )
