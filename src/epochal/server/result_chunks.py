"""The rows of an answer within its limits: so many rows, and so many bytes.

Batches come in thousands of rows, of any size: they are gone through in pieces of about a megabyte,
so that the limit of bytes bounds the memory that an answer takes and not only what is sent.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from epochal.sql.json_values import json_columns

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    import pyarrow as pa

    from epochal.sql import Result

_PIECE: Final = 1 << 20
_BETWEEN: Final = b", "
_write: Final = json.JSONEncoder(ensure_ascii=False).encode


async def pieces(result: Result, rows: int) -> AsyncGenerator[tuple[pa.RecordBatch, bool], None]:
    """A result's first rows in pieces, and with each whether rows were cut off after it."""
    left = rows
    async for batch in result:
        kept = batch.slice(0, left)
        is_cut = kept.num_rows < batch.num_rows
        left -= kept.num_rows
        for piece, is_last in _pieces(kept):
            yield piece, is_cut and is_last
        if is_cut:
            return


def _pieces(batch: pa.RecordBatch) -> Iterator[tuple[pa.RecordBatch, bool]]:
    total = batch.num_rows
    step = max(1, total * _PIECE // max(batch.nbytes, 1))
    for start in range(0, max(total, 1), step):
        yield batch.slice(start, step), start + step >= total


class JsonRows:
    """Rows as JSON, up to a limit of bytes.

    Args:
        limit: how many bytes; a row that does not fit is left out, and all after it.

    Attributes:
        truncated: whether rows were left out.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._rows: Final[list[bytes]] = []
        self.truncated = False

    def add(self, piece: pa.RecordBatch) -> bool:
        """Add rows; returns whether all of them fitted."""
        for row in zip(*json_columns(piece), strict=True):
            written = _write(row).encode()
            self._left -= len(written) + len(_BETWEEN)
            if self._left < 0:
                self.truncated = True
                return False
            self._rows.append(written)
        return True

    def __bytes__(self) -> bytes:
        return b"[%s]" % _BETWEEN.join(self._rows)
