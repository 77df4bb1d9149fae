"""The folder of a store in which compiled code is kept, for the next start.

**Compiled code is trusted by what runs it**: machine code runs outside of a sandbox, and `marshal`
may crash the process on bytes that it did not write. So a file is read only if it has the message
authentication code that this store's key makes for these bytes, the source's digest and the very
compiler that made them; all else is compiled anew. The key is a file that only the store's owner
can read. It is no shield against someone who can write into the store as its owner: the plugins
there are code as well.

A file is named by the SHA-256 of its source, so that the store's own collection removes it with the
source. It is renamed into its place and never synced: after a power cut it is whole, or it is not
authentic. The folder may be deleted at any time.

Threads and processes: none of them waits for another. Of two that make a key at once one may lose
its own, and what it wrote is not authentic, which costs compiling again.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from epochal._core.sync.durable_files import FILE_MODE, FOLDER_MODE, write_whole

if TYPE_CHECKING:
    from pathlib import Path

_KEY_FILE: Final = "key"
_KEY_BYTES: Final = 32
_MAC_BYTES: Final = 32
_MOST_BYTES: Final = 256 << 20
"""The size that the folder is cut down to; the file that was written first goes first."""


class KeptCode:
    """Compiled code in one folder.

    Args:
        folder: made by the first file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder: Final = folder

    def read(self, digest: str, compiler: str) -> bytes | None:
        """The code that was compiled from a source; None if there is none that can be trusted.

        Args:
            digest: the source's SHA-256.
            compiler: all else that the code depends on.
        """
        try:
            key = (self._folder / _KEY_FILE).read_bytes()
            content = (self._folder / _name(digest, compiler)).read_bytes()
        except OSError:
            return None
        mac, code = content[:_MAC_BYTES], content[_MAC_BYTES:]
        if len(key) != _KEY_BYTES or not hmac.compare_digest(
            mac, _mac(key, digest, compiler, code)
        ):
            return None
        return code

    def write(self, digest: str, compiler: str, code: bytes) -> None:
        """Keep the code of a source.

        Raises:
            OSError: it cannot be written.
        """
        self._folder.mkdir(FOLDER_MODE, exist_ok=True)
        content = _mac(self._key(), digest, compiler, code) + code
        write_whole(self._folder / _name(digest, compiler), content)

    def trim(self) -> None:
        """Remove the files that were written first, if the folder is too large.

        Raises:
            OSError: the folder cannot be read, or a file not removed.
        """
        files = [(path, path.stat()) for path in self._folder.iterdir() if path.name != _KEY_FILE]
        size = sum(stat.st_size for _, stat in files)
        for path, stat in sorted(files, key=lambda file: file[1].st_mtime_ns):
            if size <= _MOST_BYTES:
                return
            path.unlink(missing_ok=True)
            size -= stat.st_size

    def _key(self) -> bytes:
        path = self._folder / _KEY_FILE
        opener = partial(os.open, mode=FILE_MODE)
        with suppress(FileExistsError), open(path, "xb", opener=opener) as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
        key = path.read_bytes()
        if len(key) != _KEY_BYTES:  # cut off by a full disk: the next file makes another
            path.unlink(missing_ok=True)
            raise OSError(f"{path} was not written in full")
        return key


def _name(digest: str, compiler: str) -> str:
    return f"{digest}.{hashlib.sha256(compiler.encode()).hexdigest()[:16]}"


def _mac(key: bytes, digest: str, compiler: str, code: bytes) -> bytes:
    signed = hmac.new(key, f"{digest} {compiler}\n".encode(), hashlib.sha256)
    signed.update(code)
    return signed.digest()
