"""A plain service for SQL: Starlette, DataFusion, and a pool of two threads.

What somebody would write who needs no more: one context with the function in it, and each query on
a thread of the pool. `service` measures `epochal serve` against it.
"""

from __future__ import annotations

import sys
from asyncio import get_running_loop
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import uvicorn
from datafusion import SessionContext, udf
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request


def _double(column: pa.Array) -> pa.Array:
    return pa.array([value + value for value in column.to_pylist()], pa.float64())


_context = SessionContext()
_context.register_udf(udf(_double, [pa.float64()], pa.float64(), "volatile", "geo.double"))
_threads = ThreadPoolExecutor(2)


def _run(sql: str, params: list[Any]) -> list[dict[str, Any]]:
    values = {str(position): value for position, value in enumerate(params, 1)}
    frame = _context.sql(sql, param_values=values)
    return [row for batch in frame.collect() for row in batch.to_pylist()]


async def _query(request: Request) -> JSONResponse:
    document = await request.json()
    sql, params = document["sql"], document.get("params", [])
    rows = await get_running_loop().run_in_executor(_threads, _run, sql, params)
    return JSONResponse({"rows": rows})


app = Starlette(routes=[Route("/v1/query", _query, methods=["POST"])])

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="error", access_log=False)
