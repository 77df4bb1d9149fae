"""`/v1/plugins` and `/v1/epochs`: the active plugins, and changes of them.

A change answers when its old generations are shut down, or when the time for that is over: then its
report has `drained: false` and the holders, and `GET /v1/drains` shows the progress. With
``If-Match: <epoch id>`` a change is made only if that epoch is still the current one when the
change has its turn, and is answered 412 otherwise.
"""

from __future__ import annotations

import asyncio
from time import time
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET, convert

from epochal.artifact import read_manifest
from epochal.authoring.source_diff import diff
from epochal.errors import ArtifactError, NoStoreError
from epochal.observe.query_stats import PluginCounts
from epochal.server import schemas
from epochal.server.decoding import (
    bad_request,
    convert_text,
    media_type,
    read_body,
    read_config,
    read_if_match,
    read_json,
    read_nothing,
    read_options,
)
from epochal.server.responses import json_response
from epochal.server.schemas import ChangeOptions, LoadOptions, epoch_ref, version_facts
from epochal.server.state import service_of
from epochal.server.uploads import check_upload_type, read_upload
from epochal.sql import sql_signature
from epochal.sql.function_registry import SQL_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request
    from starlette.responses import Response

    from epochal import Change, Epoch, Export, Generation
    from epochal.artifact import Artifact
    from epochal.runtime import TransactionOptions
    from epochal.server.state import ServiceState

_LONGEST_REASON: Final = 1_000


# --- reading -----------------------------------------------------------------------------------


async def list_plugins(request: Request) -> Response:
    """Every active plugin, all of one epoch."""
    service = service_of(request)
    epoch = service.runtime.epoch
    plugins = [
        schemas.PluginInfo(**_plugin_facts(service, epoch, generation))
        for _, generation in sorted(epoch.generations.items())
    ]
    document = schemas.PluginList(epoch=epoch_ref(epoch), plugins=plugins)
    return json_response(document, headers=_etag(epoch.id))


async def show_plugin(request: Request) -> Response:
    """One active plugin."""
    service = service_of(request)
    epoch = service.runtime.epoch
    facts = _plugin_facts(service, epoch, epoch.generation(request.path_params["plugin"]))
    return json_response(
        schemas.PluginAnswer(epoch=epoch_ref(epoch), **facts), headers=_etag(epoch.id)
    )


async def list_epochs(request: Request) -> Response:
    """The epochs that can be rolled back to, newest first; without a store the current one."""
    service = service_of(request)
    options = convert_text(request.query_params, schemas.HistoryOptions, "the options")
    current = service.runtime.epoch
    try:
        history = await asyncio.to_thread(service.runtime.history, options.limit)
        epochs = convert(history, list[schemas.EpochInfo], from_attributes=True)
        is_kept = True
    except NoStoreError:
        versions = [generation.described for generation in current.generations.values()]
        plugins = convert(versions, list[schemas.VersionInfo], from_attributes=True)
        only = schemas.EpochInfo(
            number=current.number, id=current.id, at=service.started, reason="", plugins=plugins
        )
        epochs = [only]
        is_kept = False
    return json_response(
        schemas.EpochHistory(epoch=epoch_ref(current), kept=is_kept, epochs=epochs)
    )


async def show_diff(request: Request) -> Response:
    """What changed in a plugin's files between two generations."""
    service, plugin = service_of(request), request.path_params["plugin"]
    options = read_options(request, schemas.DiffOptions)

    def compare() -> str:
        return diff(
            *(service.runtime.artifact(plugin, n).files for n in (options.old, options.new))
        )

    text = await asyncio.to_thread(compare)
    epoch = epoch_ref(service.runtime.epoch)
    return json_response(
        schemas.SourceDiff(epoch=epoch, plugin=plugin, old=options.old, new=options.new, diff=text)
    )


# --- changing ----------------------------------------------------------------------------------


async def put_plugin(request: Request) -> Response:
    """Load or reload a plugin from the request's body."""
    plugin = request.path_params["plugin"]
    return await _run(request, await _put_change(request, plugin), loaded=plugin)


async def check_plugin(request: Request) -> Response:
    """Do everything that loading or reloading the body would do, short of publishing it."""
    return await _run(request, await _put_change(request, None, dry_run=True))


async def _put_change(request: Request, plugin: str | None, *, dry_run: bool = False) -> Change:
    """The change that puts the body's plugin in place; `plugin` is the id that it must have."""
    options = read_options(request, LoadOptions)
    change = _new_change(request, options, dry_run=dry_run)
    config = read_config(request)
    artifact = await _read_artifact(request, plugin)
    change.put(artifact, config=config, grants=options.grant or None)
    return change


async def reload_plugin(request: Request) -> Response:
    """Reload a plugin from its source; one that was uploaded starts anew from the same bytes.

    With `Epochal-Config` it gets a new configuration.
    """
    change = _new_change(request, read_options(request, ChangeOptions))
    config = read_config(request)
    await read_nothing(request)
    # The change looks for the active artifact in its turn. Passed from here, the artifact would
    # undo an upload that is before this change in the queue.
    change.reload(request.path_params["plugin"], config=config, restart=True)
    return await _run(request, change)


async def roll_back_plugin(request: Request) -> Response:
    """Bring back a generation or a version of a plugin."""
    change = _new_change(request, read_options(request, ChangeOptions))
    target = await read_json(request, schemas.RollbackTarget)
    change.rollback(request.path_params["plugin"], to=target.to)
    return await _run(request, change)


async def roll_back_epoch(request: Request) -> Response:
    """Bring back all plugins of an epoch."""
    change = _new_change(request, read_options(request, ChangeOptions))
    await read_nothing(request)
    path = convert_text(request.path_params, schemas.EpochPath, "the address")
    change.rollback(epoch=path.number)
    return await _run(request, change)


async def remove_plugin(request: Request) -> Response:
    """Remove a plugin."""
    options = read_options(request, schemas.RemoveOptions)
    change = _new_change(request, options)
    await read_nothing(request)
    change.remove(request.path_params["plugin"], cascade=options.cascade == "true")
    return await _run(request, change)


# --- inside ------------------------------------------------------------------------------------


def _new_change(request: Request, options: ChangeOptions, *, dry_run: bool = False) -> Change:
    service, reason = service_of(request), options.reason[:_LONGEST_REASON]
    drain_s = service.limits.drain_s if options.drain_timeout is UNSET else options.drain_timeout
    changed: TransactionOptions = {
        "drain_timeout": drain_s,
        "cancel_holders": options.cancel_holders == "true",
        "reason": f"http: {reason}" if reason else "http",
    }
    if drain_s < service.limits.drain_s:
        # A caller that does not wait so long must not end the calls of others sooner.
        changed["on_drain_timeout"] = "report"
    return service.runtime.change(if_epoch=read_if_match(request), dry_run=dry_run, **changed)


async def _read_artifact(request: Request, plugin: str | None) -> Artifact:
    limits = service_of(request).limits
    check_upload_type(media_type(request))
    content = await read_body(request, limits.upload_bytes, limits.body_s)
    if not content:
        bad_request(
            "the body is empty; send a .py or .wasm file, a .zip or .tar.gz of a folder, or a wheel"
        )
    # On a thread: it unpacks and hashes megabytes.
    artifact = await asyncio.to_thread(
        read_upload, content, plugin or "plugin", unpacked_bytes=limits.unpacked_bytes
    )
    sent = read_manifest(artifact).id
    if plugin not in (None, sent):
        raise ArtifactError(
            f"the body is plugin {sent!r}, not {plugin!r}: send it to /v1/plugins/{sent}",
            plugin=plugin,
        )
    return artifact


async def _run(request: Request, change: Change, *, loaded: str | None = None) -> Response:
    """Run a change; the status is 201 where it added the plugin `loaded`."""
    service = service_of(request)
    service.check_serving()
    cutover = await change.run_async()
    is_new = any(swap.plugin == loaded and swap.old is None for swap in cutover.swaps)
    epoch = epoch_ref(service.runtime.epoch)
    report = schemas.ChangeReport(
        epoch=epoch, cutover_ms=cutover.cutover_ms, at=time(), **cutover.as_dict()
    )
    return json_response(report, 201 if is_new else 200, _etag(epoch.id))


def _plugin_facts(service: ServiceState, epoch: Epoch, generation: Generation) -> dict[str, Any]:
    candidate = generation.candidate
    origin = candidate.artifact.origin
    counts = service.query_stats.plugins.get(generation.plugin, PluginCounts())
    return {
        **version_facts(generation.described),
        "state": generation.state.name,
        "description": candidate.manifest.description,
        "source": None if origin is None else str(origin),
        "requires": list(generation.requires),
        "required_by": sorted(epoch.requiring(generation.plugin)),
        "grants": sorted(candidate.grants),
        "exports": _exports_of(generation.exports.values()),
        "queries": counts.queries,
        "errors": counts.errors,
    }


def _exports_of(exports: Iterable[Export]) -> list[schemas.ExportInfo]:
    infos = [
        schemas.ExportInfo(
            kind=export.kind.name,
            name=export.name,
            signature=sql_signature(export) if export.kind in SQL_KINDS else export.name,
        )
        for export in exports
    ]
    return sorted(infos, key=lambda info: (info.kind, info.name))


def _etag(epoch_id: str) -> dict[str, str]:
    return {"etag": f'"{epoch_id}"'}
