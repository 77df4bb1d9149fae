"""The rows of an answer within its limits of rows and of bytes.

The engine's batches have thousands of rows of any size. They are cut into chunks of about a
megabyte, so that the limit of bytes bounds the memory that an answer takes, and not only its size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from epochal.server.schemas import encode
from epochal.sql.json_values import json_columns

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from epochal.sql import Result

_CHUNK: Final = 1 << 20  # bytes
_FILES: Final = r"file_groups=\{.*\}"
"""In the text of a plan: the paths of a table's files, up to the end of the line."""


class ChunkLimits:
    """Cuts a result into chunks, up to its limit of rows.

    Args:
        rows: the number of rows.
        hide_files: whether to leave out the paths of files, which an EXPLAIN shows.
    """

    def __init__(self, rows: int, *, hide_files: bool) -> None:
        self._left = rows
        self._hide_files: Final = hide_files

    async def of(self, result: Result) -> AsyncGenerator[tuple[pa.RecordBatch, bool], None]:
        """A result's first rows in chunks, and with each whether rows were cut off after it."""
        async for batch in result:
            for chunk, is_cut in self._cut(batch, result):
                yield chunk, is_cut
                if is_cut:
                    return

    def of_small(self, result: Result) -> Iterator[tuple[pa.RecordBatch, bool]]:
        """`of`, for a thread."""
        for batch in result:
            # One chunk, as mostly: without the steps below. A batch that is cut from a larger one
            # looks larger; its exact size takes 2 µs, a percent of what Python does for a query.
            is_short = batch.num_rows <= self._left and batch.get_total_buffer_size() <= _CHUNK
            if is_short and not result.explains:
                self._left -= batch.num_rows
                yield batch, False
                continue
            for chunk, is_cut in self._cut(batch, result):
                yield chunk, is_cut
                if is_cut:
                    return

    def _cut(
        self, engine_batch: pa.RecordBatch, result: Result
    ) -> Iterator[tuple[pa.RecordBatch, bool]]:
        is_plan = self._hide_files and result.explains
        batch = _without_files(engine_batch) if is_plan else engine_batch
        is_cut = batch.num_rows > self._left
        first = batch.slice(0, self._left) if is_cut else batch
        self._left -= first.num_rows
        for chunk, is_last in _split(first):
            yield chunk, is_cut and is_last


def _without_files(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = [
        pc.replace_substring_regex(column, _FILES, "file_groups={…}")
        if pa.types.is_string(column.type)
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _split(batch: pa.RecordBatch) -> Iterator[tuple[pa.RecordBatch, bool]]:
    total = batch.num_rows
    step = max(1, total * _CHUNK // max(batch.nbytes, 1))
    if step >= total:  # also without rows: the schema of such a result is an answer, too
        yield batch, True
        return
    for start in range(0, total, step):
        yield batch.slice(start, step), start + step >= total


class JsonRows:
    """Rows as JSON, up to a limit of bytes.

    Args:
        limit: the number of bytes; a row that does not fit is left out, and all after it.

    Attributes:
        truncated: whether rows were left out.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._rows: Final[list[bytes]] = []
        self.truncated = False

    def add(self, chunk: pa.RecordBatch) -> bool:
        """Add rows; returns whether all of them fitted."""
        for row in zip(*json_columns(chunk), strict=True):
            text = encode(row)
            self._left -= len(text) + 1
            if self._left < 0:
                self.truncated = True
                return False
            self._rows.append(text)
        return True

    def __bytes__(self) -> bytes:
        return b"[%s]" % b",".join(self._rows)
