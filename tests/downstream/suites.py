"""What is run, and what it needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Suite:
    """A distribution's own tests, from its source distribution, or a program of ours over it.

    Attributes:
        name: on the command line.
        installs: requirements, installed into a folder of its own.
        program: the program in `programs/`; None for the distribution's own tests.
        sdist: the source distribution with the tests.
        beneath: the manager that is replaced, `pluggy` or `pytest`.
        tests: paths in the source distribution, and options of pytest.
    """

    name: str
    installs: tuple[str, ...]
    program: str | None = None
    sdist: str = ""
    beneath: str = "pluggy"
    tests: tuple[str, ...] = ()


def _pluggy(version: str) -> Suite:
    requirement = f"pluggy=={version}"
    return Suite(
        f"pluggy-{version}",
        (requirement, "pytest>=8,<9" if version < "1.7" else "pytest"),
        sdist=requirement,
        tests=("testing", "--ignore=testing/benchmark.py"),
    )


_PYTEST = "pytest==9.2.0"

SUITES = (
    _pluggy("1.5.0"),
    _pluggy("1.6.0"),
    _pluggy("1.7.0"),
    Suite(
        "pytest",
        (_PYTEST, "attrs", "hypothesis"),
        sdist=_PYTEST,
        beneath="pytest",
        tests=("testing/test_pluginmanager.py", "testing/test_conftest.py"),
    ),
    Suite("datasette", ("datasette<1",), "datasette_pages"),
    Suite("llm", ("llm",), "llm_models"),
    Suite("tox", ("tox",), "tox_environments"),
    Suite("hatch", ("hatchling",), "hatch_builders"),
    Suite("kedro", ("kedro",), "kedro_hooks"),
)
