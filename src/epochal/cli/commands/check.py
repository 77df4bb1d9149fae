"""`epochal check`: validate a plugin and list its exports.

The plugin goes through a whole life, from its bytes to its removal, in a runtime of its own, and
every fault is reported. A plugin that passes here loads elsewhere with the same other plugins and
distributions.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003  typer reads annotations when it runs
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from epochal.cli.configuration import Configs, read_configs
from epochal.cli.console import Json, console, write_json
from epochal.cli.local_runtime import Grants, Plugins, open_runtime
from epochal.errors import EpochalError, ManifestError, ShutdownError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from epochal import Export
    from epochal.artifact import Artifact, Manifest
    from epochal.cli.configuration import Config
    from epochal.runtime import Runtime


@dataclass(slots=True)
class Findings:
    """The facts about a plugin, as far as it got.

    Attributes:
        digest: of its bytes; None if they cannot be read.
        manifest: None if it cannot be read.
        exports: (kind, signature), sorted.
        faults: the reasons why it is invalid.
        code: of the error that they are of; None if it is valid.
        warnings: advice for its author.
    """

    digest: str | None = None
    manifest: Manifest | None = None
    exports: list[tuple[str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    code: str | None = None
    warnings: list[str] = field(default_factory=list)


def check(
    path: Annotated[
        Path, typer.Argument(help="A .py or .wasm file, or a plugin's folder.", show_default=False)
    ],
    plugin: Plugins = None,
    as_json: Json = False,
    grant: Grants = None,
    config: Configs = None,
) -> None:
    """Check a plugin and show what it exports.

    For example:
      epochal check geo.py
      epochal check geo.py --plugin units.py

    Reads the manifest, loads the plugin, and removes it again: its code runs,
    init() and shutdown() included. Give the plugins that it requires by -p.
    Reports every fault; the status is 1 if there is one.
    """
    findings = inspect(path, plugin or [], grant, read_configs(config))
    if as_json:
        write_json(_document(path, findings))
    else:
        _show(path, findings)
    if findings.faults:
        raise typer.Exit(1)


def inspect(
    path: Path,
    others: Sequence[Path],
    grants: Sequence[str] | None,
    configs: Mapping[str, Config],
) -> Findings:
    """Load and remove a plugin, and collect the facts.

    Raises:
        EpochalError: one of the *other* plugins cannot be loaded.
    """
    from epochal.artifact import read_artifact, read_manifest

    findings = Findings()
    try:
        artifact = read_artifact(path)
        findings.digest = artifact.digest
        findings.manifest = read_manifest(artifact)
    except EpochalError as error:
        findings.code = error.code
        findings.faults += error.faults if isinstance(error, ManifestError) else [str(error)]
        return findings
    plugin = findings.manifest.id
    rt = open_runtime(others, grants, configs, [plugin])
    _load(rt, artifact, findings, configs.get(plugin))
    return findings


def _load(rt: Runtime, artifact: Artifact, findings: Findings, config: Config | None) -> None:
    """Load it, read its exports, remove it."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            rt.load(artifact, config=config)
    except EpochalError as error:
        findings.code = error.code
        findings.faults.append(" ".join(str(error).split()))
        return
    finally:
        findings.warnings += [str(warning.message) for warning in caught]
    assert findings.manifest is not None  # read before it was loaded
    plugin = findings.manifest.id
    findings.exports = sorted(_exports(rt, plugin))
    if not findings.exports:
        findings.warnings.append(
            "it exports nothing; put a marker such as @scalar on a function at the top level of a "
            "module"
        )
    cutover = rt.remove(plugin)
    if cutover.failures:
        findings.code = ShutdownError.code
        findings.faults += cutover.failures
    findings.warnings += [f"its memory does not come back: {leak}" for leak in cutover.leaks]
    findings.warnings += [f"still in use after its removal: {holder}" for holder in cutover.holders]


def _exports(rt: Runtime, plugin: str) -> Iterator[tuple[str, str]]:
    for export in rt.generation(plugin).exports.values():
        yield export.kind.name, _signature(export)


def _signature(export: Export) -> str:
    from epochal.sql import sql_signature  # the engine, for a plugin with exports alone
    from epochal.sql.function_registry import SQL_KINDS

    return sql_signature(export) if export.kind in SQL_KINDS else export.name


# --- output ------------------------------------------------------------------------------------


def _document(path: Path, findings: Findings) -> dict[str, Any]:
    return {
        "path": str(path),
        "valid": not findings.faults,
        "digest": findings.digest,
        "manifest": findings.manifest and _plain(findings.manifest),
        "exports": [{"kind": kind, "signature": name} for kind, name in findings.exports],
        "faults": findings.faults,
        "code": findings.code,
        "warnings": findings.warnings,
    }


def _plain(manifest: Manifest) -> dict[str, Any]:
    capabilities = manifest.capabilities
    return {
        "id": manifest.id,
        "version": str(manifest.version),
        "description": manifest.description,
        "requires": [str(plugin) for plugin in manifest.requires],
        "dependencies": [str(distribution) for distribution in manifest.dependencies],
        "capabilities": None if capabilities is None else sorted(capabilities),
        "config": manifest.config or None,
    }


def _show(path: Path, findings: Findings) -> None:
    out = console()
    verdict = Text("not valid", "bold red") if findings.faults else Text("valid", "bold green")
    out.print(Text(f"{path} is ") + verdict, soft_wrap=True)
    if findings.manifest is not None:
        out.print(_facts(findings.manifest, findings.digest or ""))
    if findings.exports:
        out.print(_listing(findings.exports))
    for fault in findings.faults:
        out.print(Text.assemble((f"fault[{findings.code}]: ", "red"), fault), soft_wrap=True)
    for warning in findings.warnings:
        out.print(Text.assemble(("warning: ", "yellow"), warning), soft_wrap=True)


def _facts(manifest: Manifest, digest: str) -> Table:
    table = Table.grid(padding=(0, 2, 0, 2))
    table.add_column(style="dim")
    facts = _plain(manifest)
    if facts["capabilities"] is None:
        facts["capabilities"] = ["every kind, no service"]
    for key, value in [*facts.items(), ("digest", digest)]:
        text = ", ".join(value) if isinstance(value, list) else str(value or "")
        if text:
            table.add_row(key, Text(text))
    return table


def _listing(exports: Sequence[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 2))
    table.add_column(style="dim")
    for kind, signature in exports:
        table.add_row(kind, Text(signature, "bold"))
    return table
