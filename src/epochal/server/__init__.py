"""The service: SQL with plugins over HTTP, a live page, and steering for whoever has the token.

::

    epochal serve --plugins plugins --store state --table flights=flights.parquet

Needs the extra `server` (`pip install 'epochal[server]'`). A host with a runtime of its own makes
the application with `create_app` and runs it under any ASGI server; `run` is what the command does.
"""

try:
    import prometheus_client as _prometheus
    import starlette as _starlette
    import uvicorn as _uvicorn
except ImportError as error:  # pragma: no cover  # the test environment has them
    raise ImportError(
        f"epochal.server needs the extra 'server': pip install 'epochal[server]' ({error})"
    ) from error

from epochal.server.app import create_app
from epochal.server.security import Access
from epochal.server.serve import run
from epochal.server.state import Limits, Service

del _prometheus, _starlette, _uvicorn

__all__ = ["Access", "Limits", "Service", "create_app", "run"]
