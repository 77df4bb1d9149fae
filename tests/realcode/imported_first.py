"""Libraries that a plugin is the first to import: the process must keep what they registered.

`python -m tests.realcode.imported_first` asks each of `LIBRARIES` that is installed, in processes
of their own: one that imports it plainly, and one for each way in which a plugin may come and go.
At the end the process's tables must be the same. The dependency group `libraries` pins the versions
that were tried; `make test` asks those that are installed for other reasons.
"""

from __future__ import annotations

import argparse
import builtins
import codecs
import copyreg
import gc
import importlib.util
import json
import logging
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

REPOSITORY = Path(__file__).parents[2]

LIBRARIES = (
    *("aiohttp", "arrow", "attr", "babel", "beartype", "boto3", "botocore", "bs4", "cachetools"),
    *(
        "celery",
        "certifi",
        "cffi",
        "charset_normalizer",
        "click",
        "cloudpickle",
        "cryptography.x509",
    ),
    *("cytoolz", "dateutil.parser", "dill", "django.apps", "docutils.core", "fastapi", "flask"),
    *("future.standard_library", "gevent", "grpc", "html5lib", "httpx", "importlib_metadata"),
    *(
        "jinja2",
        "joblib",
        "jsonschema",
        "kombu",
        "loguru",
        "lxml.etree",
        "mako.template",
        "markdown",
    ),
    *(
        "marshmallow",
        "matplotlib.pyplot",
        "more_itertools",
        "mpmath",
        "msgpack",
        "networkx",
        "nltk",
    ),
    *("numpy", "opentelemetry.sdk.trace", "orjson", "pandas", "pendulum", "pexpect", "PIL.Image"),
    *("pkg_resources", "prometheus_client", "google.protobuf.message", "psutil", "psycopg2"),
    *("pydantic", "pygments.lexers", "pytz", "redis", "regex", "requests", "rich.console"),
    *("ruamel.yaml", "scipy.stats", "sentry_sdk", "setuptools", "simplejson", "six", "sklearn"),
    *("sqlalchemy", "structlog", "sympy", "toolz", "tornado.ioloop", "tqdm", "typeguard", "typer"),
    *("tzlocal", "ujson", "urllib3", "werkzeug", "wrapt", "yaml", "zope.interface", "zstandard"),
)
"""By the module that the plugin imports."""

WAYS = {
    "reloaded and removed": ("load", "reload", "remove"),
    "refused at first": ("load refused",),
    "refused, then reloaded": ("load", "reload refused", "reload", "remove"),
}

_PLUGIN = """\
# /// plugin
# id = "first"
# version = "1"
# ///
{code}
def init(ctx):
    if {refused}: raise RuntimeError("refused")
"""


def main() -> int:
    """Ask all or some of the installed libraries; 0 if no process lost anything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help="modules to import; all by default")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    chosen = [m for m in arguments.modules or LIBRARIES if is_installed(m)]
    bad = 0
    with ThreadPoolExecutor(arguments.workers) as pool:
        for module, lost in zip(chosen, pool.map(differences, chosen), strict=True):
            bad += bool(lost)
            print(module, *(lost or ["ok"]), sep="\n    " if lost else ": ", flush=True)
    print(f"{len(chosen)} of {len(LIBRARIES)} libraries asked, {bad} lost something")
    return int(bad > 0)


def is_installed(module: str) -> bool:
    """Whether a library can be imported here; imports its parents."""
    return importlib.util.find_spec(module.partition(".")[0]) is not None


def differences(module: str) -> list[str]:
    """What is not as after a plain import, a line each, whichever way the plugin goes."""
    plain = _ask(module, "plain")
    lines: list[str] = []
    for way in WAYS:
        tables = _ask(module, way)
        for name, entries in plain.items():
            lost = [entry for entry in entries if entry not in tables[name]]
            # Another way to import may import more; it must add no entry that comes twice.
            more = [] if name == "modules" else [e for e in tables[name] if e not in entries]
            lines += [f"{way}: {name} lost {entry}" for entry in lost]
            lines += [f"{way}: {name} has {entry} besides" for entry in more]
            if name != "modules" and len(entries) != len(tables[name]):
                lines.append(f"{way}: {name} has {len(tables[name])} entries, not {len(entries)}")
    return lines


def _ask(module: str, way: str) -> dict[str, list[str]]:
    command = [sys.executable, "-m", "tests.realcode.imported_first_child", module, way]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, f"{module}, {way}: {done.stderr[-2000:]}"
    tables: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return tables


def carry_out(module: str, way: str) -> dict[str, list[str]]:
    """In a process of its own: have a plugin import the module first; returns the tables."""
    from epochal import Runtime

    with TemporaryDirectory() as folder, Runtime(drain_timeout=60, phase_timeout=120) as rt:
        path = Path(folder, "first.py")
        code = "" if way == "plain" else f"import {module}"
        for step in WAYS.get(way, ("load", "reload refused", "reload", "remove")):
            what, _, refused = step.partition(" ")
            path.write_text(_PLUGIN.format(code=code, refused=bool(refused)))
            with suppress(Exception if refused else ()):
                rt.load(path) if what == "load" else getattr(rt, what)("first")
    importlib.import_module(module)
    return tables()


def tables() -> dict[str, list[str]]:
    """The process's tables, in words."""
    hooks = (sys.excepthook, sys.unraisablehook, sys.displayhook, sys.breakpointhook)
    hooks += (threading.excepthook, warnings.showwarning, warnings.formatwarning)
    streams = (type(sys.stdout), type(sys.stderr), type(sys.stdin))
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    return {
        "builtins": sorted(vars(builtins)),
        "hooks": [_word(hook) for hook in (*hooks, *streams)],
        "logging": [_word(logging.getLoggerClass()), _word(logging.getLogRecordFactory())],
        "copyreg": sorted(map(_word, copyreg.dispatch_table)),
        # (A codec is imported as it is first used, by whichever code.)
        "modules": sorted(n for n in sys.modules if not n.startswith(("first__", "encodings."))),
        "path": sys.path.copy(),
        "finders": [_word(f) for f in sys.meta_path if "epochal" not in repr(f)],
        "path hooks": list(map(_word, sys.path_hooks)),
        "collector callbacks": list(map(_word, gc.callbacks)),
        "warnings filters": list(map(repr, warnings.filters)),
        "handlers": sorted(
            f"{logger.name}: {_word(type(item))}"
            for logger in loggers
            if isinstance(logger, logging.Logger)
            for item in (*logger.handlers, *logger.filters)
        ),
        "codecs": [name for name in ("idna", "unicode_escape") if codecs.lookup(name)],
    }


def _word(obj: Any) -> str:
    named = obj if hasattr(obj, "__qualname__") else type(obj)
    return f"{named.__module__}.{named.__qualname__}"


if __name__ == "__main__":
    sys.exit(main())
