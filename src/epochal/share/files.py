"""The files of a share, on whatever storage: a folder, an object store, memory.

`fsspec` reaches them. A storage may hang, so each access has a time limit, on a thread of its own
that is left behind when it is over. Every failure becomes a `ShareError` with the file's address.
"""

from __future__ import annotations

import os
import random
from concurrent.futures import TimeoutError as NotDoneError
from functools import partial
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any, Final, TypeVar

from epochal._core.sync.durable_files import UNFINISHED, make_folder, sync_folder, write_durably
from epochal._core.sync.threads import call_on_thread
from epochal.errors import HostError, NoThreadError, ShareError, ShareTimeoutError, format_error

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_AGAIN: Final = 3
_AGAIN_S: Final = 0.1
"""Full jitter, ever longer: https://aws.amazon.com/blogs/architecture (Exponential Backoff And
Jitter, 2015) compares it with others."""


class ShareFiles:
    """The files under one address. Thread-safe.

    Args:
        url: the address of a folder: a path, or one that fsspec knows, `s3://bucket/epochs`.
        timeout: seconds that one access may take.

    Raises:
        HostError: fsspec is missing, or does not know the address.
    """

    __slots__ = ("_folder", "_is_local", "_made_in", "_storage", "_timeout", "url")

    def __init__(self, url: str, timeout: float) -> None:
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise HostError("a share needs fsspec: pip install 'epochal[share]'") from None
        try:
            self._storage, self._folder = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise HostError(f"the share {url!r} cannot be reached: {error}") from error
        self._made_in = os.getpid()
        names = self._storage.protocol
        self._is_local: Final = "file" in ((names,) if isinstance(names, str) else names)
        self._timeout: Final = timeout
        # A path means another folder in a process that works elsewhere.
        self.url: Final = self._folder if self._is_local else url.rstrip("/")

    @property
    def _fs(self) -> Any:
        if self._made_in != os.getpid():  # a storage over asyncio serves no forked child
            from fsspec.core import url_to_fs

            self._storage, self._made_in = url_to_fs(self.url)[0], os.getpid()
        return self._storage

    def read(self, name: str) -> bytes | None:
        """The content of a file; None if there is no such file.

        A storage that is asked by a whole cluster at once refuses some: it is asked again, three
        times, each after a longer and less equal time.
        """
        read: Callable[[], bytes] = partial(self._fs.cat_file, self._path(name))
        for again in range(_AGAIN + 1):
            try:
                return self._access("read", name, read)
            except FileNotFoundError:
                return None
            except ShareError as error:
                if again == _AGAIN or isinstance(error, ShareTimeoutError):
                    raise
            sleep(random.uniform(0.0, _AGAIN_S * 4**again))
        raise AssertionError  # the last one returned or raised

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole: no reader ever finds a part of it."""
        write = self._write_local if self._is_local else self._fs.pipe_file
        try:
            self._access("written", name, partial(write, self._path(name), content))
        except FileNotFoundError as error:
            raise self._failed("written", name, error) from error

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return bool(self._access("looked up", name, partial(self._fs.exists, self._path(name))))

    def list(self, folder: str) -> dict[str, float]:
        """The names of the files in a folder, and when each was written, in seconds since 1970."""
        try:
            found = self._access("listed", folder, partial(self._list, self._path(folder)))
        except FileNotFoundError:
            return {}
        return {name: at for name, at in found.items() if not UNFINISHED.search(name)}

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        try:
            self._access("removed", name, partial(self._fs.rm_file, self._path(name)))
        except FileNotFoundError:
            return

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _list(self, path: str) -> dict[str, float]:
        # Object stores remember a listing, which others change.
        self._fs.invalidate_cache(path)
        found = {}
        for entry in self._fs.ls(path, detail=True):
            if entry["type"] == "directory":
                continue  # another program's
            at = entry.get("mtime") or entry.get("LastModified") or entry.get("created") or 0.0
            found[entry["name"].rpartition("/")[2]] = (
                float(at) if isinstance(at, (int, float)) else at.timestamp()
            )
        return found

    def _write_local(self, path: str, content: bytes) -> None:
        # fsspec writes in place: a reader, or a crash, would find half of it.
        make_folder(Path(path).parent)
        write_durably(Path(path), content)
        sync_folder(Path(path).parent)

    def _access(self, verb: str, name: str, work: Callable[[], T]) -> T:
        try:
            future = call_on_thread(work, name=f"epochal share: {name}")
        except NoThreadError as error:  # in a moment there may be one again, as with the storage
            raise self._failed(verb, name, error) from error
        try:
            return future.result(self._timeout)
        except FileNotFoundError:
            raise
        except NotDoneError:
            if future.done():  # the storage's own
                raise self._failed(verb, name, future.exception()) from None
            raise ShareTimeoutError(
                f"the share did not answer within {self._timeout:g} s: {self.url}/{name} could not "
                f"be {verb}",
                path=f"{self.url}/{name}",
            ) from None
        except Exception as error:
            raise self._failed(verb, name, error) from error

    def _failed(self, verb: str, name: str, error: Any) -> ShareError:
        reason = getattr(error, "strerror", None) or format_error(error)
        path = f"{self.url}/{name}"
        return ShareError(f"{path} in the share cannot be {verb}: {reason}", path=path)
