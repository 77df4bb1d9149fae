"""The service: SQL with plugins over HTTP, a live page, and changes with the admin token.

::

    epochal serve --plugins plugins --store state --table flights=flights.parquet

Needs the extra `server` (`pip install 'epochal[server]'`). A host with a runtime of its own makes
the application with `create_app` and runs it under any ASGI server; `run` is the body of the
command.
"""

try:
    import msgspec as _msgspec
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
from epochal.server.state import ServiceLimits, ServiceState

del _msgspec, _prometheus, _starlette, _uvicorn

__all__ = ["Access", "ServiceLimits", "ServiceState", "create_app", "run"]
