"""Example plugins, to use and to copy: one for each kind that keeps state.

They are files to load, not modules to import: `rt.load(examples.path("feed"), config={…})`. Copy
one into your own folder to change it. Its `dependencies` list the libraries that it needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent


def names() -> list[str]:
    """Return the ids of the example plugins, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.py") if path.stem != "__init__")


def path(name: str) -> Path:
    """Return the file of an example, by its plugin's id.

    Raises:
        ValueError: there is no example of that name.
    """
    if name not in names():
        raise ValueError(f"no example {name!r}; there are: {', '.join(names())}")
    return _FOLDER / f"{name}.py"
