"""The helper process compiles as this process does, and may fail in any way without harm."""

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
    + b"# long enough for the helper\n" * 100
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


def compiled_again(source):
    pytest.fail("compiled again")


def test_the_helpers_code_equals_code_compiled_here(compiler):
    here = compile(SOURCE, "geo.py@g1", "exec", dont_inherit=True)
    retained = []
    for _ in range(2):  # by the helper, then from the cache
        compiled = compiler.compile(SOURCE, "geo.py@g1", retain_in=retained)
        assert compiled == here
        assert run(compiled)(1)() == 2


def test_code_has_the_requested_file_name_also_in_nested_functions(compiler):
    retained = []
    for name in ("geo.py@g1", "geo.py@g2"):
        outer = run(compiler.compile(SOURCE, name, retain_in=retained))
        assert outer.__code__.co_filename == name
        assert outer(1).__code__.co_filename == name


def test_a_source_is_compiled_once_while_a_result_is_retained(compiler, monkeypatch):
    first, second = [], []
    compiler.compile(SOURCE, "a.py", retain_in=first)
    monkeypatch.setattr(compiler, "dump", compiled_again)
    compiler.compile(SOURCE, "b.py", retain_in=second)
    first.clear()
    compiler.compile(SOURCE, "c.py", retain_in=first)


def test_reloads_of_one_source_compile_once(rt, plugins, monkeypatch):
    rt.load(plugins.write("geo", SOURCE.decode()))  # in this process: it replaces nothing
    rt.reload("geo")
    monkeypatch.setattr(_compiler.COMPILER, "dump", compiled_again)
    for _ in range(3):
        rt.reload("geo")
    rt.remove("geo")
    assert not [1 for entry in _compiler.COMPILER._cache.values() if b"inner" in entry.dumped]


def test_a_result_that_is_not_retained_leaves_the_cache(compiler):
    retained = []
    for number in range(20):
        compiler.compile(SOURCE + b"X = %d\n" % number, "a.py", retain_in=retained)
    assert len(compiler._cache) == 20
    del retained[3:]
    assert len(compiler._cache) == 3


def test_a_syntax_error_is_the_interpreters_own(compiler):
    with pytest.raises(SyntaxError) as failed:
        compiler.compile(SOURCE + b"def (:\n", "geo.py@g1", retain_in=[])
    assert failed.value.filename == "geo.py@g1"
    assert failed.value.lineno == 105


def test_a_warning_follows_the_filters_of_this_process(compiler):
    doubtful = SOURCE + b"x = 1 is 1\n"
    with pytest.raises(SyntaxError, match="is"):
        compiler.compile(doubtful, "geo.py", retain_in=[])  # warnings are errors in this suite
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compiler.compile(doubtful, "geo.py", retain_in=[])
    assert [warning.category for warning in caught] == [SyntaxWarning]


def test_a_helper_that_has_ended_is_replaced_at_once(compiler):
    compiler.compile(SOURCE, "a.py", retain_in=[])
    first = helper_pid(compiler)
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    retained = []
    code = compiler.compile(SOURCE + b"X = 7\n", "a.py", retain_in=retained)
    assert run(code, "X") == 7
    assert retained  # by the new helper: code compiled here is not retained
    assert helper_pid(compiler) != first


def test_without_a_helper_the_source_is_compiled_here(compiler, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert run(compiler.compile(SOURCE, "a.py", retain_in=[]))(1)() == 2
    assert compiler._helper is None


def test_a_helper_that_does_not_answer_is_given_up(compiler, monkeypatch):
    monkeypatch.setattr(_compiler, "_HELPER", "import time; time.sleep(60)")
    monkeypatch.setattr(_compiler, "_ANSWER_TIMEOUT_S", 0.2)
    assert run(compiler.compile(SOURCE, "a.py", retain_in=[]))(1)() == 2
    assert compiler._helper is None


IN_CHILD = """
import os, sys, threading
from epochal.loaders._compiler import COMPILER
SOURCE = b"X = %d\\n" + b"# long enough for the helper\\n" * 100
def compiled(number):
    namespace = {{}}
    exec(COMPILER.compile(SOURCE % number, "a.py", retain_in=[]), namespace)
    return namespace["X"]
def answers(number):
    thread = threading.Thread(target=lambda: got.append(compiled(number)), daemon=True)
    got = []
    thread.start()
    thread.join(20)
    return got == [number]
assert compiled(0) == 0
{before}
if (child := os.fork()) == 0:
    is_right = False
    try:
        is_right = answers(1) and COMPILER._helper is not parents
        COMPILER.close()
    finally:
        os._exit(0 if is_right else 1)
{after}
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert answers(2) and COMPILER._helper is parents
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("parents = COMPILER._helper", ""),
        ("parents = COMPILER._helper; COMPILER._lock.acquire()", "COMPILER._lock.release()"),
        (  # the helper is at work, and its answer is read after the fork
            "parents = COMPILER._helper; read = parents._read; forked = threading.Event()\n"
            "reads = threading.Event()\n"
            "parents._read = lambda n: (reads.set(), forked.wait(20), read(n))[-1]\n"
            "asking = threading.Thread(target=compiled, args=(3,)); asking.start(); reads.wait(20)",
            "forked.set(); asking.join(20)",
        ),
    ],
    ids=["idle", "locked", "asked"],
)
def test_a_forked_child_compiles_by_itself_whatever_its_parent_does(before, after):
    script = IN_CHILD.format(before=before, after=after)
    command = [sys.executable, "-W", "error", "-W", "ignore:.*use of fork", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SystemExit])
@pytest.mark.parametrize("reads", [0, 1])
def test_an_interrupted_source_leaves_no_answer_to_the_next(compiler, monkeypatch, error, reads):
    compiler.compile(SOURCE, "a.py", retain_in=[])
    helper, left = compiler._helper, [reads]
    read = helper._read

    def interrupted(count):
        if not left[0]:
            raise error
        left[0] -= 1
        return read(count)

    monkeypatch.setattr(helper, "_read", interrupted)
    with pytest.raises(error):
        compiler.compile(SOURCE + b"X = 1\n", "a.py", retain_in=[])
    assert helper._process.returncode is not None
    retained = []
    assert run(compiler.compile(SOURCE + b"X = 2\n", "a.py", retain_in=retained), "X") == 2
    assert retained


def test_a_helper_that_owes_an_answer_is_replaced_even_if_it_could_not_be_closed(
    compiler, monkeypatch
):
    compiler.compile(SOURCE, "a.py", retain_in=[])
    helper = compiler._helper
    monkeypatch.setattr(helper, "_read", lambda _: pytest.fail("interrupted"))
    with monkeypatch.context() as patch:
        patch.setattr(type(helper), "close", lambda _: pytest.fail("interrupted again"))
        with pytest.raises(BaseException, match="interrupted again"):
            compiler.compile(SOURCE + b"X = 1\n", "a.py", retain_in=[])
    compiler._helper = helper  # as if it had been interrupted a step earlier
    assert run(compiler.compile(SOURCE + b"X = 2\n", "a.py", retain_in=[]), "X") == 2
    assert compiler._helper is not helper


def test_a_process_that_ends_leaves_no_helper_and_no_warning():
    script = (
        "from epochal.loaders._compiler import COMPILER\n"
        "COMPILER.compile(b'x = 1\\n' * 1000, 'a.py', retain_in=[])\n"
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


def test_small_sources_and_first_loads_are_compiled_here(compiler):
    compiler.compile(b"x = 1\n", "a.py", retain_in=[])
    compiler.compile(SOURCE, "a.py", retain_in=None)
    assert compiler._helper is None
