"""`epochal wasm`: make a WebAssembly module a plugin, and look into one. Nothing of it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from epochal.cli.console import Json, console, write_json
from epochal.cli.wit_world import component_world
from epochal.errors import ArtifactError, HostError

if TYPE_CHECKING:
    from epochal.artifact import Manifest

wasm: Final = typer.Typer(
    name="wasm",
    help="Make a WebAssembly module a plugin, and look into one.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
)

_COMPONENT: Final = b"\x0d\0\1\0"
"""Where a core module has its version."""

Module = Annotated[
    Path, typer.Argument(metavar="MODULE", help="A .wasm file, or text in a .wat file.")
]


@wasm.command()
def embed(
    module: Module,
    manifest: Annotated[
        Path, typer.Argument(metavar="MANIFEST", help="The manifest, a .toml file.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", help="Default: MODULE itself, as .wasm."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Put a manifest into a module, which then is a plugin in one file.

    For example:
      epochal wasm embed geo.wasm geo.toml
      epochal check geo.wasm

    The manifest becomes the custom section epochal.plugin, in place of one that
    is there. It is checked first. A .wat file is assembled, which needs wasmtime.
    """
    from epochal.artifact import embed_manifest

    content = _read(module)
    try:
        made = embed_manifest(content, _bytes_of(manifest))
    except ArtifactError as error:
        raise ArtifactError(f"{module} {error}") from None
    target = output or module.with_suffix(".wasm")
    checked = _manifest_of(manifest.name, made)
    try:
        target.write_bytes(made)
    except OSError as error:
        raise HostError(f"{target} cannot be written: {error.strerror or error}") from error
    if as_json:
        write_json({"plugin": checked.id, "version": str(checked.version), "file": str(target)})
    else:
        console().print(f"wrote {target}: plugin {checked.id} {checked.version}", markup=False)


@wasm.command()
def wit() -> None:
    """Print the world of components, epochal:plugin, for a component's build.

    For example:
      epochal wasm wit > epochal.wit
    """
    print(component_world(), end="")


@wasm.command()
def show(module: Module, as_json: Json = False) -> None:
    """Show a plugin's manifest and what its module imports and exports.

    For example:
      epochal wasm show geo.wasm
    """
    from epochal.artifact import embedded_manifests

    content = _read(module)
    try:
        sections = embedded_manifests(content)
    except ArtifactError as error:
        raise ArtifactError(f"{module} {error}") from None
    texts = [section.decode("utf-8", "replace") for section in sections]
    document: dict[str, Any] = {
        "file": str(module),
        "bytes": len(content),
        "manifest": texts[0] if texts else None,
        **_interface(module, content),
    }
    if as_json:
        write_json(document)
        return
    out = console()
    out.print(f"{module}: {len(content):,} bytes", markup=False)
    for key in ("imports", "exports"):
        out.print(f"{key}: {', '.join(document[key]) or 'none'}", markup=False)
    text = texts[0].strip() if texts else "none; epochal wasm embed puts one in"
    out.print(f"manifest:\n{text}" if texts else f"manifest: {text}", markup=False)


def _interface(path: Path, content: bytes) -> dict[str, list[str]]:
    """The names that a module or a component imports and exports."""
    wasmtime = _wasmtime()
    engine = wasmtime.Engine()
    try:
        if content[4:8] == _COMPONENT:
            from wasmtime.component import Component

            kind = Component(engine, content).type
            return {"imports": [*kind.imports(engine)], "exports": [*kind.exports(engine)]}
        module = wasmtime.Module(engine, content)
    except wasmtime.WasmtimeError as error:
        raise ArtifactError(
            f"{path} is no valid module or component: {' '.join(str(error).split())}"
        ) from None
    return {
        "imports": [f"{one.module}.{one.name}" for one in module.imports],
        "exports": [str(one.name) for one in module.exports],
    }


def _manifest_of(name: str, content: bytes) -> Manifest:
    from epochal.artifact import Artifact, read_manifest

    return read_manifest(Artifact(name, {f"{Path(name).stem}.wasm": content}))


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise HostError(f"{path} cannot be read: {error.strerror or error}") from error


def _read(path: Path) -> bytes:
    content = _bytes_of(path)
    if path.suffix != ".wat":
        return content
    wasmtime = _wasmtime()
    try:
        return bytes(wasmtime.wat2wasm(content.decode("utf-8", "replace")))
    except wasmtime.WasmtimeError as error:
        raise ArtifactError(f"{path} is not WebAssembly text: {error}") from None


def _wasmtime() -> Any:
    try:
        import wasmtime
    except ImportError:
        raise HostError("this needs wasmtime: pip install 'epochal[wasm]'") from None
    return wasmtime
