"""What a person does about a leak: advice for libraries that keep what plugins register with them.

Some libraries have no way to take a registration back, or one that is easily missed. Their tables
are known by the path that leads through them; the advice is tried by `tests/realcode`.
"""

from __future__ import annotations

import re
from typing import Final

_REMEDIES: Final = (
    (
        r"\bnumba\b|\bDUFunc",
        "numba keeps compiled functions for good: put them in a module of the host, "
        "and have the plugin call them",
    ),
    (
        r"\bcelery\._state\b",
        "celery keeps shared tasks for good: use @app.task(shared=False) on an app of the "
        "plugin's own, or a task of the host that calls an export",
    ),
    (
        r"\bmarshmallow\.class_registry\b",
        "marshmallow finds schemas by name, and the first version for good: set "
        "`class Meta: register = False` and nest the class itself",
    ),
    (
        r"\byaml_(multi_)?(constructors|representers)\b|\byaml_\w+_resolvers\b",
        "derive a loader or dumper of the plugin's own (class Loader(yaml.SafeLoader)), and "
        "add to that",
    ),
    (
        r"\bpolars\..*\._ns\b",
        "polars keeps a namespace on its class: in ctx.defer, delete the attribute and take "
        "its name out of the class's _accessors, if it is still this version's",
    ),
    (
        r"\bpandas\..*\._accessor\b",
        "pandas keeps an accessor on its class: in ctx.defer, delete the attribute and take "
        "its name out of the class's _accessors, if it is still this version's",
    ),
    (
        r"\bstructlog\._config\b",
        "structlog.configure is for the whole process: have the host call it, or give the "
        "plugin a logger of its own with structlog.wrap_logger",
    ),
    (
        r"\b_all_projection_types\b",
        "matplotlib keeps projections: pass the class itself, add_subplot(axes_class=...)",
    ),
    (
        r"\b_compiled_cache\b",
        "SQLAlchemy caches compiled statements: ctx.defer(engine.clear_compiled_cache)",
    ),
    (
        r"\bsqlalchemy\b|\bclass_manager\b",
        "SQLAlchemy keeps mapped classes with their base: map on a DeclarativeBase of the "
        "plugin's own",
    ),
    (
        r"\.lifespan_context\b",
        "FastAPI's include_router chains lifespans: mount an application of the plugin's own, "
        'ctx.register(app.router.routes, Mount("/path", app=own))',
    ),
)


def remedy_for(path: str) -> str:
    """What to do about a reference; empty if nothing is known of it.

    Args:
        path: the path of the reference, in words.
    """
    return next((remedy for known, remedy in _REMEDIES if re.search(known, path)), "")
