"""Writes a query's rows, batch by batch, so that a result may be larger than memory.

A writer gets the result's schema, then its batches, then the end. Rows for people are aligned by
the first thousand of them: a table that must know its widest value could not begin before the end.
"""

from __future__ import annotations

import csv
import json
import re
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TextIO

import pyarrow as pa
from rich.cells import cell_len

from epochal.errors import HostError
from epochal.sql.json_values import convert_columns, json_column, json_field, json_value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from epochal.cli.remote_query import RemoteResult
    from epochal.sql import Result

    AnyResult = Result | RemoteResult
    Row = tuple[Any, ...]

_ALIGNED: Final = 1000
_BYTES_SHOWN: Final = 32
_WIDEST: Final = 60
_LITERAL: Final = re.compile(
    r"\b(?:U?Int(?:8|16|32|64)|Float(?:32|64)|Decimal128|Boolean|(?:Large)?Utf8(?:View)?)"
    r'\(("[^"]*"|-?[\w.]+)\)'
)


def rows_of(batch: pa.RecordBatch, convert: Any) -> Iterable[Row]:
    """The rows of a batch, whose columns `convert` makes lists of."""
    return zip(*convert_columns(batch, convert), strict=True)


def machine_values(column: pa.Array) -> list[Any]:
    """Values as in JSON, except that numbers keep NaN and the infinities."""
    if pa.types.is_floating(column.type):
        values: list[Any] = column.to_pylist()
        return values
    return json_column(column)


# --- for machines ------------------------------------------------------------------------------


async def write_csv(result: AnyResult, out: TextIO, delimiter: str = ",") -> None:
    """With a line of names; null is an empty field."""
    writer = csv.writer(out, lineterminator="\n", delimiter=delimiter)
    writer.writerow(map(readable_name, result.schema.names))
    async for batch in result:
        writer.writerows(
            ["" if value is None else plain(value) for value in row]
            for row in rows_of(batch, machine_values)
        )


def plain(value: Any) -> Any:
    """A number with all its digits; any other value as in JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


async def write_json(result: AnyResult, out: TextIO) -> None:
    """One document: columns, rows, epoch and provenance."""
    _check_names(result)
    columns = [json_field(field) for field in result.schema]
    out.write(f'{{"columns": {json.dumps(columns, ensure_ascii=False)}, "rows": [')
    separator = ""
    async for record in _records(result):
        out.write(f"{separator}\n  {record}")
        separator = ","
    epoch = {"number": result.epoch.number, "id": result.epoch.id}
    out.write(f'],\n"epoch": {json.dumps(epoch)},')
    out.write(f'\n"provenance": {json.dumps(_provenance(result))}}}\n')


async def write_json_lines(result: AnyResult, out: TextIO) -> None:
    """An object a line."""
    _check_names(result)
    async for record in _records(result):
        out.write(f"{record}\n")


def _check_names(result: AnyResult) -> None:
    names = result.schema.names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise HostError(
            f"two columns are named {twice[0]!r}, and JSON needs distinct names: use AS"
        )


async def _records(result: AnyResult) -> AsyncIterator[str]:
    names = result.schema.names
    async for batch in result:
        for row in rows_of(batch, machine_values):
            record = {name: json_value(value) for name, value in zip(names, row, strict=True)}
            yield json.dumps(record, ensure_ascii=False)


def _provenance(result: AnyResult) -> list[dict[str, Any]]:
    return [
        {
            "function": function.function,
            "kind": function.kind,
            "plugin": function.plugin,
            "version": function.version,
            "generation": function.generation,
            "digest": function.digest,
        }
        for function in result.provenance
    ]


async def write_parquet(result: AnyResult, out: Any) -> None:
    """A Parquet file, compressed; `out` takes bytes."""
    import pyarrow.parquet as pq

    with pq.ParquetWriter(out, result.schema, compression="zstd") as writer:
        async for batch in result:
            writer.write_batch(batch)


# --- for people --------------------------------------------------------------------------------


def readable_name(name: str) -> str:
    """A column's name without the engine's types around literals: `geo.f(1)`, not `…(Int64(1))`."""
    return _LITERAL.sub(lambda found: found[1].replace('"', "'"), name)


def shown_values(column: pa.Array) -> list[Any]:
    """Values as people read them; None stays None."""
    kind = column.type
    if pa.types.is_floating(kind):
        return [None if value is None else f"{value:.10g}" for value in column.to_pylist()]
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or _is_fixed_binary(kind):
        return [None if value is None else _shown_bytes(value) for value in column.to_pylist()]
    if pa.types.is_interval(kind):
        return [None if value is None else _shown_interval(*value) for value in column.to_pylist()]
    if pa.types.is_duration(kind):
        seconds = json_column(column)
        return [None if s is None else _shown_time(round(s * 1_000_000_000)) for s in seconds]
    return [None if value is None else str(plain(value)) for value in json_column(column)]


def _is_fixed_binary(kind: pa.DataType) -> bool:
    found: bool = pa.types.is_fixed_size_binary(kind)
    return found


def _shown_bytes(value: bytes) -> str:
    more = f"… ({len(value):,} bytes)" if len(value) > _BYTES_SHOWN else ""
    return f"0x{value[:_BYTES_SHOWN].hex()}{more}"


def _shown_interval(months: int, days: int, nanoseconds: int) -> str:
    parts = [
        f"{count} {word}{'' if abs(count) == 1 else 's'}"
        for count, word in (
            (int(months / 12), "year"),
            (months - 12 * int(months / 12), "month"),
            (days, "day"),
        )
        if count
    ]
    return " ".join(parts + ([_shown_time(nanoseconds)] if nanoseconds or not parts else []))


def _shown_time(nanoseconds: int) -> str:
    sign, rest = "-" if nanoseconds < 0 else "", abs(nanoseconds)
    seconds, fraction = divmod(rest, 1_000_000_000)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    tail = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{sign}{hours:02d}:{minute:02d}:{second:02d}{tail}"


async def write_markdown(result: AnyResult, out: TextIO) -> None:
    """A table of Markdown; numbers are aligned to the right where it is shown."""
    names = [_escaped(readable_name(name)) for name in result.schema.names]
    out.write(f"| {' | '.join(names)} |\n")
    rules = ["--:" if _is_number(field) else "---" for field in result.schema]
    out.write(f"| {' | '.join(rules)} |\n")
    async for batch in result:
        for row in rows_of(batch, shown_values):
            cells = ["" if value is None else _escaped(value) for value in row]
            out.write(f"| {' | '.join(cells)} |\n")


def _escaped(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").splitlines())


def _is_number(field: pa.Field) -> bool:
    kind = field.type
    found: bool = (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )
    return found


class AlignedRows:
    """Writes rows in columns, of a width that the first rows have.

    Args:
        schema: the result's.
        out: where to.
    """

    def __init__(self, schema: pa.Schema, out: TextIO) -> None:
        self._out: Final = out
        self._names: Final = [readable_name(name) for name in schema.names]
        self._to_right: Final = [_is_number(field) for field in schema]
        self._widths: list[int] | None = None
        self._first: Final[list[Row]] = []

    def add(self, rows: Iterable[Row]) -> None:
        """Write rows, or keep them until their widths are known."""
        if self._widths is None:
            self._first.extend(rows)
            if len(self._first) >= _ALIGNED:
                self.end()
        else:
            self._out.writelines(map(self._line, rows))

    def end(self) -> None:
        """Write what is kept."""
        if self._widths is not None:
            return
        columns = list(zip(*self._first, strict=True)) or [()] * len(self._names)
        self._widths = [
            min(_WIDEST, max(map(_width, chain([name], map(_text, values)))))
            for name, values in zip(self._names, columns, strict=True)
        ]
        self._out.write(self._line(self._names))
        self._out.write("  ".join("─" * width for width in self._widths) + "\n")
        self._out.writelines(map(self._line, self._first))
        self._first.clear()

    def _line(self, row: Sequence[Any]) -> str:
        cells = [
            _padded(_text(value), width, to_right=to_right)
            for value, width, to_right in zip(row, self._widths or (), self._to_right, strict=True)
        ]
        return "  ".join(cells).rstrip() + "\n"


def _text(value: Any) -> str:
    """A cell in one line, without characters that a terminal would act on."""
    if value is None:
        return "null"
    text: str = value
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _width(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


def _padded(text: str, width: int, *, to_right: bool) -> str:
    space = " " * (width - _width(text))
    return f"{space}{text}" if to_right else f"{text}{space}"
