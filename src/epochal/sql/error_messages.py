"""Converts the engine's error messages to one line each, with a hint where one is known."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from epochal.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from epochal.sql.function_registry import FunctionIndex

_PREFIX: Final = re.compile(
    r"^(DataFusion error|Error during planning|Execution error|Schema error|Arrow error|"
    r"Object Store error|External error|This feature is not implemented|Invalid argument error|"
    r"Optimizer rule '\w+' failed\s+caused by)\W\s*"
)
_PARSER: Final = re.compile(r'SQL error: (?:Parser|Tokenizer)Error\("(.*)"\)', re.DOTALL)
_REPORT: Final = re.compile(r"\s*This issue was likely caused by a bug in DataFusion.*", re.DOTALL)
_REFUSED: Final = re.compile(r"(?:DDL|DML|Statement) not supported: (.+)")
_STATEMENT: Final = re.compile(r"Unsupported SQL statement: (.+)")
_UNKNOWN: Final = re.compile(r"(Invalid function|table function) '([^']+)'")
_GIVEN: Final = re.compile(r"argument types '[^(']*(\(.*?\))'")
_SLIDING: Final = re.compile(r"sliding accumulator .*?: ([\w.]+)")
_CALLED: Final = re.compile(r"a call to '([^']+)' function")

_UNEQUAL: Final = re.compile(
    r"unequal lengths between records on CSV file.*"
    r"Expected (\d+) records, found (\d+) records at line (\d+)"
)
# A table's only column, by whose name the file was read with another delimiter than its own.
_ONE_COLUMN: Final = re.compile(r"Valid fields are (?:\w+\.)?\"[^\"]*([;|])[^\"]*\"\.$")
_CSV_FILE: Final = re.compile(r"processing CSV file (\S+) caused")

_LONGEST: Final = 4000
"""Characters of a message; the engine quotes texts of any length, which its reader has already."""
_END: Final = 500

_EXHAUSTED: Final = "Resources exhausted: "
_NESTED: Final = "Cannot start a runtime from within a runtime"

_TABLES: Final = {"table_function": "a table function", "index": "an index"}


def query_error(
    message: str, index: FunctionIndex, usages: Mapping[str, str], calls: Iterable[str]
) -> QueryError:
    """Make the caller's error of an engine's message.

    Args:
        message: the engine's message.
        index: the functions of the epoch, for hints.
        usages: the SQL signatures of the functions that the query calls, by name.
        calls: the names that the query calls, including those of no function.
    """
    text = clean(message)
    if refused := _REFUSED.search(text) or _STATEMENT.search(text):
        return QueryError(
            f"{_words(refused[1])} is refused: a Database answers queries and changes nothing; "
            "tables are registered with Database.register"
        )
    if unknown := _UNKNOWN.search(text):
        return QueryError(_unknown(unknown[2].strip('"'), unknown[1], index, calls))
    if (called := _CALLED.search(text)) and called[1] in usages:
        given = _GIVEN.search(text)
        return QueryError(
            f"cannot call {usages[called[1]]}{f' with {given[1]}' if given else ''}; "
            "the engine converts to wider types only, CAST(… AS …) to any"
        )
    if sliding := _SLIDING.search(text):
        return QueryError(
            f"{sliding[1]} cannot be used over a window frame that slides: "
            "it has no method retract, which takes a row out again"
        )
    if _EXHAUSTED in text:
        return QueryError(
            "the query needs more memory than it may have (Database(memory=…), serve "
            f"--query-memory): {text.removeprefix(_EXHAUSTED)}"
        )
    if _NESTED in text:
        return QueryError(
            "a function that a query calls cannot query in turn: the engine's thread would wait "
            "for itself; query beforehand, and give the function what it needs"
        )
    return QueryError(text)


def _unknown(name: str, where: str, index: FunctionIndex, calls: Iterable[str]) -> str:
    if where == "table function":  # the engine reports only the first part of a name with dots
        name = next((call for call in calls if call.startswith(f"{name}.")), name)
    kinds = [source.kind.name for source in index.names.get(name, ())]
    if "window" in kinds:
        return f"{name} is a window function: call it with OVER (...)"
    if table := {"table_function", "index"}.intersection(kinds):
        return f"{name} is {_TABLES[table.pop()]}: use it in FROM"
    if kinds:
        return f"{name} is a {kinds[0]} function, which cannot be used in FROM"
    return "; ".join(filter(None, (f"no function {name!r}", index.advice(name))))


def clean(message: str) -> str:
    """The engine's message as one line, without the prefixes of its layers."""
    if len(message) > _LONGEST:  # and searching a text of 100,000 spaces would take a minute
        message = f"{message[: _LONGEST - _END]} … {message[-_END:]}"
    text = _REPORT.sub("", message).strip()
    if parser := _PARSER.search(text):
        return f"syntax error: {parser[1]}".replace('\\"', '"')
    while (shorter := _PREFIX.sub("", text)) != text:
        text = shorter
    text = " ".join(text.replace("datafusion.public.", "").split())
    if unequal := _UNEQUAL.search(text):
        expected, found, line = unequal.groups()
        file = _CSV_FILE.search(text)
        where = f"line {line} of {f'/{file[1]}' if file else 'a CSV file'}"
        return f"{where} has {_fields(found)}, and the lines above {_fields(expected)}"
    if column := _ONE_COLUMN.search(text):
        return f"{text} If {column[1]!r} separates the fields of its file, name it as the delimiter"
    return text


def _fields(count: str) -> str:
    return "1 field" if count == "1" else f"{count} fields"


def _words(node: str) -> str:
    """`CreateMemoryTable` -> `CREATE MEMORY TABLE`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", node.strip()).upper()
