"""Compiles sources in a helper process, once for each source, so that no operation is held up.

`compile` holds the interpreter's lock from its beginning to its end, 1 to 2 ms for 300 lines, and
no operation of the process runs meanwhile. A source that is to replace code under traffic is
therefore compiled by another interpreter of the same version, which returns it in the format of
`marshal`; to read that takes a twentieth of the time. The result is cached by the digest of the
source for as long as a generation retains it. A reload of unchanged modules does not compile: the
new generation is brought up while the old one is alive. A runtime with a store keeps the result
there for its next start (`CodeStore`).

The helper is started by the first source that needs it, ends by itself when it is idle, and only
ever compiles. If anything goes wrong (no process can be started, the helper dies, the source has an
error or makes the compiler warn), the source is compiled in this process instead. Errors and
warnings are therefore always the interpreter's own.

Threads: the helper is used under ``_lock``, one source at a time, and no foreign code
runs under it. ``_cache`` is read and written by any thread, each look-up and each entry in one
step; two threads that compile the same source both enter an equal result.

A helper answers the source that it was sent last, or it is not used again: a thread that is
interrupted between sending and reading leaves an answer in the pipe. A forked child has a new lock,
no helper, and neither end of the pipes to its parent's. Nothing is buffered in this process, so the
child has nothing of its parent's to send.
"""

from __future__ import annotations

import _imp
import atexit
import hashlib
import marshal
import os
import select
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, cast
from weakref import WeakValueDictionary

from epochal._core.sync.forks import in_forked_child

if TYPE_CHECKING:
    import subprocess
    from types import CodeType

_SMALL: Final = 2_000
"""Bytes of source below which compiling takes no longer than the way to the helper and back."""

_ANSWER_TIMEOUT_S: Final = 10.0
"""A helper that takes longer hangs, and is replaced."""

_IDLE_S: Final = 60.0
"""The helper ends by itself after so long without a source."""

_HELPER: Final = f"""\
import marshal, select, sys, warnings
warnings.simplefilter("error")
source, answer = sys.stdin.buffer, sys.stdout.buffer
while select.select([source], [], [], {_IDLE_S})[0]:
    head = source.read(8)
    if len(head) < 8:
        break
    try:
        text = source.read(int.from_bytes(head, "little"))
        code = marshal.dumps(compile(text, "", "exec", dont_inherit=True))
    except BaseException:
        code = b""
    answer.write(len(code).to_bytes(8, "little") + code)
    answer.flush()
"""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Compiled:
    """A compiled module, in the format of `marshal`."""

    dumped: bytes


class CodeStore(Protocol):
    """Where a runtime with a store keeps compiled modules, by the SHA-256 of their sources."""

    def read(self, digest: str) -> bytes | None:
        """A compiled module that can be trusted, in the format of `marshal`; None without one."""
        ...

    def write_soon(self, digest: str, source: bytes, dumped: bytes) -> None:
        """Keep one, off the caller's way; `dumped` is empty if it is yet to be compiled."""
        ...


class Compiler:
    """Compiles sources for the loaders of one process."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._cache: Final[WeakValueDictionary[str, Compiled]] = WeakValueDictionary()
        self._helper: _Helper | None = None

    def compile(
        self,
        source: bytes,
        file: str,
        *,
        retain_in: list[Compiled] | None,
        store: CodeStore | None = None,
    ) -> CodeType:
        """Compile a module.

        Args:
            source: its bytes.
            file: its name in tracebacks.
            retain_in: gets the helper's result; the same source is not compiled again while the
                list keeps it. None compiles in this process (no operation runs yet).
            store: where compiled modules are kept; None for no store.

        Raises:
            SyntaxError: as `compile`, which may raise other errors, too.
        """
        if len(source) < _SMALL or (retain_in is None and store is None):
            return compile(source, file, "exec", dont_inherit=True)
        digest = hashlib.sha256(source).hexdigest()
        compiled = self._find(digest, store)
        if compiled is None and retain_in is not None:
            compiled = Compiled(self.dump(source))
            if compiled.dumped and store is not None:
                store.write_soon(digest, source, compiled.dumped)
        if compiled is None or not compiled.dumped:
            code = compile(source, file, "exec", dont_inherit=True)
            if compiled is None and store is not None:
                store.write_soon(digest, source, b"")
            return code
        if retain_in is not None:
            self._cache[digest] = compiled
            retain_in.append(compiled)
        code = cast("CodeType", marshal.loads(compiled.dumped))
        # The code names no file yet. As the import system does with code from its cache, set the
        # name in place, also in the code objects of nested functions.
        _imp._fix_co_filename(code, file)  # type: ignore[attr-defined]  # noqa: SLF001
        return code

    def _find(self, digest: str, store: CodeStore | None) -> Compiled | None:
        compiled = self._cache.get(digest)
        if compiled is None and store is not None and (dumped := store.read(digest)) is not None:
            compiled = Compiled(dumped)
        return compiled

    def close(self) -> None:
        """End the helper; the next source that needs one starts another. Idempotent."""
        with self._lock:
            helper, self._helper = self._helper, None
        if helper is not None:
            helper.close()

    def dump(self, source: bytes) -> bytes:
        """A module as the helper compiles it, in the format of `marshal`; empty if it cannot."""
        with self._lock:
            helper = self._helper
            if helper is not None and not helper.is_usable:
                helper.close()
                helper = None
            if helper is None:
                helper = self._helper = _Helper.start()
            if helper is None:
                return b""
            try:
                return helper.ask(source)
            except BaseException as error:
                self._helper = None  # the next source starts another
                helper.close()
                if isinstance(error, (OSError, EOFError, ValueError)):
                    return b""  # it ended, or does not answer
                raise

    def leave_to_parent(self) -> None:
        """In a forked child: have a lock that no thread holds, and none of the parent's helper."""
        self._lock._at_fork_reinit()  # type: ignore[attr-defined]  # noqa: SLF001
        helper, self._helper = self._helper, None
        if helper is not None:
            helper.close()


class _Helper:
    """The other interpreter, and the pipes to it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process: Final = process
        self._to: Final = process.stdin
        self._from: Final = process.stdout
        self._pid: Final = os.getpid()
        self._is_asked = False  # from before a source is sent until its answer is read

    @classmethod
    def start(cls) -> _Helper | None:
        """Start one; None if no process can be started."""
        if not sys.executable or not hasattr(select, "poll"):
            return None
        import subprocess  # a host that never reloads needs no process

        level = ["-O"] * min(sys.flags.optimize, 2)
        command = [sys.executable, *level, "-I", "-S", "-c", _HELPER]
        try:
            return cls(
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    bufsize=0,
                    # Ctrl-C shall reach the serving process alone.
                    start_new_session=True,
                )
            )
        except OSError:
            return None

    @property
    def is_usable(self) -> bool:
        """Whether it runs, for this process, and owes no answer. It ends when reloads are rare."""
        return self._is_ours and not self._is_asked and self._process.poll() is None

    @property
    def _is_ours(self) -> bool:
        """Whether this process started it, not the process that this one was forked from."""
        return self._pid == os.getpid()

    def ask(self, source: bytes) -> bytes:
        """Send it a source and wait for the compiled module; empty if it could not compile it.

        Raises:
            OSError: it has ended, or does not answer in time.
            EOFError: it ended while it answered.
        """
        self._is_asked = True
        left = memoryview(len(source).to_bytes(8, "little") + source)
        while left:
            left = left[os.write(self._to.fileno(), left) :]
        count = int.from_bytes(self._read(8), "little")
        answer = self._read(count)
        self._is_asked = False
        return answer

    def _read(self, count: int) -> bytes:
        parts = bytearray()
        waiting = select.poll()
        waiting.register(self._from, select.POLLIN)
        while len(parts) < count:
            if not waiting.poll(_ANSWER_TIMEOUT_S * 1000.0):
                raise TimeoutError("the compiling process does not answer")
            part = os.read(self._from.fileno(), count - len(parts))
            if not part:
                raise EOFError("the compiling process ended")
            parts += part
        return bytes(parts)

    def close(self) -> None:
        """Kill it, unless it is a parent process's, and close the pipes."""
        if self._is_ours:
            self._process.kill()
        self._to.close()
        self._from.close()
        if self._is_ours:
            self._process.wait()
        else:
            self._process.returncode = 0  # it is not this process's to wait for


COMPILER: Final = Compiler()
"""The compiler of this process: all its runtimes share the helper and the cache."""

atexit.register(COMPILER.close)
in_forked_child(COMPILER.leave_to_parent)
