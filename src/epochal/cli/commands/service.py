"""The commands that ask a running service: what it serves, and changes of it.

While a change waits for its old code to fall out of use, the terminal shows who still uses it.
"""

from __future__ import annotations

import io
import tarfile
import threading
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from epochal.artifact import is_plugin_id, read_artifact, read_manifest
from epochal.cli.client import DEFAULT, Client, Server
from epochal.cli.console import Json, console, error_console, warn, write_json
from epochal.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.status import Status

    from epochal.artifact import Artifact

STILL_IN_USE: Final = 3
"""Exit status: the change is published, and its old code still in use after the wait."""

_LEEWAY_S: Final = 1.0
_DIGITS: Final = 15
"""Of a generation's number at most; what is longer is a version."""

TokenFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Holds the admin token; otherwise it is in the address or EPOCHAL_ADMIN_TOKEN.",
        show_default=False,
    ),
]
Wait = Annotated[
    float,
    typer.Option(min=0.0, max=86_400.0, help="Seconds to wait until the old code is unused."),
]
CancelHolders = Annotated[
    bool, typer.Option("--cancel-holders", help="After that time ask who uses it to stop.")
]
IfEpoch = Annotated[
    str | None,
    typer.Option(
        metavar="ID", help="Only if this is still the epoch's id; see status.", show_default=False
    ),
]
Reason = Annotated[
    str, typer.Option(help="Why; kept in the service's history.", show_default=False)
]


def _checked_id(plugin: str) -> str:
    """A plugin's id as part of an address.

    Raises:
        BadParameter: it is none, and in an address might mean something else.
    """
    if plugin and not is_plugin_id(plugin):
        raise typer.BadParameter(f"{plugin!r} is no plugin's id")
    return plugin


Plugin = Annotated[
    str, typer.Argument(help="The plugin's id.", show_default=False, callback=_checked_id)
]
Source = Annotated[Path, typer.Argument(metavar="PATH", help="A .py file or a package's folder.")]


# --- what it serves ----------------------------------------------------------------------------


def status(server: Server = DEFAULT, token_file: TokenFile = None, as_json: Json = False) -> None:
    """Tell how a running service is: epoch, plugins, queries, drains.

    For example:
      epochal status
      epochal status --server http://127.0.0.1:8000 --json
    """
    with Client(server, token_file) as client:
        told = client.ask("GET", "/v1/status")
        drains = client.ask("GET", "/v1/drains")["drains"] if told["draining"] else []
    told["drains"] = drains
    if as_json:
        write_json(told)
        return
    latest = told["samples"][-1] if told["samples"] else {}
    epoch = told["epoch"]
    out = console()
    out.print(f"{told['state']}, epoch {epoch['number']} ({epoch['id'][:12]})")
    out.print(f"up {told['uptime_s']:,.0f} s, {_plugins(told['plugins'])}")
    out.print(
        f"{told['queries']:,} queries, {told['errors']:,} errors, {told['running']} running, "
        f"{latest.get('qps', 0):,.0f}/s, p99 {_ms(latest.get('p99_ms'))}"
    )
    for drain in drains:
        out.print(_drain_line(drain), markup=False)


def plugins(server: Server = DEFAULT, token_file: TokenFile = None, as_json: Json = False) -> None:
    """List a running service's plugins.

    For example:
      epochal plugins
      epochal plugins --json | jq '.plugins[].version'
    """
    with Client(server, token_file) as client:
        told = client.ask("GET", "/v1/plugins")
    if as_json:
        write_json(told)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in ("plugin", "version", "generation", "digest", "requires", "exports"):
        table.add_column(name, justify="right" if name == "generation" else "left")
    for one in told["plugins"]:
        exports = "\n".join(export["signature"] for export in one["exports"])
        cells = (one["plugin"], one["version"], str(one["generation"]), one["digest"][:8])
        table.add_row(*[Text(cell) for cell in (*cells, ", ".join(one["requires"]), exports)])
    console().print(table if told["plugins"] else "no plugins; epochal load PATH brings one in")


def events(
    server: Server = DEFAULT,
    token_file: TokenFile = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Each move of each generation, too.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Go on with what happens from now on.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Tell what happens in a running service, until Ctrl-C; what was before comes first.

    For example:
      epochal events
      epochal events --no-follow --json
    """
    last = None
    with Client(server, token_file) as client:
        for kind, told in client.events():
            if kind == "hello":
                last = told["last"]
            if not follow and (kind == "sample" or last is None or last.endswith("-0")):
                return  # a sample comes after what was before
            if kind == "message" and (everything or told["level"] != "debug"):
                _tell_event(told, as_json=as_json)


def _tell_event(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        write_json(told)
        return
    styles = {"debug": "dim", "warning": "yellow", "error": "red"}
    at = Text(_clock(told["at"]), style="dim")
    console().print(at, Text(told["text"], style=styles.get(told["level"], "")), soft_wrap=True)


# --- changes of it -----------------------------------------------------------------------------


def load(
    path: Source,
    grant: Annotated[
        list[str] | None,
        typer.Option(metavar="CAPABILITY", help="Grant this alone.", show_default=False),
    ] = None,
    server: Server = DEFAULT,
    token_file: TokenFile = None,
    wait: Wait = 30.0,
    cancel_holders: CancelHolders = False,
    if_epoch: IfEpoch = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Send a plugin to a running service; replaces the one of that id.

    For example:
      epochal load geo.py
      epochal load plugins/geo --wait 0
    """
    artifact = read_artifact(path)
    plugin = read_manifest(artifact).id
    content = _packed(artifact)
    params = _params(wait, reason, cancel_holders=cancel_holders) | {"grant": grant or []}
    ask = _asking("PUT", f"/v1/plugins/{plugin}", if_epoch, params=params, content=content)
    _change(Client(server, token_file), ask, plugin, wait, as_json=as_json)


def reload(
    plugin: Plugin,
    server: Server = DEFAULT,
    token_file: TokenFile = None,
    wait: Wait = 30.0,
    cancel_holders: CancelHolders = False,
    if_epoch: IfEpoch = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Have a running service read a plugin anew from where it came from.

    For example:
      epochal reload geo
      epochal reload geo --cancel-holders --wait 5
    """
    params = _params(wait, reason, cancel_holders=cancel_holders)
    ask = _asking("POST", f"/v1/plugins/{plugin}/reload", if_epoch, params=params)
    _change(Client(server, token_file), ask, plugin, wait, as_json=as_json)


def remove(
    plugin: Plugin,
    cascade: Annotated[
        bool, typer.Option("--cascade", help="And the plugins that require it.")
    ] = False,
    server: Server = DEFAULT,
    token_file: TokenFile = None,
    wait: Wait = 30.0,
    cancel_holders: CancelHolders = False,
    if_epoch: IfEpoch = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Take a plugin out of a running service.

    For example:
      epochal remove geo
      epochal remove geo --cascade
    """
    params = _params(wait, reason, cancel_holders=cancel_holders)
    params["cascade"] = str(cascade).lower()
    ask = _asking("DELETE", f"/v1/plugins/{plugin}", if_epoch, params=params)
    _change(Client(server, token_file), ask, plugin, wait, as_json=as_json)


def rollback(
    plugin: Annotated[
        str,
        typer.Argument(
            help="The plugin's id; none with --epoch.", show_default=False, callback=_checked_id
        ),
    ] = "",
    to: Annotated[
        str, typer.Option(help="A generation's number, or a version.", show_default=False)
    ] = "",
    epoch: Annotated[
        int | None,
        typer.Option(min=0, help="Bring back all of this epoch.", show_default=False),
    ] = None,
    server: Server = DEFAULT,
    token_file: TokenFile = None,
    wait: Wait = 30.0,
    cancel_holders: CancelHolders = False,
    if_epoch: IfEpoch = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Bring back what a running service served before; it needs a --store.

    For example:
      epochal rollback geo --to 3
      epochal rollback geo --to 1.2.0
      epochal rollback --epoch 12
    """
    if (epoch is None) != bool(plugin and to):
        raise typer.BadParameter("expected either a plugin and --to, or --epoch")
    params = _params(wait, reason, cancel_holders=cancel_holders)
    if epoch is not None:
        ask = _asking("POST", f"/v1/epochs/{epoch}/rollback", if_epoch, params=params)
    else:
        is_number = to.isascii() and to.isdecimal() and len(to) <= _DIGITS
        body = {"to": int(to) if is_number else to}
        path = f"/v1/plugins/{plugin}/rollback"
        ask = _asking("POST", path, if_epoch, params=params, json=body)
    _change(Client(server, token_file), ask, plugin or f"epoch {epoch}", wait, as_json=as_json)


# --- how ---------------------------------------------------------------------------------------


def _params(wait: float, reason: str, *, cancel_holders: bool) -> dict[str, Any]:
    return {
        "drain_timeout": wait,
        "cancel_holders": str(cancel_holders).lower(),
        **({"reason": reason} if reason else {}),
    }


def _asking(
    method: str, path: str, if_epoch: str | None, **options: Any
) -> Callable[[Client], dict[str, Any]]:
    headers = {"if-match": f'"{if_epoch}"'} if if_epoch else {}
    return lambda client: client.ask(method, path, headers=headers, **options)


def _change(
    client: Client,
    ask: Callable[[Client], dict[str, Any]],
    what: str,
    wait: float,
    *,
    as_json: bool,
) -> None:
    with client:
        report = _watched(client, ask) if wait > _LEEWAY_S and _is_watched() else ask(client)
    if as_json:
        write_json(report)
    else:
        _tell_report(report, what)
    if not report["drained"]:
        raise typer.Exit(STILL_IN_USE)


def _is_watched() -> bool:
    return error_console().is_terminal


def _watched(client: Client, ask: Callable[[Client], dict[str, Any]]) -> dict[str, Any]:
    """Ask, and show meanwhile who is waited for."""
    answer: Future[dict[str, Any]] = Future()

    def run() -> None:
        try:
            answer.set_result(ask(client))
        except BaseException as error:  # noqa: BLE001  raised by whoever waits
            answer.set_exception(error)

    threading.Thread(target=run, name="epochal ask", daemon=True).start()
    try:
        return answer.result(_LEEWAY_S)
    except TimeoutError:
        if answer.done():
            raise
    with error_console().status("waiting for its turn") as shown:
        # What is shown meanwhile is a comfort: without it the change is waited for all the same.
        with suppress(HostError):
            _show_holders(client, answer, shown)
        return answer.result()


def _show_holders(client: Client, answer: Future[dict[str, Any]], shown: Status) -> None:
    # Samples come twice a second, so this ends soon after the answer.
    for kind, told in client.events():
        if answer.done():
            return
        if kind == "sample" and told["drains"]:
            shown.update(Text("\n".join(_drain_line(drain) for drain in told["drains"])))


def _tell_report(report: dict[str, Any], what: str) -> None:
    out = console()
    for swap in report["swaps"]:
        out.print(f"{swap['plugin']}: {_side(swap['old'])} -> {_side(swap['new'])}", markup=False)
    out.print(f"epoch {report['epoch_after']} published in {report['cutover_ms']:.1f} ms")
    for swap in report["swaps"]:
        for name in ("failures", "leaks"):
            for line in swap[name]:
                warn(f"{swap['plugin']}: {line}")
        for line in swap["dropped"]:
            warn(f"{swap['plugin']}: its new code has no place for {line}")
        for holder in swap["holders"]:
            warn(f"the old code of {swap['plugin']} is still in use by {holder}")
    if not report["swaps"]:
        out.print(f"{what}: nothing to do", markup=False)


def _side(version: dict[str, Any] | None) -> str:
    if version is None:
        return "nothing"
    return f"{version['version']} (generation {version['generation']}, {version['digest'][:8]})"


def _drain_line(drain: dict[str, Any]) -> str:
    who = "; ".join(drain["holders"]) or "nobody that can be named"
    seconds = drain["seconds"]
    since = "" if seconds is None else f" for {seconds:.1f} s"
    return f"{drain['plugin']} generation {drain['generation']} is held{since} by {who}"


def _packed(artifact: Artifact) -> bytes:
    """A plugin as it is sent: a file as it is, a package as an archive of its folder."""
    if not artifact.is_package:
        return artifact.files[artifact.root]
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz", compresslevel=6) as archive:
        for name, content in artifact.files.items():
            entry = tarfile.TarInfo(f"{artifact.name}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return sink.getvalue()


def _plugins(count: int) -> str:
    return "1 plugin" if count == 1 else f"{count:,} plugins"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f} ms"


def _clock(at: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")
