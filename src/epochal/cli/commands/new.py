"""`epochal new`: a working plugin and its test, as a start for your own.

The files are copies of `templates/`, plugins and tests that Epochal's own suite runs, with the name
replaced.
"""

from __future__ import annotations

import keyword
import re
from enum import Enum
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final

import typer

from epochal.cli.console import Json, console, write_json
from epochal.cli.wit_world import component_world
from epochal.errors import HostError

_ID: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PLACEHOLDER: Final = "example"


_WORLD: Final = "epochal.wit"


class Language(Enum):
    """A language in which a WebAssembly plugin can be begun."""

    C = "c"
    ZIG = "zig"
    RUST = "rust"
    ASSEMBLYSCRIPT = "assemblyscript"
    PYTHON = "python"


# The files of each language's own, and their templates in `templates/wasm`.
_SOURCES: Final[dict[Language, dict[str, str]]] = {
    Language.C: {"NAME.c": "plugin.c", "epochal.h": "epochal.h"},
    Language.ZIG: {"NAME.zig": "plugin.zig"},
    Language.RUST: {"NAME.rs": "plugin.rs"},
    Language.ASSEMBLYSCRIPT: {"NAME.ts": "plugin.ts"},
    Language.PYTHON: {
        "NAME_component.py": "component.py",
        "NAME.wit": "component.wit",
        _WORLD: _WORLD,
    },
}
# What brings each compiler.
_COMPILERS: Final = {
    Language.C: "pip install ziglang",
    Language.ZIG: "pip install ziglang",
    Language.RUST: "rustup target add wasm32-unknown-unknown",
    Language.ASSEMBLYSCRIPT: "npx --version  # of Node.js, which gets the compiler",
    Language.PYTHON: "pip install componentize-py",
}


def new(
    name: Annotated[
        str, typer.Argument(help="The plugin's id, the first part of its functions' names.")
    ],
    folder: Annotated[
        Path, typer.Option(metavar="PATH", help="The folder to write to; it is created if missing.")
    ] = Path(),
    wasm: Annotated[
        Language | None,
        typer.Option(help="Write a WebAssembly plugin, in this language.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    as_json: Json = False,
) -> None:
    """Write a working plugin and its test.

    For example:
      epochal new geo
      epochal check geo.py
      python -m pytest test_geo.py

    Writes NAME.py and test_NAME.py, and replaces files only with --force.
    With --wasm c it writes NAME.c, its manifest NAME.toml, the interface
    epochal.h, and build_NAME.py, which makes NAME.wasm of them. The other
    languages have the same files. C and Zig need `pip install ziglang`, Rust
    its target wasm32-unknown-unknown, AssemblyScript Node.js. --wasm python
    makes a component, 18 MB, with `pip install componentize-py`.
    """
    _check(name)
    texts = {folder / file: _text(template, name) for file, template in _files(name, wasm).items()}
    existing = [str(path) for path in texts if path.exists()]
    if existing and not force:
        verb, object_ = ("exists", "it") if len(existing) == 1 else ("exist", "them")
        raise HostError(f"{' and '.join(existing)} {verb} already; --force replaces {object_}")
    _write(folder, texts)
    if as_json:
        write_json({"plugin": name, "files": [str(path) for path in texts]})
    else:
        _show_next_steps(name, folder, [*texts], wasm)


def _files(name: str, wasm: Language | None) -> dict[str, str]:
    """The files to write, each with its template."""
    if wasm is None:
        return {f"{name}.py": "plugin.py", f"test_{name}.py": "test_plugin.py"}
    test = "component" if wasm is Language.PYTHON else "plugin"
    first, *more = _SOURCES[wasm].items()
    made = {
        "NAME.toml": "plugin.toml",
        "build_NAME.py": f"build_{wasm.value}.py",
        "test_NAME.py": f"test_wasm_{test}.py",
    }
    listed = (first, *made.items(), *more)
    return {file.replace("NAME", name): f"wasm/{template}" for file, template in listed}


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
    if template == f"wasm/{_WORLD}":
        return component_world()
    text = files("epochal.cli").joinpath("templates", template).read_text(encoding="utf-8")
    return text.replace(_PLACEHOLDER, name)


def _write(folder: Path, texts: dict[Path, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise HostError(f"{folder} cannot be written to: {error.strerror or error}") from error


def _show_next_steps(name: str, folder: Path, paths: list[Path], wasm: Language | None) -> None:
    plugin = folder / f"{name}.{'py' if wasm is None else 'wasm'}"
    build = () if wasm is None else (_COMPILERS[wasm], f"python {folder / f'build_{name}.py'}")
    *first, last = map(str, paths)
    out = console()
    out.print(f"wrote {', '.join(first)} and {last}; now try", markup=False)
    for command in (
        *build,
        f"epochal check {plugin}",
        f"""epochal query "SELECT {name}.greet('world')" --plugin {plugin}""",
        f"python -m pytest {folder / f'test_{name}.py'}",
    ):
        out.print(f"  {command}", markup=False)
