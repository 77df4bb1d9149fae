"""What the guests of modules and of components have in common: how they open, stop and close."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from epochal.errors import GuestError
from epochal.loaders.wasm.instance_pool import InstancePool
from epochal.loaders.wasm.scalars import ScalarCaller

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from epochal._core.plugin.declared_exports import DeclaredExport
    from epochal.loaders._kept_code import KeptCode

P = TypeVar("P", bound=InstancePool[Any])


class EntryPointError(Exception):
    """A function of the plugin's life trapped, or refused: what a Python plugin's would raise."""


@contextmanager
def entry_point() -> Iterator[None]:
    """Have a failure of the guest be one of its plugin's entry point."""
    try:
        yield
    except GuestError as error:
        raise EntryPointError(str(error)) from None


class AnyGuest(ScalarCaller, Generic[P]):
    """The code of one generation; nothing of it runs before `open`.

    Args:
        pool: its instances.
        exports: what the manifest declares.
        content: the binary.
        kept: where the store keeps compiled code; None for no store.
    """

    def __init__(
        self, pool: P, exports: Iterable[DeclaredExport], content: bytes, kept: KeptCode | None
    ) -> None:
        super().__init__(exports)
        self._pool: Final = pool
        self._content: Final = content
        self._kept: Final = kept

    def open(self) -> frozenset[str]:
        """Compile and check the code; returns its functions. See `InstancePool.open`."""
        self._pool.open(self._content, self._kept)
        return self._pool.names

    def interrupt(self, reason: str) -> None:
        """Stop every call that runs, and take no more. Any thread."""
        self._pool.interrupt(reason)

    def close(self) -> None:
        """Give back all memory."""
        self._pool.close()
