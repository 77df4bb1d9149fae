"""The result of a query that a service streams, with the interface of `epochal.sql.Result`."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from epochal.cli.client import ARROW
from epochal.cli.console import warn
from epochal.errors import HostError
from epochal.sql import EpochRef, Provenance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from epochal.cli.client import Client, Stream

_CHUNK: Final = 1 << 16


class RemoteResult:
    """The rows of a query that a service runs; a context manager.

    Attributes:
        schema: its columns.
        epoch: the epoch that it was planned in.
        provenance: the code behind each plugin function.
    """

    def __init__(self, client: Client, sql: str, timeout: float | None) -> None:
        body: dict[str, Any] = {"sql": sql} | ({"timeout": timeout} if timeout else {})
        self._stream: Final[Stream] = client.stream(
            "POST", "/v1/query", json=body, headers={"accept": ARROW}
        )
        self._batches: pa.RecordBatchStreamReader
        self.schema: pa.Schema
        self.epoch: EpochRef
        self.provenance: tuple[Provenance, ...]

    def __enter__(self) -> RemoteResult:
        content = _ChunkFile(self._stream.__enter__().content())
        self._batches = pa.ipc.open_stream(content)
        self.schema = self._batches.schema
        facts = {name.decode(): text.decode() for name, text in self.schema.metadata.items()}
        number, digest = facts["epochal.epoch.number"], facts["epochal.epoch.id"]
        self.epoch = EpochRef(int(number), digest)
        kinds = json.loads(facts["epochal.functions"])
        self.provenance = tuple(
            Provenance(
                function=function,
                kind=kinds[function],
                plugin=entry["plugin"],
                version=entry["version"],
                digest=entry["digest"],
                generation=entry["generation"],
            )
            for entry in json.loads(facts["epochal.provenance"])
            for function in entry["functions"]
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.__exit__(*exc)

    async def __aiter__(self) -> AsyncIterator[pa.RecordBatch]:
        # It never suspends: see `ask_now`.
        while True:
            try:
                batch, facts = self._batches.read_next_batch_with_custom_metadata()
            except StopIteration:
                return
            except pa.ArrowInvalid as error:
                raise HostError(f"the answer broke off before its end ({error})") from None
            yield batch
            if facts is not None and facts.get(b"epochal.truncated") == b"true":
                warn("the service truncated the rows at its limit of bytes or rows (serve --rows)")


class _ChunkFile(io.RawIOBase):
    """Chunks of bytes as a file that Arrow reads."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts: Final = parts
        self._left = b""

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill some of a buffer; 0 at the end."""
        if not self._left:
            self._left = next(self._parts, b"")
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count
