"""`POST /v1/query`: one SQL query, answered as JSON or as a stream of Arrow batches.

A query ends with its client: when that goes away, the query is cancelled and lets its plugins go,
as it does at its row limit and at its time limit.
"""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import aclosing
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import msgspec
import pyarrow as pa

from epochal.errors import EpochalError, FunctionError
from epochal.observe.query_stats import GenerationUse
from epochal.observe.tracing import is_traced, query_span
from epochal.server import schemas
from epochal.server.decoding import header, preferred, read_json
from epochal.server.engine_health import check_engine
from epochal.server.problem_details import answer_to
from epochal.server.responses import (
    CancelOnDisconnect,
    ReadyAnswer,
    ReadyHead,
    WholeAnswer,
    unless_gone,
)
from epochal.server.result_chunks import ChunkLimits, JsonRows
from epochal.server.schemas import QueryRequest, encode, version_facts
from epochal.server.security import HEADERS, Right
from epochal.server.state import service_of
from epochal.sql.json_values import json_field

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from starlette.requests import Request
    from starlette.responses import Response

    from epochal.server.responses import Parts
    from epochal.server.state import ServiceState
    from epochal.sql import Provenance, Result

    Run = Callable[..., AbstractAsyncContextManager[Result]]

ARROW: Final = "application/vnd.apache.arrow.stream"
_JSON: Final = "application/json"
_TYPES: Final = (_JSON, ARROW)
_MEMO: Final = "epochal.server.answer"
_USES: Final = "epochal.server.uses"
_TRUNCATED: Final = {"epochal.truncated": "true"}


async def run_query(request: Request) -> Response:
    """Answer one query."""
    service = service_of(request)
    service.check_serving()
    check_engine(service)
    query, limits = await read_json(request, QueryRequest), service.limits
    rows = limits.rows if query.limit is None else min(query.limit, limits.rows)
    timeout = limits.query_s if query.timeout is None else min(query.timeout, limits.query_s)
    accepted = preferred(header(request, b"accept"), _TYPES)
    run = partial(_Running, service, query, timeout)
    # Where the files of the tables lie is nothing to those who may only query.
    cut = ChunkLimits(rows, hide_files=request.scope["right"] is not Right.CHANGE)
    if accepted == ARROW:
        parts = _arrow_answer(run, cut, limits.answer_bytes)
        return CancelOnDisconnect(parts, streamed_s=timeout, whole_s=limits.query_s)
    answer = _json_answer(run, cut, limits.answer_bytes)
    return WholeAnswer(await unless_gone(request.receive, answer), limits.query_s)


async def _json_answer(run: Run, cut: ChunkLimits, max_bytes: int) -> ReadyAnswer | Response:
    answer = _JsonAnswer(cut, max_bytes)
    try:
        async with run(then=answer.read_small) as result:
            if answer.ready is None:
                async with aclosing(cut.of(result)) as chunks:
                    async for chunk, has_more in chunks:
                        if not answer.add(chunk, has_more=has_more):
                            break
                answer.finish(result)
    except EpochalError as error:
        return answer_to(error)
    assert answer.ready is not None
    return answer.ready


class _JsonAnswer:
    """A query's answer as JSON.

    Attributes:
        ready: the answer, once it is whole.
    """

    __slots__ = ("_cut", "_rows", "_started", "ready")

    def __init__(self, cut: ChunkLimits, max_bytes: int) -> None:
        self.ready: ReadyAnswer | None = None
        self._cut: Final = cut
        self._rows: Final = JsonRows(max_bytes)
        self._started: Final = perf_counter()

    def read_small(self, result: Result) -> None:
        """Make the answer of a small result at once, on the thread that planned it."""
        if result.is_small:
            for chunk, has_more in self._cut.of_small(result):
                if not self.add(chunk, has_more=has_more):
                    break
            self.finish(result)

    def add(self, chunk: pa.RecordBatch, *, has_more: bool) -> bool:
        """Add rows; whether more may follow."""
        if not self._rows.add(chunk):
            return False
        self._rows.truncated = has_more
        return True

    def finish(self, result: Result) -> None:
        """Make the answer of the rows."""
        facts: _AnswerFacts | None = result.memo.get(_MEMO)
        if facts is None:
            facts = result.memo[_MEMO] = _AnswerFacts.of(result)
        answer = schemas.QueryAnswer(
            columns=cast("list[schemas.ColumnInfo]", facts.columns),
            rows=msgspec.Raw(bytes(self._rows)),
            truncated=self._rows.truncated,
            elapsed_ms=round((perf_counter() - self._started) * 1000.0, 3),
            epoch=result.epoch,
            provenance=cast("list[schemas.PluginProvenance]", facts.provenance),
        )
        self.ready = ReadyAnswer(facts.head, encode(answer))


class _AnswerFacts(NamedTuple):
    """What the answers to one text in one epoch have in common."""

    columns: msgspec.Raw
    provenance: msgspec.Raw
    head: ReadyHead

    @classmethod
    def of(cls, result: Result) -> _AnswerFacts:
        """The facts of a result."""
        columns = [json_field(field) for field in result.schema]
        return cls(
            msgspec.Raw(encode(msgspec.convert(columns, list[schemas.ColumnInfo]))),
            msgspec.Raw(encode(_provenance_of(result.provenance))),
            ReadyHead([*_fields(result, _JSON), *HEADERS]),
        )


async def _arrow_answer(run: Run, cut: ChunkLimits, max_bytes: int) -> Parts:
    """The head is sent with the first batch, so an error before that has a status of its own."""
    sink = io.BytesIO()
    has_begun = False
    try:
        async with run() as result:
            schema = result.schema.with_metadata(_metadata(result))
            with pa.ipc.new_stream(sink, schema) as writer:
                async for chunk, facts in _within(cut.of(result), max_bytes):
                    writer.write_batch(chunk, custom_metadata=facts)
                    if not has_begun:
                        has_begun = True
                        yield _fields(result, ARROW)
                    yield _take(sink)
            if not has_begun:
                has_begun = True
                yield _fields(result, ARROW)
            yield _take(sink)
    except EpochalError as error:
        if has_begun:
            raise
        yield answer_to(error)


async def _within(
    chunks: AsyncGenerator[tuple[pa.RecordBatch, bool], None], bytes_left: int
) -> AsyncIterator[tuple[pa.RecordBatch, dict[str, str] | None]]:
    """Chunks up to a limit of bytes; the last one's metadata says if rows follow."""
    async for chunk, has_more in chunks:
        if bytes_left <= 0 and (chunk.num_rows or has_more):
            yield chunk.slice(0, 0), _TRUNCATED
            return
        bytes_left -= chunk.nbytes
        yield chunk, _TRUNCATED if has_more else None


def _take(sink: io.BytesIO) -> bytes:
    content = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return content


def _provenance_of(provenance: Iterable[Provenance]) -> list[schemas.PluginProvenance]:
    """An entry a plugin, with the functions that the SQL calls."""
    entries: dict[str, schemas.PluginProvenance] = {}
    for origin in provenance:
        if origin.plugin not in entries:
            entries[origin.plugin] = schemas.PluginProvenance(**version_facts(origin), functions=[])
        entries[origin.plugin].functions.append(origin.function)
    return list(entries.values())


def _metadata(result: Result) -> dict[str, str]:
    return {
        "epochal.epoch.number": str(result.epoch.number),
        "epochal.epoch.id": result.epoch.id,
        "epochal.provenance": encode(_provenance_of(result.provenance)).decode(),
        "epochal.functions": json.dumps(
            {origin.function: origin.kind for origin in result.provenance}
        ),
    }


def _fields(result: Result, media_type: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"epochal-epoch", str(result.epoch.number).encode()),
        (b"epochal-epoch-id", result.epoch.id.encode()),
        (b"content-type", media_type.encode()),
    ]


class _Running:
    """A query under way, as a context manager over its result, while the figures count it.

    Not a generator under `asynccontextmanager`: that costs a small query 3 µs of the loop's time.

    Args:
        service: answers the query.
        query: the query.
        timeout: seconds that it may take.
        then: is called with the result, on the thread that planned it.
    """

    __slots__ = (
        "_counted",
        "_query",
        "_result",
        "_service",
        "_span",
        "_started",
        "_then",
        "_timeout",
    )

    def __init__(
        self,
        service: ServiceState,
        query: QueryRequest,
        timeout: float,
        then: Callable[[Result], object] | None = None,
    ) -> None:
        self._service: Final = service
        self._query: Final = query
        self._timeout: Final = timeout
        self._then: Final = then
        self._started: Final = perf_counter()
        self._counted: Final = service.query_stats.began()
        self._span: Final = query_span(query.sql) if is_traced() else None
        self._result: Result | None = None

    async def __aenter__(self) -> Result:
        query = self._query
        try:
            describe = self._span.__enter__() if self._span is not None else None
            run = self._service.database.aquery(
                query.sql, query.params, timeout=self._timeout, then=self._planned
            )
            result = self._result = await run
            if describe is not None:
                describe(result)
        except BaseException as error:
            self._end(error)
            raise
        return result

    def _planned(self, result: Result) -> None:
        """Note what the query uses; on the thread that planned it."""
        self._counted.uses = _uses_of(result)
        if self._then is not None:
            self._then(result)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if self._result is not None:
            self._result.close()
        outcome, blamed = _outcome_of(error)
        seconds = perf_counter() - self._started
        self._service.query_stats.ended(
            self._counted, seconds * 1000.0, blamed=blamed, failed=error is not None
        )
        self._service.metrics.query_ended(outcome, seconds)
        if self._span is not None:
            self._span.__exit__(type(error) if error is not None else None, error, None)


def _outcome_of(error: BaseException | None) -> tuple[str, str | None]:
    """A query's outcome for the figures, and the plugin of the function that failed."""
    if error is None:
        return "ok", None
    if isinstance(error, FunctionError):
        return error.code, error.function.partition(".")[0]
    if isinstance(error, EpochalError):
        return error.code, None
    is_cancelled = isinstance(error, (asyncio.CancelledError, GeneratorExit))
    return "cancelled" if is_cancelled else "internal", None


def _uses_of(result: Result) -> frozenset[GenerationUse]:
    uses: frozenset[GenerationUse] | None = result.memo.get(_USES)
    if uses is None:
        uses = result.memo[_USES] = frozenset(
            GenerationUse(origin.plugin, origin.generation) for origin in result.provenance
        )
    return uses
