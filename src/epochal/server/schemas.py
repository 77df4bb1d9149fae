"""What the library knows, as the service's JSON says it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from epochal.errors import HostError
from epochal.sql import sql_signature
from epochal.sql.function_registry import SQL_KINDS
from epochal.sql.json_values import json_field

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.generation import Generation
    from epochal._core.generation.kind import Export
    from epochal.observe.query_stats import Meter, PluginCounts
    from epochal.report import Version
    from epochal.sql import Database, Provenance
    from epochal.store import EpochRecord


def epoch_of(epoch: Epoch | EpochRecord | Any) -> dict[str, Any]:
    """Which epoch: its number and id."""
    return {"number": epoch.number, "id": epoch.id}


def provenance_of(provenance: Iterable[Provenance]) -> list[dict[str, Any]]:
    """Which code computed a result: an entry a plugin, with the functions that the SQL calls."""
    found: dict[str, dict[str, Any]] = {}
    for one in provenance:
        entry = found.setdefault(
            one.plugin,
            {
                "plugin": one.plugin,
                "version": one.version,
                "digest": one.digest,
                "generation": one.generation,
                "functions": [],
            },
        )
        entry["functions"].append(one.function)
    return list(found.values())


def version_of(version: Version) -> dict[str, Any]:
    """Which code one generation is."""
    return {
        "plugin": version.plugin,
        "version": version.version,
        "generation": version.generation,
        "digest": version.digest,
    }


def plugin_of(generation: Generation, epoch: Epoch, counts: PluginCounts) -> dict[str, Any]:
    """An active plugin."""
    origin = generation.candidate.artifact.origin
    return {
        **version_of(generation.described),
        "state": generation.state.name,
        "description": generation.candidate.manifest.description,
        "source": None if origin is None else str(origin),
        "requires": list(generation.requires),
        "required_by": sorted(epoch.requiring(generation.plugin)),
        "grants": sorted(generation.candidate.grants),
        "exports": exports_of(generation.exports.values()),
        "queries": counts.queries,
        "errors": counts.errors,
    }


def exports_of(exports: Iterable[Export]) -> list[dict[str, str]]:
    """What a plugin offers, and how SQL calls it."""
    return sorted(
        (
            {
                "kind": one.kind.name,
                "name": one.name,
                "signature": sql_signature(one) if one.kind in SQL_KINDS else one.name,
            }
            for one in exports
        ),
        key=lambda entry: (entry["kind"], entry["name"]),
    )


def drain_of(generation: Generation, meter: Meter, seconds: float | None) -> dict[str, Any]:
    """A generation on its way out, and who holds it; may look through the heap."""
    return {
        **version_of(generation.described),
        "seconds": seconds,
        "queries": sum(
            count
            for use, count in meter.in_flight.copy().items()
            if (use.plugin, use.generation) == (generation.plugin, generation.number)
        ),
        "holders": list(generation.known_holders() or generation.holders()),
    }


def epoch_record_of(record: EpochRecord) -> dict[str, Any]:
    """A committed epoch."""
    return {
        **epoch_of(record),
        "at": record.at,
        "reason": record.reason,
        "plugins": [version_of(version) for version in record.plugins],
    }


def catalog_of(database: Database) -> dict[str, Any]:
    """What a query may name. Has plugins open their tables: not on the event loop."""
    tables = database.described()
    return {
        "tables": [_table_of(name, tables[name]) for name in sorted(tables)],
        "functions": sorted(database.functions()),
    }


def _table_of(name: str, found: pa.Schema | HostError) -> dict[str, Any]:
    if isinstance(found, HostError):
        return {"name": name, "columns": [], "error": str(found)}
    return {"name": name, "columns": [json_field(field) for field in found], "error": None}
