"""Closes objects that plugins made, on threads of the library.

The problem: a scan under way, or an index that another has replaced, is dropped by an arbitrary
thread: by an event loop that closes a result, by the collector inside any allocation. Closing it
runs plugin code (a `close()`, the `finally:` of a generator), which may take its time, or fail.

The idea: the dropping thread only schedules the close, by one `SimpleQueue.put`, which is safe
anywhere. A thread of the pool runs it and then drops it: until then the scheduled close holds its
plugin in use, so the plugin is not shut down before. Each close finds a waiting thread, even if the
one before it hangs.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from epochal._core.sync.threads import ThreadPool
from epochal.errors import format_error

if TYPE_CHECKING:
    from collections.abc import Callable

_logger: Final = logging.getLogger("epochal.kinds")


class Cleanup:
    """Runs each scheduled close on a thread of its own pool, as soon as it is scheduled."""

    __slots__ = ("_pool",)

    def __init__(self) -> None:
        self._pool: Final = ThreadPool("epochal-cleanup", spare=1)

    def prepare(self) -> None:
        """Have a thread ready; called where an object is made that will have to be closed."""
        self._pool.prepare()

    def schedule(self, name: str, close: Callable[[], Any]) -> None:
        """Have `close` run soon; may be called anywhere, by the collector too.

        Args:
            name: the object's, for the log if closing it fails.
            close: closes it; holds the plugin that its code belongs to.
        """
        self._pool.post(partial(_run, name, close))


def _run(name: str, close: Callable[[], Any]) -> None:
    try:
        close()
    except BaseException as error:  # noqa: BLE001  foreign code that no caller waits for
        _logger.warning("ending %s raised %s", name, format_error(error))


cleanup: Final = Cleanup()
"""The one of the process."""
