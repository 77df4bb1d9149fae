"""`/v1/plugins` and `/v1/epochs`: what is active, and changes of it.

A change answers when its old generations are shut down, or when the time for that is over: then its
report says `drained: false` and who holds on, and `GET /v1/drains` tells how it goes on. With
``If-Match: <epoch id>`` a change is made only if that epoch is still the current one when it has
its turn, and is answered 412 otherwise.
"""

from __future__ import annotations

import asyncio
from time import time
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response

from epochal._core.change.plan import Verb
from epochal._core.change.request import Request as Wanted
from epochal._core.plugin.manifest import read_manifest
from epochal.errors import ArtifactError, NoStoreError
from epochal.observe.query_stats import PluginCounts
from epochal.server.problem_details import answering
from epochal.server.request_bodies import (
    flag_of,
    options_of,
    read_body,
    read_json,
    read_nothing,
    service_of,
    whole_of,
    wrong,
)
from epochal.server.schemas import epoch_of, epoch_record_of, plugin_of, version_of
from epochal.server.uploads import read_upload

if TYPE_CHECKING:
    from starlette.requests import Request

    from epochal._core.change.transaction import Change
    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.generation import Generation
    from epochal.artifact import Artifact
    from epochal.report import Cutover
    from epochal.server.state import Service

_MOST_EPOCHS: Final = 1_000
_MOST_NUMBER: Final = 2**53


# --- reading -----------------------------------------------------------------------------------


@answering
async def list_plugins(request: Request) -> Response:
    """Every active plugin, all of one epoch."""
    service = service_of(request)
    epoch = service.runtime.epoch
    found = [_described(service, epoch, one) for one in epoch.generations.values()]
    document = {"epoch": epoch_of(epoch), "plugins": sorted(found, key=lambda p: p["plugin"])}
    return JSONResponse(document, headers=_etag(epoch.id))


@answering
async def show_plugin(request: Request) -> Response:
    """One active plugin."""
    service = service_of(request)
    epoch = service.runtime.epoch
    document = _described(service, epoch, epoch.generation(request.path_params["plugin"]))
    return JSONResponse({"epoch": epoch_of(epoch), **document}, headers=_etag(epoch.id))


@answering
async def list_epochs(request: Request) -> Response:
    """The epochs that can be rolled back to, newest first; without a store the current one."""
    service = service_of(request)
    limit = whole_of({"limit": "50", **request.query_params}, "limit", most=_MOST_EPOCHS)
    current = service.runtime.epoch
    try:
        history = await asyncio.to_thread(service.runtime.history, limit)
        epochs = [epoch_record_of(record) for record in history]
        kept = True
    except NoStoreError:
        plugins = [version_of(one.described) for one in current.generations.values()]
        epochs = [{**epoch_of(current), "at": service.started, "reason": "", "plugins": plugins}]
        kept = False
    return JSONResponse({"epoch": epoch_of(current), "kept": kept, "epochs": epochs})


# --- changing ----------------------------------------------------------------------------------


@answering
async def put_plugin(request: Request) -> Response:
    """Load or reload a plugin from what is sent."""
    service, plugin = service_of(request), request.path_params["plugin"]
    options = options_of(request, extra=("grant",))
    grants = request.query_params.getlist("grant") or None
    change = service.runtime.change(**options)
    change.put(await _upload(request, service, plugin), grants=grants)
    return await _run(service, change, loaded=plugin)


@answering
async def check_plugin(request: Request) -> Response:
    """Do everything that loading or reloading what is sent would do, short of publishing it."""
    service = service_of(request)
    options = options_of(request, extra=("grant",))
    grants = request.query_params.getlist("grant") or None
    change = service.runtime.change(**options, dry_run=True)
    change.put(await _upload(request, service, None), grants=grants)
    return await _run(service, change)


@answering
async def reload_plugin(request: Request) -> Response:
    """Read a plugin anew from where it came from; one that was uploaded starts anew as it is."""
    service, plugin = service_of(request), request.path_params["plugin"]
    options = options_of(request)
    await read_nothing(request)
    change = service.runtime.change(**options)
    # What is active is settled in the change's turn: taken here, it would undo an upload that is
    # before it in the queue.
    change.request(Wanted(Verb.RELOAD, plugin, anew=True))
    return await _run(service, change)


@answering
async def roll_back_plugin(request: Request) -> Response:
    """Bring back a generation or a version of a plugin."""
    service, plugin = service_of(request), request.path_params["plugin"]
    options = options_of(request)
    asked = await read_json(request, service.limits.request_bytes, ("to",))
    to = asked.get("to")
    if not isinstance(to, int | str) or isinstance(to, bool):
        wrong("to must be the number of a generation, or a version as text")
    if isinstance(to, int) and not 0 <= to <= _MOST_NUMBER:
        wrong("to must be the number of a generation: not negative, and no larger than 2^53")
    change = service.runtime.change(**options)
    change.rollback(plugin, to=to)
    return await _run(service, change)


@answering
async def roll_back_epoch(request: Request) -> Response:
    """Bring back the whole set of plugins of an epoch."""
    service = service_of(request)
    options = options_of(request)
    await read_nothing(request)
    number = whole_of(request.path_params, "number", least=0, most=_MOST_NUMBER)
    change = service.runtime.change(**options)
    change.rollback(epoch=number)
    return await _run(service, change)


@answering
async def remove_plugin(request: Request) -> Response:
    """Take a plugin out."""
    service, plugin = service_of(request), request.path_params["plugin"]
    options = options_of(request, extra=("cascade",))
    await read_nothing(request)
    change = service.runtime.change(**options)
    change.remove(plugin, cascade=flag_of(request.query_params, "cascade"))
    return await _run(service, change)


# --- inside ------------------------------------------------------------------------------------


async def _upload(request: Request, service: Service, plugin: str | None) -> Artifact:
    limits = service.limits
    content = await read_body(request, limits.upload_bytes, limits.body_s)
    if not content:
        wrong("the body is empty; send a .py file, a .zip or .tar.gz of a package, or a wheel")
    # Unpacking and hashing megabytes takes its time.
    artifact = await asyncio.to_thread(
        read_upload, content, plugin or "plugin", unpacked_bytes=limits.unpacked_bytes
    )
    found = read_manifest(artifact).id
    if plugin not in (None, found):
        raise ArtifactError(
            f"what was sent is plugin {found!r}, not {plugin!r}: send it to /v1/plugins/{found}",
            plugin=plugin,
        )
    return artifact


async def _run(service: Service, change: Change, *, loaded: str | None = None) -> Response:
    """Run a change; if it was to load a plugin, the status says whether that is a new one."""
    service.check_serving()
    cutover = await change.run_async()
    is_new = any(swap.plugin == loaded and swap.old is None for swap in cutover.swaps)
    status = 201 if is_new else 200
    epoch = service.runtime.epoch
    document = {"epoch": epoch_of(epoch), **_report(cutover)}
    return JSONResponse(document, status, headers=_etag(epoch.id))


def _report(cutover: Cutover) -> dict[str, Any]:
    return {**cutover.as_dict(), "cutover_ms": cutover.cutover_ms, "at": time()}


def _described(service: Service, epoch: Epoch, generation: Generation) -> dict[str, Any]:
    counts = service.meter.plugins.get(generation.plugin, PluginCounts())
    return plugin_of(generation, epoch, counts)


def _etag(epoch_id: str) -> dict[str, str]:
    return {"etag": f'"{epoch_id}"'}
