"""The command `epochal`: try plugins, ask with them, see what a change would do.

    epochal demo                  plugins swapped under live SQL, on real data
    epochal query SQL ...         one query with plugin functions
    epochal plan ...              what a change would do, step by step
    epochal check PATH            is this a valid plugin, and what does it export?
    epochal new NAME              a working plugin with a test that passes
    epochal serve ...             SQL with plugins over HTTP, with a live page
    epochal status, load, ...     ask such a service

For whoever calls it from a program: each command takes `--json`. An error is one line on stderr and
a status other than 0 (see `epochal.cli.invocation`), never a traceback unless `--debug` is given.

Needs the extra `cli` (`pip install 'epochal[cli]'`): typer and rich, and the SQL host.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: what stands after the command's name; None for this process's own.

    Returns:
        The exit status.
    """
    try:
        with _ending_silently():
            from epochal.cli.invocation import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "epochal":
            raise
        missing = f"error: the command needs the extra 'cli', whose {error.name!r} is not installed"
        print(f"{missing}: pip install 'epochal[cli]'", file=sys.stderr)
        return 1
    if arguments is not None:
        return run(list(arguments))
    status = run(sys.argv[1:])
    _leave_the_engine(status)
    return status


def _leave_the_engine(status: int) -> None:
    """Leave at once if the engine is at work on a query that was given up.

    It ends what it has begun, however long that takes, and the way out of the interpreter waits for
    it, since its threads could call into what is not there any more. All else is closed by now.
    """
    database = sys.modules.get("epochal.sql.database")
    if database is not None and database.is_any_in_engine():
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


@contextmanager
def _ending_silently() -> Generator[None, None, None]:
    """Let Ctrl-C end the process as it ends any other, and not in the middle of some import."""
    ours = signal.default_int_handler
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not ours
    ):
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, ours)
