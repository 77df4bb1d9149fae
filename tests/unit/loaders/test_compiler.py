"""Compiling aside gives what compiling here gives, whatever becomes of the other process."""

import os
import signal
import subprocess
import sys
import warnings

import pytest

from epochal.loaders import _compiler
from epochal.loaders._compiler import Compiler

SOURCE = (
    b"def outer(n):\n    def inner():\n        return n + 1\n    return inner\n"
    + b"# so that it is worth the way\n" * 100
)


@pytest.fixture
def compiler():
    compiler = Compiler()
    yield compiler
    compiler.close()


def run(code, name="outer"):
    namespace = {}
    exec(code, namespace)
    return namespace[name]


def helper_pid(compiler):
    return compiler._helper._process.pid


def test_code_from_aside_is_what_compiling_here_gives(compiler):
    here = compile(SOURCE, "geo.py@g1", "exec", dont_inherit=True)
    keeper = []
    for _ in range(2):  # from the helper, then kept
        aside = compiler.compile(SOURCE, "geo.py@g1", keeper=keeper)
        assert aside == here
        assert run(aside)(1)() == 2


def test_code_bears_the_name_that_it_was_asked_for_also_inside(compiler):
    keeper = []
    for name in ("geo.py@g1", "geo.py@g2"):
        outer = run(compiler.compile(SOURCE, name, keeper=keeper))
        assert outer.__code__.co_filename == name
        assert outer(1).__code__.co_filename == name


def test_one_source_is_asked_for_once(compiler, monkeypatch):
    first, second = [], []
    compiler.compile(SOURCE, "a.py", keeper=first)
    monkeypatch.setattr(compiler, "_ask", lambda source: pytest.fail("asked again"))
    compiler.compile(SOURCE, "b.py", keeper=second)
    first.clear()
    compiler.compile(SOURCE, "c.py", keeper=first)


def test_a_generation_is_compiled_once_and_its_successors_are_not(rt, plugins, monkeypatch):
    rt.load(plugins.write("geo", SOURCE.decode()))  # here: it replaces nothing
    rt.reload("geo")
    monkeypatch.setattr(_compiler.COMPILER, "_ask", lambda source: pytest.fail("asked again"))
    for _ in range(3):
        rt.reload("geo")
    rt.remove("geo")
    assert not [1 for kept in _compiler.COMPILER._kept.values() if b"inner" in kept.dumped]


def test_what_nobody_keeps_is_not_kept(compiler):
    keeper = []
    for number in range(20):
        compiler.compile(SOURCE + b"X = %d\n" % number, "a.py", keeper=keeper)
    assert len(compiler._kept) == 20
    del keeper[3:]
    assert len(compiler._kept) == 3


def test_an_error_is_the_one_that_everybody_knows(compiler):
    with pytest.raises(SyntaxError) as failed:
        compiler.compile(SOURCE + b"def (:\n", "geo.py@g1", keeper=[])
    assert failed.value.filename == "geo.py@g1"
    assert failed.value.lineno == 105


def test_a_warning_is_given_here_by_the_rules_of_this_process(compiler):
    doubtful = SOURCE + b"x = 1 is 1\n"
    with pytest.raises(SyntaxError, match="is"):
        compiler.compile(doubtful, "geo.py", keeper=[])  # warnings are errors in this suite
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        compiler.compile(doubtful, "geo.py", keeper=[])
    assert [warning.category for warning in told] == [SyntaxWarning]


def test_a_helper_that_has_ended_is_replaced_at_once(compiler):
    compiler.compile(SOURCE, "a.py", keeper=[])
    first = helper_pid(compiler)
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    keeper = []
    code = compiler.compile(SOURCE + b"X = 7\n", "a.py", keeper=keeper)
    assert run(code, "X") == 7
    assert keeper  # what is compiled here is not kept
    assert helper_pid(compiler) != first


def test_where_no_process_can_be_started_it_is_compiled_here(compiler, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert run(compiler.compile(SOURCE, "a.py", keeper=[]))(1)() == 2
    assert compiler._helper is None


def test_a_helper_that_does_not_answer_is_given_up(compiler, monkeypatch):
    monkeypatch.setattr(_compiler, "_HELPER", "import time; time.sleep(60)")
    monkeypatch.setattr(_compiler, "_LONGEST_S", 0.2)
    assert run(compiler.compile(SOURCE, "a.py", keeper=[]))(1)() == 2
    assert compiler._helper is None


def test_a_fork_does_not_use_its_parents_helper(compiler, monkeypatch):
    compiler.compile(SOURCE, "a.py", keeper=[])
    parents = compiler._helper
    monkeypatch.setattr(os, "getpid", lambda: -1)
    compiler.compile(SOURCE + b"X = 1\n", "a.py", keeper=[])
    monkeypatch.undo()
    assert compiler._helper is not parents
    parents.close()
    compiler._helper._process.kill()
    compiler._helper._process.wait()
    compiler._helper._to.close()
    compiler._helper._from.close()
    compiler._helper = None


def test_a_process_that_ends_leaves_no_helper_and_no_complaint():
    script = (
        "from epochal.loaders._compiler import COMPILER\n"
        "COMPILER.compile(b'x = 1\\n' * 1000, 'a.py', keeper=[])\n"
        "print(COMPILER._helper._process.pid)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_what_is_small_or_disturbs_nobody_is_compiled_here(compiler):
    compiler.compile(b"x = 1\n", "a.py", keeper=[])
    compiler.compile(SOURCE, "a.py", keeper=None)
    assert compiler._helper is None
