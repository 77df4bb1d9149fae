"""Errors: one line for each, and no variables of the machinery in their tracebacks."""

import sys
import types

import pytest
from tests.notes import notes_of

from epochal._core.introspect.tracebacks import (
    without_machinery,
    without_variables,
)
from epochal.errors import HostError, format_error


class MuteError(Exception):
    def __str__(self):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no"), "ValueError: no"),
        (ValueError(" first\nsecond"), "ValueError: first"),
        (KeyError(), "KeyError"),
        (MuteError(), "MuteError (no text: its str() raised ZeroDivisionError)"),
        (SyntaxError("bad", ("/p/geo.py@g3", 7, 1, "x")), "SyntaxError: bad (/p/geo.py, line 7)"),
        (SyntaxError("bad", ("/p/geo.py", 7, 1, "x")), "SyntaxError: bad (geo.py, line 7)"),
    ],
)
def test_an_error_is_one_line(error, line):
    assert format_error(error) == line


def raised_through_the_machinery(error):
    """The error, raised by a function of the core that was called here."""
    module = types.ModuleType("epochal._core.fake")
    exec("def run(work):\n    mine = object()\n    work()\n", vars(module))

    def work():
        raise error

    try:
        module.run(work)
    except type(error) as raised:
        return raised
    raise AssertionError


def frame_and_place_without_a_line():
    try:
        int("no number")
    except ValueError as error:
        del error
    frame = sys._getframe()
    positions = enumerate(frame.f_code.co_positions())
    return frame, [2 * at for at, (line, *_) in positions if line is None and at][-1]


def test_an_error_that_was_raised_at_no_line_is_trimmed_too():
    """A signal, or another thread, may raise it anywhere."""
    frame, place = frame_and_place_without_a_line()
    error = ValueError("no").with_traceback(types.TracebackType(None, frame, place, -1))
    assert error.__traceback__.tb_lineno in (None, -1)  # up to Python 3.11.3, -1
    assert names_of(without_machinery(error)) == ["frame_and_place_without_a_line"]


def names_of(error):
    entry, names = error.__traceback__, []
    while entry is not None:
        names.append(entry.tb_frame.f_code.co_name)
        entry = entry.tb_next
    return names


def test_frames_of_the_machinery_are_removed_and_emptied():
    error = raised_through_the_machinery(ValueError("no"))
    assert names_of(error) == ["raised_through_the_machinery", "run", "work"]
    machinery = error.__traceback__.tb_next.tb_frame
    assert "mine" in machinery.f_locals
    assert without_machinery(error) is error
    assert names_of(error) == ["raised_through_the_machinery", "work"]
    assert "mine" not in machinery.f_locals


def test_a_foreign_error_keeps_the_whole_traceback_as_a_note():
    assert "in run" in "\n".join(
        without_machinery(raised_through_the_machinery(OSError())).__notes__
    )
    own = without_machinery(raised_through_the_machinery(HostError("no")))
    assert not notes_of(own)


def test_causes_and_groups_are_trimmed_too():
    inner = [raised_through_the_machinery(ValueError(str(number))) for number in range(3)]
    group = ExceptionGroup("both", inner[:2])
    group.__cause__, inner[0].__context__ = inner[2], group  # a circle
    without_machinery(group)
    assert all("run" not in names_of(error) for error in inner)


def test_emptied_frames_keep_the_traceback():
    error = raised_through_the_machinery(ValueError("no"))
    frame = error.__traceback__.tb_next.tb_frame
    assert names_of(without_variables(error)) == ["raised_through_the_machinery", "run", "work"]
    assert not frame.f_locals
