"""The one engine of the process, and the code that it has compiled.

Compiling takes tens of milliseconds, so compiled code is kept: in this process while a generation
has it, and in the store's folder. **Compiled code is machine code**: a file of it is trusted, and
bytes of somebody else's would run outside of the sandbox. So a file is read only if it has the
message authentication code that this store's key makes for these bytes, this module's digest and
this very engine; any other file is compiled anew. The key is a file that only the store's owner can
read. It is no shield against someone who can write into the store as its owner: the plugins there
are code as well.

Memory accesses are checked by instructions, not by page faults: those would need signal handlers,
and `faulthandler.enable()`, or a library that sets handlers after the engine did, would then make a
plugin's wild pointer end the process (seen with wasmtime 50). It costs nothing that can be
measured.

Threads: `_modules` is written by any thread, one dictionary step at a time; of two threads that
compile the same module at once, one's work is lost. No lock is held while compiling.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import platform
import secrets
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import wasmtime

from epochal._core.sync.durable_files import write_durably
from epochal.loaders.wasm.limits import MAX_STACK

if TYPE_CHECKING:
    from pathlib import Path

_KEY_FILE: Final = "key"
_KEY_BYTES: Final = 32
_MAC_BYTES: Final = 32
_MOST_FILES: Final = 64
"""The files that are kept in a store's folder; the oldest goes first."""

_SETTINGS: Final = {
    "epoch_interruption": True,
    "signals_based_traps": False,
    "max_wasm_stack": MAX_STACK,
    # Its threads would be missing in a forked child, which then would compile nothing.
    "parallel_compilation": False,
    "memory_reservation": 0,
    "memory_reservation_for_growth": 1 << 20,
    "memory_guard_size": 0,
    "wasm_threads": False,
    "wasm_memory64": False,
}

_modules: Final[WeakValueDictionary[str, wasmtime.Module]] = WeakValueDictionary()


@cache
def engine() -> wasmtime.Engine:
    """The engine; made with the first WebAssembly plugin."""
    config = wasmtime.Config()
    for name, value in _SETTINGS.items():
        setattr(config, name, value)
    return wasmtime.Engine(config)


@cache
def _identity() -> str:
    """All that compiled code depends on, but for the module."""
    built = (version("wasmtime"), sys.platform, platform.machine(), platform.processor())
    return repr((*built, sorted(_SETTINGS.items())))


def compiled(content: bytes, folder: Path | None = None) -> wasmtime.Module:
    """The compiled code of a module, from where it is kept, or compiled now.

    Args:
        content: the module.
        folder: the folder in which a store keeps compiled code; None for no store.

    Raises:
        wasmtime.WasmtimeError: it is not a valid module.
    """
    digest = hashlib.sha256(content).hexdigest()
    module = _modules.get(digest)
    if module is None:
        module = _from_file(digest, folder) if folder is not None else None
        if module is None:
            module = wasmtime.Module(engine(), content)
            if folder is not None:
                # A store that cannot be written to refuses the change where it stores the epoch.
                with suppress(OSError):
                    _to_file(module, digest, folder)
        _modules[digest] = module
    return module


def _name(digest: str) -> str:
    return hashlib.sha256(f"{digest} {_identity()}".encode()).hexdigest()


def _mac(key: bytes, digest: str, code: bytes) -> bytes:
    signed = hmac.new(key, f"{digest} {_identity()}\n".encode(), hashlib.sha256)
    signed.update(code)
    return signed.digest()


def _from_file(digest: str, folder: Path) -> wasmtime.Module | None:
    try:
        key = (folder / _KEY_FILE).read_bytes()
        content = (folder / _name(digest)).read_bytes()
    except OSError:
        return None
    mac, code = content[:_MAC_BYTES], content[_MAC_BYTES:]
    if len(key) != _KEY_BYTES or not hmac.compare_digest(mac, _mac(key, digest, code)):
        return None
    with suppress(wasmtime.WasmtimeError):  # another processor than it was compiled for
        return wasmtime.Module.deserialize(engine(), code)
    return None


def _to_file(module: wasmtime.Module, digest: str, folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    code = bytes(module.serialize())
    write_durably(folder / _name(digest), _mac(_key(folder), digest, code) + code)
    files = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    for path in [path for path in files if path.name != _KEY_FILE][:-_MOST_FILES]:
        path.unlink(missing_ok=True)


def _key(folder: Path) -> bytes:
    path = folder / _KEY_FILE
    with suppress(FileExistsError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:  # cut off by a full disk: the next module makes another
        path.unlink(missing_ok=True)
        raise OSError(f"{path} was not written in full")
    return key
