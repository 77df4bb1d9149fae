"""`POST /v1/query`: one SQL query, answered as JSON or as a stream of Arrow batches.

A query ends with its client: when that goes away, the query is cancelled and lets its plugins go,
as it does at its row limit and at its time limit.
"""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from starlette.responses import Response

from epochal.errors import EpochalError, FunctionError
from epochal.observe.query_stats import Use
from epochal.observe.tracing import query_span
from epochal.server.problem_details import answer_to, answering
from epochal.server.request_bodies import (
    number_of,
    params_of,
    read_json,
    service_of,
    text_of,
    wrong,
)
from epochal.server.responses import CancelOnDisconnect
from epochal.server.result_chunks import JsonRows, pieces
from epochal.server.schemas import epoch_of, provenance_of
from epochal.sql.json_values import json_field

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from epochal.server.responses import Parts
    from epochal.server.state import Service
    from epochal.sql import Result

ARROW: Final = "application/vnd.apache.arrow.stream"
_FIELDS: Final = ("sql", "params", "limit", "timeout")
_TRUNCATED: Final = {"epochal.truncated": "true"}


@dataclass(frozen=True, slots=True)
class Question:
    """What a client asks."""

    sql: str
    params: list[Any] | dict[str, Any] | None
    limit: int
    timeout: float


@answering
async def query(request: Request) -> Response:
    """Answer one query."""
    service = service_of(request)
    service.check_serving()
    question = await _read(request, service)
    wanted = request.headers.get("accept", "")
    answer = _arrow_answer if ARROW in wanted else _json_answer
    return CancelOnDisconnect(
        answer(service, question), streamed_s=question.timeout, whole_s=service.limits.query_s
    )


async def _read(request: Request, service: Service) -> Question:
    limits = service.limits
    asked = await read_json(request, limits.request_bytes, _FIELDS)
    if "sql" not in asked:
        wrong("the field sql is missing")
    rows, seconds = asked.get("limit"), asked.get("timeout")
    return Question(
        text_of(asked["sql"], "sql"),
        params_of(asked.get("params")),
        limits.rows
        if rows is None
        else int(number_of(rows, "limit", most=limits.rows, integer=True)),
        limits.query_s if seconds is None else number_of(seconds, "timeout", most=limits.query_s),
    )


async def _json_answer(service: Service, question: Question) -> Parts:
    try:
        content, headers = await _document(service, question)
    except EpochalError as error:
        yield answer_to(error)
        return
    yield Response(content, headers=headers, media_type="application/json")


async def _document(service: Service, question: Question) -> tuple[bytes, dict[str, str]]:
    started = perf_counter()
    async with _running(service, question) as result:
        rows = JsonRows(service.limits.answer_bytes)
        async with aclosing(pieces(result, question.limit)) as found:
            async for piece, more in found:
                if not rows.add(piece):
                    break
                rows.truncated = more
        columns = [json_field(one) for one in result.schema]
        facts = {
            "truncated": rows.truncated,
            "elapsed_ms": round((perf_counter() - started) * 1000.0, 3),
            "epoch": epoch_of(result.epoch),
            "provenance": provenance_of(result.provenance),
        }
        head = json.dumps({"columns": columns}, ensure_ascii=False).encode()
        tail = json.dumps(facts, ensure_ascii=False).encode()
        document = b'%s, "rows": %s, %s' % (head[:-1], bytes(rows), tail[1:])
        return document, _epoch_headers(result)


async def _arrow_answer(service: Service, question: Question) -> Parts:
    """The first batch is read before the head is sent: what goes wrong by then has a status."""
    sink = io.BytesIO()
    begun = False
    try:
        async with _running(service, question) as result:
            schema, limits = result.schema.with_metadata(_metadata(result)), service.limits
            with pa.ipc.new_stream(sink, schema) as writer:
                async for piece, facts in _within(result, question.limit, limits.answer_bytes):
                    writer.write_batch(piece, custom_metadata=facts)
                    if not begun:
                        begun = True
                        yield _arrow_headers(result)
                    yield _taken(sink)
            if not begun:
                begun = True
                yield _arrow_headers(result)
            yield _taken(sink)
    except EpochalError as error:
        if begun:
            raise
        yield answer_to(error)


async def _within(
    result: Result, rows: int, left: int
) -> AsyncIterator[tuple[pa.RecordBatch, dict[str, str] | None]]:
    """Pieces of a result, until they have so many bytes; the last one's facts say what was cut."""
    async for piece, more in pieces(result, rows):
        if left <= 0 and (piece.num_rows or more):
            yield piece.slice(0, 0), _TRUNCATED
            return
        left -= piece.nbytes
        yield piece, _TRUNCATED if more else None


def _taken(sink: io.BytesIO) -> bytes:
    content = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return content


def _metadata(result: Result) -> dict[str, str]:
    return {
        "epochal.epoch.number": str(result.epoch.number),
        "epochal.epoch.id": result.epoch.id,
        "epochal.provenance": json.dumps(provenance_of(result.provenance)),
        "epochal.functions": json.dumps({one.function: one.kind for one in result.provenance}),
    }


def _epoch_headers(result: Result) -> dict[str, str]:
    return {"epochal-epoch": str(result.epoch.number), "epochal-epoch-id": result.epoch.id}


def _arrow_headers(result: Result) -> list[tuple[bytes, bytes]]:
    headers = {**_epoch_headers(result), "content-type": ARROW}
    return [(name.encode(), value.encode()) for name, value in headers.items()]


@asynccontextmanager
async def _running(service: Service, question: Question) -> AsyncIterator[Result]:
    """The query, counted from its begin to its end."""
    meter, started = service.meter, perf_counter()
    uses: frozenset[Use] = frozenset()
    outcome, blamed = "internal", None
    meter.began()
    try:
        database = service.database
        with query_span(question.sql) as planned:
            asking = database.aquery(question.sql, question.params, timeout=question.timeout)
            async with await asking as result:
                planned(result)
                uses = frozenset(Use(one.plugin, one.generation) for one in result.provenance)
                meter.pinned(uses)
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
        meter.ended(uses, seconds * 1000.0, blamed=blamed, failed=outcome != "ok")
        service.metrics.query_ended(outcome, seconds)
