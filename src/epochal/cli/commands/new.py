"""`epochal new`: a working plugin and its test, as a start for your own.

The two files are copies of `templates/`, a plugin and a test that Epochal's own suite runs, with
the name replaced.
"""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final

import typer

from epochal.cli.console import Json, console, write_json
from epochal.errors import HostError

_ID: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PLACEHOLDER: Final = "example"


def new(
    name: Annotated[
        str, typer.Argument(help="The plugin's id, the first part of its functions' names.")
    ],
    folder: Annotated[
        Path, typer.Option(metavar="PATH", help="The folder to write to; it is created if missing.")
    ] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    as_json: Json = False,
) -> None:
    """Write a working plugin and its test.

    For example:
      epochal new geo
      epochal check geo.py
      python -m pytest test_geo.py

    Writes NAME.py and test_NAME.py, and replaces files only with --force.
    """
    _check(name)
    texts = {
        folder / f"{name}.py": _text("plugin.py", name),
        folder / f"test_{name}.py": _text("test_plugin.py", name),
    }
    existing = [str(path) for path in texts if path.exists()]
    if existing and not force:
        verb, object_ = ("exists", "it") if len(existing) == 1 else ("exist", "them")
        raise HostError(f"{' and '.join(existing)} {verb} already; --force replaces {object_}")
    _write(folder, texts)
    if as_json:
        write_json({"plugin": name, "files": [str(path) for path in texts]})
    else:
        _show_next_steps(name, *texts)


def _check(name: str) -> None:
    if not _ID.fullmatch(name) or keyword.iskeyword(name):
        raise typer.BadParameter(
            f"{name!r} cannot be a plugin's id; expected a lower-case letter, then lower-case "
            f"letters, digits and underscores, 64 at most, and no keyword of Python{_close(name)}"
        )


def _close(name: str) -> str:
    close = re.sub(r"\W+", "_", name.strip().lower()).strip("_")
    return f", such as {close!r}" if close != name and _ID.fullmatch(close) else ""


def _text(template: str, name: str) -> str:
    text = files("epochal.cli").joinpath("templates", template).read_text(encoding="utf-8")
    return text.replace(_PLACEHOLDER, name)


def _write(folder: Path, texts: dict[Path, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise HostError(f"{folder} cannot be written to: {error.strerror or error}") from error


def _show_next_steps(name: str, plugin: Path, test: Path) -> None:
    out = console()
    out.print(f"wrote {plugin} and {test}; now try", markup=False)
    out.print(f"  epochal check {plugin}", markup=False)
    out.print(f"""  epochal query "SELECT {name}.greet('world')" --plugin {plugin}""", markup=False)
    out.print(f"  python -m pytest {test}", markup=False)
