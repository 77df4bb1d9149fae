"""Which absolute module names mean modules of a generation's own.

A plugin's own name does; and where its manifest says `vendored = "_vendor"`, so does the name of
every package and module that lies in that folder, as `pip install --target _vendor …` puts them
there: `import jinja2.ext` is then the plugin's own copy, to the plugin and to all that it carries
(jinja2 itself imports `jinja2.ext` so), and nobody else sees it. Two plugins, or two generations of
one, may so carry different versions of one distribution.

A copy's private name is that of its file: ``geo__g7_3fa9c1d2._vendor.jinja2.ext``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class OwnNames:
    """Maps an absolute module name to this generation's private one; None for anybody else's.

    Args:
        tops: first part of a name -> the private name of the module that it means.
        check_open: raises once the generation's modules are gone; given the name asked for.
    """

    __slots__ = ("_check_open", "_tops")

    def __init__(self, tops: Mapping[str, str], check_open: Callable[[str], None]) -> None:
        self._tops: Final = tops
        self._check_open: Final = check_open

    def __call__(self, name: str) -> str | None:
        """The private name of a module; "" for "", which begins a relative import."""
        top, dot, rest = name.partition(".")
        private = self._tops.get(top) if top else ""
        if private is None:
            return None
        self._check_open(name)
        return f"{private}{dot}{rest}"


def top_names(files: Iterable[str], folder: str) -> frozenset[str]:
    """The names that can be imported from a folder: its packages, with `__init__.py` or without.

    Args:
        files: the artifact's files.
        folder: below the plugin's root.
    """
    prefix = f"{folder}/"
    below = (path[len(prefix) :] for path in files if path.startswith(prefix))
    found = (path.partition("/")[0].removesuffix(".py") for path in below if path.endswith(".py"))
    return frozenset(name for name in found if name.isidentifier())


def packages(files: Iterable[str]) -> frozenset[str]:
    """Every folder that has Python files in or below it."""
    found: set[str] = set()
    for path in files:
        folder = path.rpartition("/")[0] if path.endswith(".py") else ""
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return frozenset(found)
