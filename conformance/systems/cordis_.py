"""cordis_py, from PyPI as cordis-python: components that are disposed of and applied again."""

from __future__ import annotations

import asyncio
import importlib
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from conformance.systems.files import Files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

# cordis_py's form of a plugin: it provides its functions as a service; an effect shuts it down.
_PLUGIN = """

def apply(ctx, config):
    DOWN.clear()
    ctx.provide("{name}", {{"a": a, "b": b, "shape": shape, "around": around}})
    ctx.effect(lambda: shutdown)
"""


_LONGEST_S = 30.0


class Cordis(Files):
    """The loader and the hot module replacement of cordis_py, in the event loop that they need."""

    name: ClassVar = "cordis_py"
    how: ClassVar = "`Loader` entries, `HMR.reload_entry(id)` or `reload_all()`; look-up by service"
    lacks: ClassVar = frozenset({"a_swap_names_its_holders"})

    def __init__(self, folder: Path) -> None:
        from cordis_py import HMR, Context, Loader

        super().__init__(folder)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="Main loop", daemon=True)
        self.thread.start()
        self.root = Context()
        self.loader = Loader(self.root)
        self.hmr = HMR(self.loader)

    def write(self, sources: Mapping[str, str]) -> None:
        """Save the sources, each with the code that makes it a plugin of cordis_py."""
        super().write({name: text + _PLUGIN.format(name=name) for name, text in sources.items()})

    def load(self, sources: Mapping[str, str]) -> None:
        """Declare all plugins as entries of the loader."""
        self.write(sources)
        importlib.invalidate_caches()
        names = [*self.loader.entries, *sources]
        self._wait(self.loader.reconcile([{"id": n, "url": f"{n}:apply"} for n in names]))

    def swap(self, sources: Mapping[str, str]) -> None:
        """Save the sources, then reload one entry, or all entries if several changed."""
        self.write(sources)
        if len(sources) > 1:
            self._wait(self.hmr.reload_all())
            return
        for name in sources:
            self._wait(self.hmr.reload_entry(name))

    @contextmanager
    def begin(self) -> Iterator[Callable[[str, str], Callable[..., Any]]]:
        """Begin an operation; each look-up asks for a service."""
        yield self._look

    def _look(self, plugin: str, function: str) -> Callable[..., Any]:
        service = self.root.get(plugin)
        if service is None:
            raise LookupError(f"there is no service {plugin!r}")
        call: Callable[..., Any] = service[function]
        return call

    def close(self) -> None:
        """Dispose of all plugins, and end the event loop. Idempotent."""
        super().close()
        if self.thread.is_alive():
            self._wait(self._end())
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()

    async def _end(self) -> None:
        await self.loader.dispose()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    def _wait(self, work: Any) -> Any:
        if not self.thread.is_alive():
            work.close()
            raise RuntimeError("the system is closed")
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(_LONGEST_S)
