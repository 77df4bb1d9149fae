"""SQL that is too deep for the engine is refused before the engine gets it."""

import pytest

from epochal import Runtime
from epochal.errors import QueryError
from epochal.sql import Database
from epochal.sql.complexity import MAX_DEPTH, MAX_WORDS
from epochal.sql.sql_scan import scan

MANY = MAX_DEPTH + 2

DEEP = {
    "sums": "SELECT " + "+".join(["1"] * MANY),
    "conditions": "SELECT " + " AND ".join(["true"] * MANY),
    "unions": " UNION ALL ".join(["SELECT 1"] * MANY),
    "casts": "SELECT 1" + "::int" * MANY,
    "texts": "SELECT " + "||".join(["'a'"] * MANY),
    "tests": "SELECT 1" + " IS NULL" * MANY,
    "joins": "SELECT 1 FROM t" + " JOIN t USING (a)" * MANY,
    "tables": "SELECT 1 FROM " + ", ".join(["t"] * MANY),
    "names for queries": "WITH "
    + ", ".join(f"c{n} AS (SELECT * FROM c{n - 1})" for n in range(MANY)),
    "nested by turns": "SELECT " + "(1" * 100 + "+1+1+1+1+1+1)" * 100,
    "after a comma": "SELECT 1, 2, " + "+".join(["1"] * MANY) + ", 3",
}

FLAT = {
    "columns": "SELECT " + ", ".join(f"a + b AS c{n}" for n in range(2_000)) + " FROM t WHERE a",
    "values": "SELECT * FROM (VALUES " + ", ".join(f"({n}, -{n})" for n in range(5_000)) + ")",
    "a list": "SELECT 1 IN (" + ", ".join(str(n) for n in range(20_000)) + ")",
    "an array": "SELECT [" + ", ".join(str(n) for n in range(20_000)) + "]",
    "alternatives": "SELECT CASE x " + "WHEN 1 THEN 2 " * 5_000 + "END",
    "in texts and comments": "SELECT '" + "+" * MANY + "' -- " + "+" * MANY,
}


@pytest.mark.parametrize("sql", DEEP.values(), ids=DEEP)
def test_deep_sql_is_refused(sql):
    with pytest.raises(QueryError, match=f"more than {MAX_DEPTH}"):
        scan(sql)


@pytest.mark.parametrize("sql", FLAT.values(), ids=FLAT)
def test_long_flat_sql_is_accepted(sql):
    scan(sql)


def test_sql_with_too_many_words_is_refused():
    with pytest.raises(QueryError, match="give data as a table"):
        scan("SELECT [" + "1," * MAX_WORDS + "1]")


@pytest.mark.parametrize("sql", ["))))", "((((", ";,", "SELECT (]", "SELECT 1 --- 2 'x"])
def test_invalid_sql_is_left_to_the_engine(sql):
    scan(sql)


def test_sql_that_would_overflow_the_stack_is_an_error():
    with Runtime() as rt, Database(rt) as db:
        with pytest.raises(QueryError, match="operators in one expression"):
            db.query("SELECT " + "+".join(["1"] * 20_000))
        assert db.query("SELECT " + "+".join(["1"] * 300)).rows() == [(300,)]
