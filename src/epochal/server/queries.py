"""`POST /v1/query`: one SQL query, answered as JSON or as a stream of Arrow batches.

A query ends with its client: when that goes away, the query is cancelled and lets its plugins go,
as it does at its row limit and at its time limit.
"""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from starlette.responses import Response

from epochal.errors import EpochalError, FunctionError
from epochal.otel import query_span
from epochal.server.documents import epoch_of, provenance_of
from epochal.server.meter import Use
from epochal.server.problems import answer_to, answering, logger
from epochal.server.requests import (
    number_of,
    params_of,
    read_json,
    service_of,
    text_of,
    wrong,
)
from epochal.sql import sql_name
from epochal.sql.plain import plain_columns

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from epochal.server.service import Service
    from epochal.sql import Result

    Parts = AsyncGenerator[Any, None]

ARROW: Final = "application/vnd.apache.arrow.stream"
_FIELDS: Final = ("sql", "params", "limit", "timeout")


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
    return _WhileConnected(answer(service, question))


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


class _WhileConnected(Response):
    """Sends what an iterator gives (a response, or headers and a body); ends with the client."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self._parts: Final = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._send(scope, receive, send))
        gone = asyncio.ensure_future(_client_gone(receive))
        try:
            await asyncio.wait([sending, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not sending.done():
                sending.cancel()
                await asyncio.wait([sending])
        if not sending.cancelled():
            sending.result()

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            head = await anext(self._parts)
            if isinstance(head, Response):
                await head(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 200, "headers": head})
            async for part in self._parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except EpochalError as error:
            # The stream breaks off without its end, which no reader can take for one.
            logger.info("a query's stream broke off: [%s] %s", error.code, error)
        finally:
            await self._parts.aclose()


async def _client_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


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
        rows: list[Any] = []
        truncated = False
        async for batch, more in _limited(result, question.limit):
            rows += zip(*plain_columns(batch), strict=True)
            truncated = more
        document = {
            "columns": [{"name": one.name, "type": sql_name(one.type)} for one in result.schema],
            "rows": rows,
            "truncated": truncated,
            "elapsed_ms": round((perf_counter() - started) * 1000.0, 3),
            "epoch": epoch_of(result.epoch),
            "provenance": provenance_of(result.provenance),
        }
        return json.dumps(document, ensure_ascii=False).encode(), _epoch_headers(result)


async def _arrow_answer(service: Service, question: Question) -> Parts:
    """The first batch is read before the head is sent: what goes wrong by then has a status."""
    sink = io.BytesIO()
    begun = False
    try:
        async with _running(service, question) as result:
            facts = _metadata(result)
            with pa.ipc.new_stream(sink, result.schema.with_metadata(facts)) as writer:
                async for batch, more in _limited(result, question.limit):
                    last = {"epochal.truncated": "true"} if more else None
                    writer.write_batch(batch, custom_metadata=last)
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


async def _limited(result: Result, limit: int) -> AsyncIterator[tuple[pa.RecordBatch, bool]]:
    """Batches until there are so many rows, and with each whether rows were cut off after it."""
    left = limit
    async for batch in result:
        if batch.num_rows > left:
            yield batch.slice(0, left), True
            return
        left -= batch.num_rows
        yield batch, False


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
