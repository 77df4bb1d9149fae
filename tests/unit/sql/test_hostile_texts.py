"""No text takes more time than its length: a text is read once, without going back."""

import subprocess
import sys

import pytest

from epochal.sql.error_messages import clean

# Each took minutes, or for ever; in a process of its own, since a search keeps the interpreter.
READ = """
from contextlib import suppress
from epochal.errors import QueryError
from epochal.sql.error_messages import clean
from epochal.sql.kept_plans import _CALL
from epochal.sql.sql_scan import scan
many = 20_000
for text in (
    "SELECT a" + "/**/" * 60 + " FROM t",
    "SELECT a" + "/**/" * many + "(1)",
    "SELECT 1" + ",a/*x*/" * many,
    "SELECT " + " ".join(f"$a{n}$" for n in range(many)),
    "SELECT a" + " " * many * 5,
    "SELECT 'a" + "''b" * many,
    "SELECT e'" + "\\\\'" * many,
    'SELECT 1 AS "' + "x" * many * 5 + '"',
    "SELECT " + "argument types '(" * many,
    "SELECT " + "unequal lengths between records on CSV file" * many,
):
    with suppress(QueryError):
        scan(text)
    clean(text)
    _CALL.findall(text)
from epochal.server.decoding import read_if_match
class request:
    class headers:
        getlist = staticmethod(lambda name: ['"a"' + " " * 60_000 + '"'])
try:
    read_if_match(request)
except Exception as error:
    print(error)
"""


@pytest.mark.timeout(180)
def test_hostile_texts_are_read_in_one_pass():
    done = subprocess.run(
        [sys.executable, "-c", READ], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, "If-Match must be" in done.stdout) == (0, True), done.stderr


def test_a_long_message_of_the_engine_is_cut_in_its_middle():
    message = clean(f"Error during planning: {'x' * 90_000} is not known")
    assert len(message) < 5_000
    assert message.startswith("xxx")
    assert message.endswith("xx is not known")
