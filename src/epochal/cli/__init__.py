"""The command `epochal`: try plugins, query with them, plan changes, run and steer a service.

    epochal demo                  plugins swapped under live SQL, on real data
    epochal query SQL ...         one query with plugin functions
    epochal plan ...              the steps of a change, without making it
    epochal check PATH            validate a plugin and list its exports
    epochal new NAME              a working plugin with a test that passes
    epochal explain CODE          the cause and the remedy of an error
    epochal serve ...             SQL with plugins over HTTP, with a live page
    epochal mcp ...               tools of plugins for MCP clients
    epochal status, load, ...     steer such a service

For programs, each command takes `--json`. An error is one line on stderr and a status other than 0
(see `epochal.cli.invocation`), never a traceback unless `--debug` is given.

Needs the extra `cli` (`pip install 'epochal[cli]'`): typer and rich, and the SQL host.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

__all__ = ["main"]

_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: the words after the command's name; None for this process's own.

    Returns:
        The exit status.
    """
    try:
        with _ending_at_once():
            from epochal.cli.invocation import ABANDONED, run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "epochal":
            raise
        words = sys.argv[1:] if arguments is None else [*arguments]
        if words[:1] == ["explain"] and len(words) == 2:  # a traceback leads here
            return _explain(words[1])
        missing = f"error: the command needs the extra 'cli', whose {error.name!r} is not installed"
        print(f"{missing}: pip install 'epochal[cli]'", file=sys.stderr)
        return 1
    if arguments is not None:
        return run(list(arguments))
    status = run(sys.argv[1:])
    _leave_the_engine(status, is_abandoned=status in ABANDONED)
    return status


def _explain(code: str) -> int:
    from epochal.cli.error_codes import explain_code
    from epochal.errors import HostError

    try:
        print(explain_code(code))
    except HostError as error:
        print(f"error[{error.code}]: {error}", file=sys.stderr)
        return 1
    return 0


def _leave_the_engine(status: int, *, is_abandoned: bool) -> None:
    """Exit at once if the engine is, or may be, at work on an abandoned query.

    The engine ends the work that it has begun, however long that takes, and the interpreter's exit
    waits for it, since its threads could call into freed code. All else is closed by now. A thread
    that is just handing a batch over cannot be seen, and would abort the exit ("thread state must
    be current when releasing").
    """
    database = sys.modules.get("epochal.sql.database")
    if database is not None and (is_abandoned or database.is_any_in_engine()):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


@contextmanager
def _ending_at_once() -> Generator[None, None, None]:
    """Let Ctrl-C end the process with one word while modules are imported.

    An import that `KeyboardInterrupt` cuts short leaves half a module, and a traceback.
    """
    ours = signal.default_int_handler
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not ours
    ):
        yield
        return
    signal.signal(signal.SIGINT, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, ours)


def _stop(_: int, __: object) -> None:
    os.write(2, b"stopped\n")
    os._exit(_INTERRUPTED)
