"""`POST /v1/query`: one SQL query, answered as JSON or as a stream of Arrow batches.

A query ends with its client: when that goes away, the query is cancelled and lets its plugins go,
as it does at its row limit and at its time limit.
"""

from __future__ import annotations

import asyncio
import io
import json
from abc import ABC, abstractmethod
from contextlib import aclosing
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar, cast

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
    from collections.abc import Callable, Iterable
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


async def _arrow_answer(run: Run, cut: ChunkLimits, max_bytes: int) -> Parts:
    """The head is sent with the first batch, so an error before that has a status of its own."""
    answer = _ArrowAnswer(cut, max_bytes)
    has_begun = False
    try:
        async with run(then=answer.read_small) as result:
            if answer.ready is None:
                head = answer.begin(result)
                async with aclosing(cut.of(result)) as chunks:
                    async for chunk, has_more in chunks:
                        may_follow = answer.add(chunk, has_more=has_more)
                        if not has_begun:
                            has_begun = True
                            yield head
                        yield answer.take()
                        if not may_follow:
                            break
                if not has_begun:
                    has_begun = True
                    yield head
                yield answer.end()
    except EpochalError as error:
        if has_begun:
            raise
        yield answer_to(error)
    else:
        if answer.ready is not None:
            yield answer.ready


class _Answer(ABC):
    """A query's answer, as it is made.

    Attributes:
        ready: the answer, once it is whole.
    """

    __slots__ = ("_cut", "ready")

    def __init__(self, cut: ChunkLimits) -> None:
        self.ready: ReadyAnswer | None = None
        self._cut: Final = cut

    def read_small(self, result: Result) -> None:
        """Make the answer of a small result at once, on the thread that planned it."""
        if result.is_small:
            self.begin(result)
            for chunk, has_more in self._cut.of_small(result):
                if not self.add(chunk, has_more=has_more):
                    break
            self.finish(result)

    @abstractmethod
    def begin(self, result: Result) -> object:
        """Prepare for the rows."""

    @abstractmethod
    def add(self, chunk: pa.RecordBatch, *, has_more: bool) -> bool:
        """Add rows; whether more may follow."""

    @abstractmethod
    def finish(self, result: Result) -> None:
        """Make the answer of the rows."""


class _JsonAnswer(_Answer):
    """A query's answer as JSON."""

    __slots__ = ("_rows", "_started")

    def __init__(self, cut: ChunkLimits, max_bytes: int) -> None:
        super().__init__(cut)
        self._rows: Final = JsonRows(max_bytes)
        self._started: Final = perf_counter()

    def begin(self, result: Result) -> None:
        """Do nothing: the columns come behind the rows."""

    def add(self, chunk: pa.RecordBatch, *, has_more: bool) -> bool:
        """Add rows; whether more may follow."""
        if not self._rows.add(chunk):
            return False
        self._rows.truncated = has_more
        return True

    def finish(self, result: Result) -> None:
        """Make the answer of the rows."""
        facts = _kept(result, _AnswerFacts)
        answer = schemas.QueryAnswer(
            columns=cast("list[schemas.ColumnInfo]", facts.columns),
            rows=msgspec.Raw(bytes(self._rows)),
            truncated=self._rows.truncated,
            elapsed_ms=round((perf_counter() - self._started) * 1000.0, 3),
            epoch=result.epoch,
            provenance=cast("list[schemas.PluginProvenance]", facts.provenance),
        )
        self.ready = ReadyAnswer(facts.head, encode(answer))


class _ArrowAnswer(_Answer):
    """A query's answer as a stream of Arrow's."""

    __slots__ = ("_left", "_sink", "_writer")

    def __init__(self, cut: ChunkLimits, max_bytes: int) -> None:
        super().__init__(cut)
        self._left = max_bytes
        self._sink: Final = io.BytesIO()

    def begin(self, result: Result) -> ReadyHead:
        """Write the columns; returns the head of the answer."""
        facts = _kept(result, _ArrowFacts)
        self._writer = pa.ipc.new_stream(self._sink, facts.schema)
        return facts.head

    def add(self, chunk: pa.RecordBatch, *, has_more: bool) -> bool:
        """Add rows, whose metadata says if some were left out; whether more may follow."""
        is_full = self._left <= 0 and (chunk.num_rows > 0 or has_more)
        rows = chunk.slice(0, 0) if is_full else chunk
        self._left -= rows.nbytes
        self._writer.write_batch(rows, custom_metadata=_TRUNCATED if is_full or has_more else None)
        return not is_full

    def take(self) -> bytes:
        """The bytes since the last call."""
        content = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return content

    def end(self) -> bytes:
        """The last bytes."""
        self._writer.close()
        return self.take()

    def finish(self, result: Result) -> None:
        """Make the answer of the rows."""
        self.ready = ReadyAnswer(_kept(result, _ArrowFacts).head, self.end())


class _AnswerFacts(NamedTuple):
    """What the answers to one text in one epoch have in common, as JSON."""

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
            _head(result, _JSON),
        )


class _ArrowFacts(NamedTuple):
    """What they have in common as a stream of Arrow's."""

    schema: pa.Schema
    head: ReadyHead

    @classmethod
    def of(cls, result: Result) -> _ArrowFacts:
        """The facts of a result."""
        return cls(result.schema.with_metadata(_metadata(result)), _head(result, ARROW))


Facts = TypeVar("Facts", _AnswerFacts, _ArrowFacts)


def _kept(result: Result, kind: type[Facts]) -> Facts:
    """A result's facts, made once for a plan that is kept."""
    facts: Facts | None = result.memo.get(kind.__qualname__)
    if facts is None:
        facts = result.memo[kind.__qualname__] = kind.of(result)
    return facts


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


def _head(result: Result, media_type: str) -> ReadyHead:
    return ReadyHead(
        [
            (b"epochal-epoch", str(result.epoch.number).encode()),
            (b"epochal-epoch-id", result.epoch.id.encode()),
            (b"content-type", media_type.encode()),
            *HEADERS,
        ]
    )


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
