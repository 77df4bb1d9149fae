"""A store keeps compiled code for the next start, and trusts what it wrote itself alone."""

import hashlib
import marshal
import os
import subprocess
import sys
import threading
import traceback
import warnings

import pytest

from epochal.errors import LinkError, NoThreadError
from epochal.loaders import _code_writer, _compiler, _kept_code
from epochal.loaders._code_writer import CodeWriter
from epochal.loaders._compiler import Compiler
from epochal.loaders._kept_code import KeptCode
from epochal.store import Keep

LONG = "# long enough to be kept\n" * 100
SOURCE = f"""{LONG}
def fail():
    raise ValueError("inner")

VALUE = 7
"""
COMPILER = "this one"
DIGEST = "d" * 64


def files(folder):
    return sorted(path for path in (folder / "compiled").iterdir() if path.name != "key")


def module():
    """The module of the newest generation of plugin geo."""
    return [value for name, value in list(sys.modules.items()) if name.startswith("geo__g")][-1]


@pytest.fixture
def compiled_here(monkeypatch):
    """The files whose sources are compiled in this process."""
    seen = []

    def noting(source, file, *arguments, **options):
        seen.append(file)
        return compile(source, file, *arguments, **options)

    monkeypatch.setattr(_compiler, "compile", noting, raising=False)
    return seen


@pytest.fixture
def stored(start, plugins, tmp_path):
    """A store with one plugin, whose code it keeps."""
    with start() as rt:
        rt.load(plugins.write("geo", SOURCE))
    return tmp_path / "store"


# --- what is used, and what is not ---------------------------------------------------------------


def test_a_restart_uses_the_kept_code(stored, start, compiled_here):
    assert len(files(stored)) == 1
    with start():
        loaded = module()
        assert loaded.VALUE == 7
        assert not compiled_here
        # It is what compiling gives, under this generation's name.
        here = compile(loaded.__loader__.source, loaded.__file__, "exec", dont_inherit=True)
        assert loaded.fail.__code__ in here.co_consts
        with pytest.raises(ValueError, match="inner") as caught:
            loaded.fail()
        line = traceback.extract_tb(caught.tb)[-1]
        assert line.filename == loaded.__file__
        assert line.line == 'raise ValueError("inner")'


def test_what_is_kept_is_readable_for_its_owner_alone(stored):
    folder = stored / "compiled"
    assert [path.stat().st_mode & 0o77 for path in (folder, *folder.iterdir())] == [0, 0, 0]


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-1])


def another_key(path):
    path.with_name("key").write_bytes(b"k" * 32)


def unsigned(path):
    bad = compile("VALUE = 'stolen'", "", "exec")
    path.write_bytes(path.read_bytes()[:32] + marshal.dumps(bad))


def of_another_source(path):
    other = KeptCode(path.parent)
    bad = marshal.dumps(compile("VALUE = 'other'", "", "exec"))
    other.write("e" * 64, _code_writer._COMPILER, bad)
    (path.parent / _kept_code._name("e" * 64, _code_writer._COMPILER)).replace(path)


def of_another_interpreter(path):
    digest = path.name.partition(".")[0]
    bad = marshal.dumps(compile("VALUE = 'other'", "", "exec"))
    KeptCode(path.parent).write(digest, "another", bad)
    (path.parent / _kept_code._name(digest, "another")).replace(path)


def a_folder_in_its_place(path):
    path.unlink()
    path.mkdir()


BREAKAGES = [
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(os.urandom(4000)),
    lambda path: path.unlink(),
    lambda path: path.with_name("key").unlink(),
    lambda path: path.with_name("key").write_bytes(b""),
    *(cut_off, another_key, unsigned, of_another_source, of_another_interpreter),
    a_folder_in_its_place,
]


@pytest.mark.parametrize("damage", BREAKAGES)
def test_code_that_the_store_did_not_write_is_compiled_again(tmp_path, compiled_here, damage):
    kept = KeptCode(tmp_path / "compiled")
    source = SOURCE.encode()
    digest = hashlib.sha256(source).hexdigest()
    kept.write(digest, _code_writer._COMPILER, marshal.dumps(compile(source, "", "exec")))
    (path,) = files(tmp_path)

    def value(writer):
        namespace = {}
        exec(Compiler().compile(source, "geo.py", retain_in=None, store=writer), namespace)
        writer.close()
        return namespace["VALUE"]

    assert value(CodeWriter(kept)) == 7
    assert not compiled_here
    damage(path)
    assert value(CodeWriter(kept)) == 7
    assert compiled_here == ["geo.py"]


def test_damaged_code_is_written_again(stored, start, compiled_here):
    (path,) = files(stored)
    cut_off(path)
    for _ in range(2):
        with start():
            assert module().VALUE == 7
    assert len(compiled_here) == 1


def test_another_interpreter_keeps_its_own(stored, start, compiled_here, monkeypatch):
    monkeypatch.setattr(_code_writer, "_COMPILER", "another")
    with start():
        pass
    assert len(compiled_here) == 1
    assert len(files(stored)) == 2  # and the first one's stays
    with start():
        assert len(compiled_here) == 1


def test_a_folder_that_cannot_be_written_costs_compiling_alone(start, plugins, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store/compiled").write_text("no folder")
    for _ in range(2):
        with start() as rt:
            if not rt.epoch.generations:
                rt.load(plugins.write("geo", SOURCE))
            assert module().VALUE == 7


def test_a_source_that_warns_warns_at_each_start(start, plugins, tmp_path):
    for number in range(3):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            with start() as rt:
                if not number:
                    rt.load(plugins.write("geo", SOURCE + "BAD = 1 is 'str'\n"))
        assert [1 for each in seen if each.category is SyntaxWarning]
    assert not (tmp_path / "store/compiled").exists()


def test_an_error_is_the_interpreters_own(start, plugins, tmp_path):
    with start() as rt:
        broken = plugins.write("geo", SOURCE + "def broken(:\n")
        with pytest.raises(LinkError, match="SyntaxError"):
            rt.load(broken)
    assert not (tmp_path / "store/compiled").exists()


# --- when it is written --------------------------------------------------------------------------


def test_a_reload_waits_for_no_write(start, plugins, monkeypatch):
    may_write, writes = threading.Event(), threading.Event()
    write = KeptCode.write

    def slow(*arguments):
        writes.set()
        assert may_write.wait(20)
        write(*arguments)

    monkeypatch.setattr(KeptCode, "write", slow)
    monkeypatch.setattr(_code_writer, "_QUIET_S", 0.0)
    with start() as rt:
        rt.load(plugins.write("geo", SOURCE))
        assert writes.wait(20)
        for number in range(3):
            rt.reload("geo", plugins.write("geo", SOURCE.replace("7", str(number))))
        assert module().VALUE == 2
        may_write.set()


def test_close_waits_for_the_writer_and_nothing_is_written_after_it(start, plugins, tmp_path):
    with start() as rt:
        for number in range(5):
            rt.load(plugins.write(f"p{number}", SOURCE + f"N = {number}\n"))
    before = files(tmp_path / "store")
    assert len(before) == 5
    rt._loaders.by_language["python"].args[0].write_soon(DIGEST, b"X = 1\n", b"")
    assert files(tmp_path / "store") == before


def test_the_code_of_a_reload_is_compiled_once(start, plugins, tmp_path, monkeypatch):
    compiled = []
    dump = Compiler.dump

    def counting(self, source):
        compiled.append(source)
        return dump(self, source)

    monkeypatch.setattr(Compiler, "dump", counting)
    with start() as rt:
        rt.load(plugins.write("geo", "X = 1\n"))
        rt.reload("geo", plugins.write("geo", SOURCE))
    assert len(compiled) == 1
    assert len(files(tmp_path / "store")) == 1


def test_no_thread_for_it_fails_no_load(tmp_path, monkeypatch):
    def none(work, *, name):
        raise NoThreadError(name, "none left")

    writer = CodeWriter(KeptCode(tmp_path / "compiled"))
    monkeypatch.setattr(_code_writer, "start_thread", none)
    writer.write_soon(DIGEST, b"X = 1\n", b"")
    monkeypatch.undo()
    writer.close()
    assert len(files(tmp_path)) == 1


# --- its size and its end ------------------------------------------------------------------------


def test_the_oldest_code_goes_when_the_folder_is_full(tmp_path, monkeypatch):
    kept = KeptCode(tmp_path / "compiled")
    for number in range(4):
        kept.write(f"{number}" * 64, COMPILER, b"x" * 1000)
        (path,) = (tmp_path / "compiled").glob(f"{number}*")
        os.utime(path, ns=(number, number))
    monkeypatch.setattr(_kept_code, "_MOST_BYTES", 2500)
    kept.trim()
    assert [kept.read(f"{number}" * 64, COMPILER) is not None for number in range(4)] == [
        *(False, False),
        *(True, True),
    ]


def test_compiled_code_is_collected_with_its_source(start, plugins, tmp_path):
    folder = tmp_path / "store"
    with start(keep=Keep(epochs=1)) as rt:
        rt.load(plugins.write("geo", SOURCE))
    (first,) = files(folder)
    with start(keep=Keep(epochs=1)) as rt:
        rt.reload("geo", plugins.write("geo", SOURCE + "NEW = 1\n"))
    unfinished = first.with_name(f"{first.name}.{'0' * 32}.unfinished")
    unfinished.write_bytes(b"")
    (folder / "compiled/notes.txt").write_text("not ours")
    with start(keep=Keep(epochs=1)) as rt:
        rt._store.collect()
        left = {path.name for path in files(folder)}
    assert first.name not in left
    assert unfinished.name not in left
    assert "notes.txt" in left
    assert len(left) == 2  # the running code's is there


# --- other processes -----------------------------------------------------------------------------

WRITE = """
import sys
from pathlib import Path
from epochal.loaders._kept_code import KeptCode
kept = KeptCode(Path(sys.argv[1]))
for number in range(50):
    digest = f"{number:064x}"
    for _ in range(5):
        try:
            kept.write(digest, "this one", digest.encode() * 50)
            break
        except OSError:
            pass
    for other in range(50):
        code = kept.read(f"{other:064x}", "this one")
        assert code is None or code == f"{other:064x}".encode() * 50
"""


def test_processes_that_share_the_folder_read_whole_files_or_none(tmp_path):
    folder = tmp_path / "compiled"
    running = [
        subprocess.Popen([sys.executable, "-c", WRITE, str(folder)], stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    kept = KeptCode(folder)
    assert kept.read(f"{49:064x}", COMPILER) == f"{49:064x}".encode() * 50
    assert not list(folder.glob("*.unfinished"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_wait_for_its_parents_writer(tmp_path):
    writer = CodeWriter(KeptCode(tmp_path / "compiled"))
    writer._turn.acquire()  # as the parent's thread has it when it forks
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        writer.write_soon(DIGEST, b"X = 1\n", b"")
        writer.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    writer._turn.release()
