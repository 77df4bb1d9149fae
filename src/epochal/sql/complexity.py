"""How deep the tree of a SQL text may become, seen before anybody makes it.

The problem: the engine walks its trees by recursion in native code. One expression of 20,000 terms,
40 kB of text, overflows the stack and takes the process with it; a third of that is planned for
minutes. The engine's parser limits how deep parentheses nest, and nothing limits a chain: `a + b +
c`, `… AND …`, `… UNION ALL …`, a join of a hundred tables. Each link of such a chain is a level.

The idea: whoever scans a text tells each word and sign of it. A link makes what it stands in one
level deeper; a comma ends what it stands in, except between the tables of a FROM, which are joined;
a closing parenthesis adds what was inside of it to what is around. That counts too much where links
of different strength take turns (`a = 1 OR b = 2` is three), never too little.

Measured with the engine's stack of 8 MB: 1,000 links may overflow it; 300 are planned within a
second.
"""

from __future__ import annotations

from typing import Final

from epochal.errors import QueryError

DEEPEST: Final = 500
LONGEST: Final = 200_000
"""Words and signs of a text; a list of values that is longer is data."""

_WORDS: Final = frozenset(
    {"and", "or", "union", "except", "intersect", "join", "is", "like", "ilike", "similar"}
    | {"between", "in", "collate", "div", "at"}
)
_TABLES_END: Final = frozenset(
    {"where", "group", "having", "order", "limit", "window", "qualify", "select", "union"}
)
_OPENING: Final = frozenset("([{")
_CLOSING: Final = frozenset(")]}")


class _Level:
    """What stands between two parentheses."""

    __slots__ = ("among_tables", "deepest", "inside", "links")

    def __init__(self) -> None:
        self.links = 0  # since the last comma
        self.inside = 0  # the deepest parenthesis since the last comma
        self.deepest = 0  # of what commas ended
        self.among_tables = False

    @property
    def depth(self) -> int:
        return max(self.deepest, self.links + self.inside)


class Depth:
    """Counts; told every word and every sign of a text, in order."""

    __slots__ = ("_around", "_level", "_selects", "_told")

    def __init__(self) -> None:
        self._around: Final[list[_Level]] = []
        self._level = _Level()
        self._selects = 0
        self._told = 0

    def word(self, word: str) -> None:
        """A name, keyword, number or string.

        Raises:
            QueryError: the text is too deep or too long.
        """
        self._count()
        word = word.lower()
        if word in _WORDS:
            self._link()
        if word == "from":
            self._level.among_tables = True
        elif word in _TABLES_END:
            self._level.among_tables = False
        if word == "select":  # one may read from the next, in a chain of WITH
            self._selects += 1
            self._check(self._selects)

    def sign(self, sign: str) -> None:
        """An operator, comma or parenthesis.

        Raises:
            QueryError: the text is too deep or too long.
        """
        self._count()
        if sign in _OPENING:
            if sign == "[":  # it may be a part of what is before it
                self._link()
            self._around.append(self._level)
            self._level = _Level()
        elif sign in _CLOSING:
            self._close()
        elif sign == ";" or (sign == "," and not self._level.among_tables):
            self._end_item()
        else:
            self._link()

    def _link(self) -> None:
        self._level.links += 1
        self._check(self._level.links + len(self._around))

    def _close(self) -> None:
        if not self._around:  # wrong SQL, which the engine tells
            return
        depth = self._level.depth + 1
        self._level = self._around.pop()
        self._level.inside = max(self._level.inside, depth)
        self._check(self._level.depth)

    def _end_item(self) -> None:
        level = self._level
        level.deepest = level.depth
        level.links = level.inside = 0

    def _check(self, depth: int) -> None:
        if depth > DEEPEST:
            raise QueryError(
                f"the SQL has more than {DEEPEST} operators in one expression, tables in one join "
                "or SELECTs; use IN (…) or a table in place of a long chain"
            )

    def _count(self) -> None:
        self._told += 1
        if self._told > LONGEST:
            raise QueryError(
                f"the SQL has more than {LONGEST:,} words; give data as a table, not as SQL"
            )
