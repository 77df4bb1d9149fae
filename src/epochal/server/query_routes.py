"""`POST /v1/query`: one SQL query, answered as JSON or as a stream of Arrow batches.

A query ends with its client: when that goes away, the query is cancelled and lets its plugins go,
as it does at its row limit and at its time limit.
"""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import aclosing, asynccontextmanager
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import msgspec
import pyarrow as pa

from epochal.errors import EpochalError, FunctionError
from epochal.observe.query_stats import GenerationUse
from epochal.observe.tracing import query_span
from epochal.server import schemas
from epochal.server.decoding import preferred, read_json
from epochal.server.engine_health import check_engine
from epochal.server.problem_details import answer_to
from epochal.server.responses import (
    CancelOnDisconnect,
    WholeAnswer,
    json_response,
    unless_gone,
)
from epochal.server.result_chunks import ChunkLimits, JsonRows
from epochal.server.schemas import QueryRequest, encode, version_facts
from epochal.server.security import Right
from epochal.server.state import service_of
from epochal.sql.json_values import json_field

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
    from contextlib import AbstractAsyncContextManager

    from starlette.requests import Request
    from starlette.responses import Response

    from epochal.server.responses import Parts
    from epochal.server.state import ServiceState
    from epochal.sql import Provenance, Result

    Run = Callable[..., AbstractAsyncContextManager[Result]]

ARROW: Final = "application/vnd.apache.arrow.stream"
_MEMO: Final = "epochal.server.answer"
_TRUNCATED: Final = {"epochal.truncated": "true"}


async def run_query(request: Request) -> Response:
    """Answer one query."""
    service = service_of(request)
    service.check_serving()
    check_engine(service)
    query, limits = await read_json(request, QueryRequest), service.limits
    rows = limits.rows if query.limit is None else min(query.limit, limits.rows)
    timeout = limits.query_s if query.timeout is None else min(query.timeout, limits.query_s)
    accepted = preferred(request.headers.get("accept", ""), ("application/json", ARROW))
    run = partial(_running, service, query, timeout)
    # Where the files of the tables lie is nothing to those who may only query.
    cut = ChunkLimits(rows, hide_files=request.scope["right"] is not Right.CHANGE)
    if accepted == ARROW:
        parts = _arrow_answer(run, cut, limits.answer_bytes)
        return CancelOnDisconnect(parts, streamed_s=timeout, whole_s=limits.query_s)
    answer = _json_answer(run, cut, limits.answer_bytes)
    return WholeAnswer(await unless_gone(request.receive, answer), limits.query_s)


async def _json_answer(run: Run, cut: ChunkLimits, max_bytes: int) -> Response:
    answer = _JsonAnswer(cut, max_bytes)
    try:
        async with run(then=answer.read_small) as result:
            if answer.response is None:
                async with aclosing(cut.of(result)) as chunks:
                    async for chunk, has_more in chunks:
                        if not answer.add(chunk, has_more=has_more):
                            break
                answer.finish(result)
    except EpochalError as error:
        return answer_to(error)
    assert answer.response is not None
    return answer.response


class _JsonAnswer:
    """A query's answer as JSON.

    Attributes:
        response: the answer, once it is whole.
    """

    def __init__(self, cut: ChunkLimits, max_bytes: int) -> None:
        self.response: Response | None = None
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
        self.response = json_response(answer, headers=facts.headers)


class _AnswerFacts(NamedTuple):
    """What the answers to one text in one epoch have in common."""

    columns: msgspec.Raw
    provenance: msgspec.Raw
    headers: dict[str, str]

    @classmethod
    def of(cls, result: Result) -> _AnswerFacts:
        """The facts of a result."""
        columns = [json_field(field) for field in result.schema]
        return cls(
            msgspec.Raw(encode(msgspec.convert(columns, list[schemas.ColumnInfo]))),
            msgspec.Raw(encode(_provenance_of(result.provenance))),
            _epoch_headers(result),
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
                        yield _arrow_headers(result)
                    yield _take(sink)
            if not has_begun:
                has_begun = True
                yield _arrow_headers(result)
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


def _epoch_headers(result: Result) -> dict[str, str]:
    return {"epochal-epoch": str(result.epoch.number), "epochal-epoch-id": result.epoch.id}


def _arrow_headers(result: Result) -> list[tuple[bytes, bytes]]:
    headers = {**_epoch_headers(result), "content-type": ARROW}
    return [(name.encode(), value.encode()) for name, value in headers.items()]


@asynccontextmanager
async def _running(
    service: ServiceState,
    query: QueryRequest,
    timeout: float,
    then: Callable[[Result], object] | None = None,
) -> AsyncIterator[Result]:
    """The query's result, while the figures count it."""
    stats, started = service.query_stats, perf_counter()
    outcome, blamed = "internal", None
    running = stats.began()

    def note_planned(result: Result) -> None:  # on the thread that planned it
        running.uses = frozenset(
            GenerationUse(origin.plugin, origin.generation) for origin in result.provenance
        )
        if then is not None:
            then(result)

    try:
        with query_span(query.sql) as set_result:
            run = service.database.aquery(
                query.sql, query.params, timeout=timeout, then=note_planned
            )
            async with await run as result:
                set_result(result)
                yield result
        outcome = "ok"
    except (asyncio.CancelledError, GeneratorExit):
        outcome = "cancelled"
        raise
    except EpochalError as error:
        outcome = error.code
        if isinstance(error, FunctionError):
            blamed = error.function.partition(".")[0]
        raise
    finally:
        seconds = perf_counter() - started
        stats.ended(running, seconds * 1000.0, blamed=blamed, failed=outcome != "ok")
        service.metrics.query_ended(outcome, seconds)
