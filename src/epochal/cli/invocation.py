"""From arguments to an exit status: runs a command, and reports any exception in one line.

| status | meaning |
|---|---|
| 0 | done |
| 1 | refused or failed, or a check failed; the line on stderr gives the reason |
| 2 | wrong arguments |
| 3 | the change is published, and its old code still in use after `--wait` |
| 130 | Ctrl-C |
| 141 | the reader of the output closed the pipe |

The line begins with the code of the error's class, `error[link]: …`, which `epochal explain link`
explains. `--debug`, given anywhere, shows the traceback as well. With `--json` the line is an
object, `{"error": {"code": …, "message": …}}`.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import typer
from rich.text import Text

from epochal.cli.console import data_stream, error_console
from epochal.cli.local_runtime import closing
from epochal.cli.root import app
from epochal.errors import EpochalError

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED: Final = 1
WRONG_ARGUMENTS: Final = 2
INTERRUPTED: Final = 130
NOT_READ: Final = 141
ABANDONED: Final = (INTERRUPTED, NOT_READ)
"""The statuses of commands that end before their query does."""
_COMPLETE: Final = "_EPOCHAL_COMPLETE"
_ARGUMENTS: Final = "arguments"


@runtime_checkable
class _ArgumentError(Protocol):
    """An error in arguments: a class of typer's own, or of click's in old versions of typer."""

    exit_code: int

    def format_message(self) -> str:
        """The message, without usage."""
        ...


def run(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name.

    Returns:
        The exit status; see the table above.
    """
    given, debug = _take_debug(arguments)
    with closing():
        return _run(given, debug=debug)


def _run(arguments: list[str], *, debug: bool) -> int:
    try:
        status = _invoke(arguments or ["--help"])
        data_stream().flush()
    except BrokenPipeError:
        _abandon_output()
        return NOT_READ
    except KeyboardInterrupt:
        error_console().print("stopped", style="yellow")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  the last handler: every error becomes a line
        if debug:
            traceback.print_exception(error)
        _report(error, as_json="--json" in arguments)
        return WRONG_ARGUMENTS if isinstance(error, _ArgumentError) else FAILED
    return status


def _take_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without `--debug`, which may stand anywhere before `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    before = [argument for argument in arguments[:end] if argument != "--debug"]
    return [*before, *arguments[end:]], len(before) < end


def _invoke(arguments: list[str]) -> int:
    # Not the command's own `main`, which chooses statuses and messages itself.
    command = typer.main.get_command(app)
    if _COMPLETE in os.environ:  # a shell asks for completions
        command(prog_name="epochal")
    try:
        with command.make_context("epochal", arguments) as context:
            command.invoke(context)
    except typer.Exit as leaving:
        return leaving.exit_code
    return 0


def _report(error: Exception, *, as_json: bool) -> None:
    code, message = _code_and_message(error)
    if as_json:
        print(json.dumps({"error": {"code": code, "message": message}}), file=sys.stderr)
    else:
        out = error_console()
        out.print(Text.assemble((f"error[{code}]: ", "bold red"), message), soft_wrap=True)
        if out.is_terminal and code != _ARGUMENTS:
            out.print(f"`epochal explain {code}` has the cause and the remedy", style="dim")


def _code_and_message(error: Exception) -> tuple[str, str]:
    """The code of an error and its message, in one line."""
    if isinstance(error, EpochalError):
        return error.code, "; ".join(str(error).splitlines())
    if isinstance(error, _ArgumentError):
        message = " ".join(error.format_message().split())
        return _ARGUMENTS, f"{message} (epochal --help has more)"
    if isinstance(error, OSError):
        return "system", " ".join(str(error).split())
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return "unexpected", f"{text} (--debug shows where)"


def _abandon_output() -> None:
    """Send the rest of the output, the interpreter's last flush included, to no file."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, data_stream().fileno())
    os.close(null)
