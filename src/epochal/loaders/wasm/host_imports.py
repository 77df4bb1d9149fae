"""What the host gives to a component that was granted it: log, clock, random, config, state, http.

Each function is called by the guest in the thread of its call, with values of the types in
wit/plugin.wit. **None of them raises but `wasmtime.WasmtimeError`**, which ends the guest's call:
the binding keeps any other exception in one place for all threads.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import wasmtime
from wasmtime.component import Linker

from epochal._core.plugin.capabilities import allows
from epochal.loaders.wasm.component_world import HTTP, PACKAGE, STATE, VERSION
from epochal.loaders.wasm.host_http import request

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from epochal._core.plugin.candidate import Candidate

_MAX_RANDOM: Final = 65_536
_MAX_MESSAGE: Final = 10_000
_ENTRY_COST: Final = 128
"""Counted for each key, so that empty values are not free."""


class KeyValues:
    """The values that a plugin's instances share; a reload hands them over.

    Any thread calls; a lock guards the values.

    Args:
        limit: bytes of all keys and values.
    """

    def __init__(self, limit: int) -> None:
        self._limit: Final = limit
        self._lock: Final = threading.Lock()
        self._values: dict[str, bytes] = {}
        self._size = 0

    def get(self, _: object, key: str) -> bytes | None:
        """The value of a key."""
        with self._lock:
            return self._values.get(key)

    def set(self, _: object, key: str, value: bytes) -> str | None:
        """Set the value of a key; returns what is wrong, or None."""
        with self._lock:
            size = self._size - self._cost(key) + _cost(key, value)
            if size > self._limit:
                return f"the state would take {size:,} bytes of {self._limit:,}, its max_memory"
            self._size = size
            self._values[key] = value
        return None

    def delete(self, _: object, key: str) -> None:
        """Delete a key, if it is there."""
        with self._lock:
            self._size -= self._cost(key)
            self._values.pop(key, None)

    def keys(self, _: object) -> list[str]:
        """The keys, in the order in which they were set at first."""
        with self._lock:
            return list(self._values)

    def copy(self) -> dict[str, bytes]:
        """All of them."""
        with self._lock:
            return dict(self._values)

    def replace(self, values: Mapping[str, bytes]) -> None:
        """Take the values of another version over."""
        with self._lock:
            self._values = dict(values)
            self._size = sum(_cost(*entry) for entry in values.items())

    def _cost(self, key: str) -> int:
        value = self._values.get(key)
        return 0 if value is None else _cost(key, value)


def _cost(key: str, value: bytes) -> int:
    return len(key.encode()) + len(value) + _ENTRY_COST


class HostImports:
    """The functions that one generation's component may call.

    Args:
        candidate: the plugin.
        max_memory: bytes that the shared values may take.
        time_left: the seconds that are left of the call in this thread.

    Attributes:
        values: what `state` keeps.
    """

    def __init__(
        self, candidate: Candidate, max_memory: int, time_left: Callable[[], float]
    ) -> None:
        self._config: Final = candidate.config
        self._asked: Final = candidate.manifest.capabilities
        self._grants: Final = candidate.grants
        self._time_left: Final = time_left
        self._log: Final = logging.getLogger(f"epochal.plugin.{candidate.plugin}")
        self.values: Final = KeyValues(max_memory)

    def linker(
        self, engine: wasmtime.Engine, interfaces: Collection[str], *, has_wasi: bool
    ) -> Linker:
        """A linker that has these interfaces, and nothing else.

        Args:
            engine: the engine.
            interfaces: those that the component imports and was granted.
            has_wasi: whether WASI is one of them.
        """
        linker = Linker(engine)
        if has_wasi:
            linker.add_wasip2()
        functions = self._functions()
        with linker.root() as root:
            for interface in interfaces:
                with root.add_instance(f"{PACKAGE}{interface}@{VERSION}") as instance:
                    for name, function in functions[interface].items():
                        instance.add_func(name, function)
        return linker

    def _functions(self) -> dict[str, dict[str, Callable[..., Any]]]:
        levels = {
            "debug": logging.DEBUG,
            "info": logging.INFO,
            "warning": logging.WARNING,
            "error": logging.ERROR,
        }
        return {
            "log": {name: self._logs_at(level) for name, level in levels.items()},
            "clock": {
                "now": lambda _: time.time_ns(),
                "monotonic": lambda _: time.monotonic_ns(),
            },
            "random": {"bytes": _random},
            "config": {"get": self._config_value},
            STATE: {
                "get": self.values.get,
                "set": self.values.set,
                "delete": self.values.delete,
                "keys": self.values.keys,
            },
            HTTP: {"request": self._request},
        }

    def _logs_at(self, level: int) -> Callable[[object, str], None]:
        def log(_: object, message: str) -> None:
            try:
                self._log.log(level, "%s", message[:_MAX_MESSAGE])
            except Exception as error:  # noqa: BLE001  of a handler or filter of the application
                raise wasmtime.WasmtimeError(f"the host's log failed: {error!r}") from None

        return log

    def _config_value(self, _: object, key: str) -> str | None:
        return json.dumps(self._config[key]) if key in self._config else None

    def _request(
        self, _: object, method: str, url: str, headers: list[tuple[str, str]], body: bytes
    ) -> bytes | str:
        return request(method, url, headers, body, self._may_reach, self._time_left())

    def _may_reach(self, host: str) -> bool:
        return allows(self._asked, self._grants, f"net:{host}")


def _random(_: object, count: int) -> bytes:
    if count > _MAX_RANDOM:
        raise wasmtime.WasmtimeError(
            f"random.bytes was asked for {count:,} bytes; expected at most {_MAX_RANDOM:,}"
        )
    return os.urandom(count)
