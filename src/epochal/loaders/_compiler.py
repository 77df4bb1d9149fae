"""Compiles sources where that stops nobody: in a helper process, once for each source.

`compile` holds the interpreter's lock from its beginning to its end, 1 to 2 ms for 300 lines, and
meanwhile no operation of the process runs. So a source that is to replace code under traffic is
compiled by another interpreter of the same version, which gives back what `marshal` writes; to read
that takes a twentieth. What was compiled once is kept by the digest of its source, for as long as
somebody who had it compiled keeps it: a generation, which the next one of the same source outlives.

The helper is started by the first source that needs it, ends itself when nobody asks for a while,
and only ever compiles. Whatever is not plain sailing (no other process may be started, the helper
dies, the source is wrong or makes the compiler warn) is compiled here instead, so that errors and
warnings are those that everybody knows.

Who reads, who writes: the helper is used under ``_lock``, one source at a time, and no foreign code
runs under it. ``_kept`` is read and written by any thread, each look and each entry one step; two
that compile the same source both put what is equal. A fork has neither helper nor use for its
parent's.
"""

from __future__ import annotations

import _imp
import atexit
import hashlib
import marshal
import os
import select
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from types import CodeType

_SMALL: Final = 2_000
"""Bytes of source below which compiling takes no longer than asking the helper."""

_LONGEST_S: Final = 10.0
_IDLE_S: Final = 60.0
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
    """A compiled module, as `marshal` writes it."""

    dumped: bytes


class Compiler:
    """Compiles sources for the loaders of one process."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._kept: Final[WeakValueDictionary[bytes, Compiled]] = WeakValueDictionary()
        self._helper: _Helper | None = None

    def compile(self, source: bytes, file: str, *, keeper: list[Compiled] | None) -> CodeType:
        """Compile a module.

        Args:
            source: its bytes.
            file: how tracebacks name it.
            keeper: where what the helper made is kept, so that the same source is not compiled
                again while that lives; None to compile here, where nobody is disturbed.

        Raises:
            SyntaxError: and whatever else `compile` raises.
        """
        if keeper is None or len(source) < _SMALL:
            return compile(source, file, "exec", dont_inherit=True)
        digest = hashlib.sha256(source).digest()
        compiled = self._kept.get(digest)
        if compiled is None:
            compiled = Compiled(self._ask(source))
            if not compiled.dumped:
                return compile(source, file, "exec", dont_inherit=True)
            self._kept[digest] = compiled
        keeper.append(compiled)
        code = cast("CodeType", marshal.loads(compiled.dumped))
        # What the import system does with code from a cache: in place, and in what lies inside it.
        _imp._fix_co_filename(code, file)  # type: ignore[attr-defined]  # noqa: SLF001
        return code

    def close(self) -> None:
        """End the helper; the next source that needs one starts another."""
        with self._lock:
            helper, self._helper = self._helper, None
        if helper is not None:
            helper.close()

    def _ask(self, source: bytes) -> bytes:
        """What the helper makes of a source; nothing if it cannot."""
        with self._lock:
            helper = self._helper
            if helper is not None and not (helper.is_ours and helper.is_alive):
                helper.close()
                helper = None
            if helper is None:
                helper = self._helper = _Helper.start()
            if helper is None:
                return b""
            try:
                return helper.ask(source)
            except (OSError, EOFError, ValueError):
                # Somebody ended it meanwhile: the next source starts another.
                self._helper = None
                helper.close()
                return b""


class _Helper:
    """The other interpreter."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process: Final = process
        self._to: Final = process.stdin
        self._from: Final = process.stdout
        self._pid: Final = os.getpid()

    @classmethod
    def start(cls) -> _Helper | None:
        """Start one; None where that cannot be done."""
        if not sys.executable or not hasattr(select, "poll"):
            return None
        level = ["-O"] * min(sys.flags.optimize, 2)
        command = [sys.executable, *level, "-I", "-S", "-c", _HELPER]
        try:
            return cls(
                subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    # Ctrl-C is for the process that serves.
                    start_new_session=True,
                )
            )
        except OSError:
            return None

    @property
    def is_ours(self) -> bool:
        """Whether this process started it, and not the one that it was forked from."""
        return self._pid == os.getpid()

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended, as it does by itself when reloads are rare."""
        return self._process.poll() is None

    def ask(self, source: bytes) -> bytes:
        """Have it compile.

        Raises:
            OSError: it is gone, or does not answer.
            EOFError: it went while it answered.
        """
        self._to.write(len(source).to_bytes(8, "little") + source)
        self._to.flush()
        count = int.from_bytes(self._read(8), "little")
        return self._read(count)

    def _read(self, count: int) -> bytes:
        parts = bytearray()
        waiting = select.poll()
        waiting.register(self._from, select.POLLIN)
        while len(parts) < count:
            if not waiting.poll(_LONGEST_S * 1000.0):
                raise TimeoutError("the compiling process does not answer")
            part = os.read(self._from.fileno(), count - len(parts))
            if not part:
                raise EOFError("the compiling process ended")
            parts += part
        return bytes(parts)

    def close(self) -> None:
        """End it."""
        if not self.is_ours:
            return
        self._process.kill()
        with suppress(OSError):  # what was not sent needs nobody any more
            self._to.close()
        self._from.close()
        self._process.wait()


COMPILER: Final = Compiler()
"""The one of this process: helper and memory are shared by all its runtimes."""

atexit.register(COMPILER.close)
