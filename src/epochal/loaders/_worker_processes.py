"""Plugin code in worker processes: `ProcessPoolExecutor`, `multiprocessing.Pool`, joblib.

The problem: a task names its function, `geo.area`, and a worker that was spawned cannot import
`geo`; one that was forked earlier has another version. So what goes to a worker must name the exact
code, and the worker must get hold of it. Their picklers are classes of their own, which ask a
`reducer_override` about each function and class first; here it is:

* it writes `load_object` with the code's digest, and a file that has the code;
* a worker that reads this finds the generation in its process, or makes a `replica`: it runs the
  artifact's code, as a spawned worker imports any module. No `init` runs there;
* what a worker sends back is found in the very generation that sent the task.

The files are in a private folder of this process, one for each digest that was sent, and go with
the process. `pickle.dumps` itself is left alone: what it writes may be kept for years, so it names
the plugin (`_module_views`).

Threads: ``_replicas`` and ``_folder`` are written under ``_lock``, by any thread; no plugin code
runs under it.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import marshal
import os
import pickle
import shutil
import threading
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from epochal._core.introspect.object_names import MODULE_OF_NAME, dict_of_type
from epochal._core.plugin.artifact import Artifact
from epochal._core.sync.forks import free_in_child
from epochal._core.use.lease import LeasedCallable
from epochal.loaders import _module_registry as registry
from epochal.loaders._module_views import runs_code_of
from epochal.loaders.languages import open_replica

if TYPE_CHECKING:
    from epochal.loaders.python_namespace import PythonNamespace

_MOST_REPLICAS: Final = 8

_lock: Final = free_in_child(threading.Lock())
_replicas: Final[dict[str, PythonNamespace]] = {}  # by digest, the latest last
_folder: Path | None = None


class Code(NamedTuple):
    """The code of one generation, as a worker finds it.

    Attributes:
        plugin: the plugin's id.
        version: its version, for people.
        digest: its artifact's.
        root_name: the private name of its root module where it was sent first.
        file: has the artifact.
    """

    plugin: str
    version: str
    digest: str
    root_name: str
    file: str


def _install(name: str, module: ModuleType) -> None:
    """Have a pickler class of a module ask `reduce_object` first. Idempotent."""
    pickler: Any = getattr(module, name, None)
    former = getattr(pickler, "reducer_override", None)
    if pickler is None or getattr(former, "__module__", None) == __name__:
        return

    def reducer_override(self: Any, obj: Any) -> Any:
        # Called for each object that is no number, string or plain container.
        reduced = reduce_object(obj) if issubclass(type(obj), _SENT) else NotImplemented
        if reduced is NotImplemented and former is not None:
            return former(self, obj)
        return reduced

    pickler.reducer_override = reducer_override


def reduce_object(obj: Any) -> Any:
    """How an object of a plugin is written for a worker; `NotImplemented` for any other."""
    cls: Any = type(obj)
    if cls is FunctionType or cls in _NAMED:
        name = getattr(obj, "__module__", None)
    elif issubclass(cls, type):
        name = dict_of_type(obj).get("__module__")
    elif issubclass(cls, ModuleType):
        name = vars(obj).get("__name__")
    else:
        return NotImplemented
    module = MODULE_OF_NAME.get(id(name))
    namespace = registry.namespace_of(module) if module is not None else None
    if module is None or namespace is None:
        return NotImplemented
    qualname = "" if issubclass(cls, ModuleType) else getattr(obj, "__qualname__", "")
    if not _is_at(module, qualname, obj):
        return NotImplemented
    return load_object, (tuple(_code_of(namespace)), module.__name__, qualname)


_NAMED: Final[frozenset[type]] = frozenset({LeasedCallable, type(functools.lru_cache(len))})
_SENT: Final[tuple[type, ...]] = (type, FunctionType, ModuleType, *_NAMED)


def _is_at(module: Any, qualname: str, obj: Any) -> bool:
    """Whether an object, or what it is the export of, is found under its name."""
    found = module
    for part in qualname.split(".") if qualname else ():
        found = getattr(found, part, None)
    if type(obj) is FunctionType and type(found) is FunctionType:
        return found is obj or found.__code__ is obj.__code__
    return found is obj or (type(obj) is LeasedCallable and callable(found))


def load_object(code: tuple[str, ...], public: str, qualname: str) -> Any:
    """The object that `reduce_object` wrote; picklers call this.

    Raises:
        pickle.UnpicklingError: the code is neither in this process nor in its file.
    """
    namespace = _find(Code(*code))
    found: Any = importlib.import_module(namespace.private(public))
    for part in qualname.split(".") if qualname else ():
        found = getattr(found, part)
    if type(found) is FunctionType and not runs_code_of(namespace):
        return namespace.export_of(found)
    return found


def _find(code: Code) -> PythonNamespace:
    exact = registry.namespace_named(code.root_name)
    if exact is not None and exact.artifact.digest == code.digest:
        return exact
    return registry.namespace_with(code.digest) or _make_replica(code)


def _make_replica(code: Code) -> PythonNamespace:
    """A namespace for another process's generation, whose modules run when they are imported."""
    plugin, number, public, vendored, artifact = _read(code)
    with _lock:
        replica = _replicas.pop(code.digest, None)
        if replica is None:
            replica = open_replica(artifact, plugin, number, vendored, public)
            replica.code = code
        _replicas[code.digest] = replica
        surplus = [_replicas.pop(digest) for digest in list(_replicas)[:-_MOST_REPLICAS]]
    for one in surplus:
        one.close()
    return replica


def _code_of(namespace: PythonNamespace) -> Code:
    """The description of a generation's code, which is in its file from now on."""
    code = namespace.code
    if code is None or not os.path.exists(code.file):  # noqa: PTH110  half the time of `Path`
        code = namespace.code = _write(namespace)
    return code


def _write(namespace: PythonNamespace) -> Code:
    artifact = namespace.artifact
    origin = None if artifact.origin is None else str(artifact.origin)
    content = marshal.dumps(
        (
            (namespace.plugin, namespace.number, namespace.public_root, namespace.vendored),
            (artifact.name, dict(artifact.files), artifact.is_package, origin),
        )
    )
    path = _private_folder() / artifact.digest
    part = path.with_name(f"{artifact.digest}.{threading.get_ident()}")
    part.write_bytes(content)
    part.replace(path)
    owner = namespace.owner()
    version = owner.version if owner is not None else ""
    return Code(namespace.plugin, version, artifact.digest, namespace.root_name, str(path))


def _private_folder() -> Path:
    global _folder
    with _lock:
        if _folder is None or not _folder.is_dir():
            import tempfile

            _folder = Path(tempfile.mkdtemp(prefix="epochal-"))
            atexit.register(_remove, _folder, os.getpid())
        return _folder


def _remove(folder: Path, pid: int) -> None:
    if pid == os.getpid():  # not in a forked child
        shutil.rmtree(folder, ignore_errors=True)


def _read(code: Code) -> tuple[str, int, str, str, Artifact]:
    try:
        (plugin, number, public, vendored), (name, files, is_package, origin) = marshal.loads(
            Path(code.file).read_bytes()
        )
        artifact = Artifact(name, files, is_package, Path(origin) if origin else None)
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise _missing(code, str(error)) from error
    if artifact.digest != code.digest:
        raise _missing(code, f"{code.file} has another")
    return plugin, number, public, vendored, artifact


def _missing(code: Code, reason: str) -> pickle.UnpicklingError:
    return pickle.UnpicklingError(
        f"this was written by plugin {code.plugin!r} {code.version} (digest {code.digest[:12]}), "
        f"whose code is not here ({reason}): load that version in this process, or read this "
        "while the process that wrote it lives"
    )


registry.AFTER_IMPORT.update(
    {
        "multiprocessing.reduction": functools.partial(_install, "ForkingPickler"),
        "cloudpickle.cloudpickle": functools.partial(_install, "CloudPickler"),
        "joblib.externals.cloudpickle.cloudpickle": functools.partial(_install, "CloudPickler"),
    }
)
