"""The commands that steer a running service: its state, and changes of its plugins.

While a change waits for its old code to fall out of use, the terminal shows the holders.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from epochal.cli.configuration import Configs, check_known, read_configs
from epochal.cli.console import Json, console, data_table, error_console, warn, write_json
from epochal.cli.server_options import DEFAULT, Server, TokenFile
from epochal.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.status import Status

    from epochal.cli.client import Client

STILL_IN_USE: Final = 3
"""Exit status: the change is published, and its old code still in use after the wait."""

_LEEWAY_S: Final = 1.0
_EPOCHS_SHOWN: Final = 100
_MOST_EPOCHS: Final = 1000
_DIGITS: Final = 15
"""The longest number of a generation; longer digits are a version."""

Wait = Annotated[
    float,
    typer.Option(min=0.0, max=86_400.0, help="Seconds to wait until the old code is unused."),
]
CancelHolders = Annotated[
    bool, typer.Option("--cancel-holders", help="After that time ask its holders to stop.")
]
IfEpoch = Annotated[
    str | None,
    typer.Option(
        metavar="ID",
        help="Only if this is still the id of the current epoch; see status.",
        show_default=False,
    ),
]
Reason = Annotated[
    str, typer.Option(help="A reason, for the service's history.", show_default=False)
]


def connect(server: str, token_file: Path | None) -> Client:
    """A client of the service.

    Raises:
        HostError: the address is malformed, or the file cannot be read.
    """
    from epochal.cli.client import Client  # here, for the commands that ask no service

    return Client(server, token_file)


def _checked_id(plugin: str) -> str:
    """A plugin's id as part of an address.

    Raises:
        BadParameter: the text is not an id, and could change the address.
    """
    from epochal.artifact import is_plugin_id

    if plugin and not is_plugin_id(plugin):
        raise typer.BadParameter(f"{plugin!r} is not a plugin's id")
    return plugin


Plugin = Annotated[
    str, typer.Argument(help="The plugin's id.", show_default=False, callback=_checked_id)
]
Source = Annotated[
    Path, typer.Argument(metavar="PATH", help="A .py or .wasm file, or a plugin's folder.")
]


# --- the state of a service ----------------------------------------------------------------------


def status(server: Server = DEFAULT, token_file: TokenFile = None, as_json: Json = False) -> None:
    """Show a running service's state: epoch, plugins, queries, drains.

    For example:
      epochal status
      epochal status --server http://127.0.0.1:8000 --json
    """
    with connect(server, token_file) as client:
        state = client.ask("GET", "/v1/status")
        drains = client.ask("GET", "/v1/drains")["drains"] if state["draining"] else []
    state["drains"] = drains
    if as_json:
        write_json(state)
        return
    latest = state["samples"][-1] if state["samples"] else {}
    epoch = state["epoch"]
    out = console()
    out.print(f"{state['state']}, epoch {epoch['number']} ({epoch['id'][:12]})")
    out.print(f"up {state['uptime_s']:,.0f} s, {_plugins(state['plugins'])}")
    out.print(
        f"{state['queries']:,} queries, {state['errors']:,} errors, {state['running']} running, "
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
    with connect(server, token_file) as client:
        answer = client.ask("GET", "/v1/plugins")
    if as_json:
        write_json(answer)
        return
    columns = ("plugin", "version", "generation", "digest", "requires", "exports")
    table = data_table(*columns, right=("generation",))
    for plugin in answer["plugins"]:
        exports = "\n".join(export["signature"] for export in plugin["exports"])
        generation, digest = str(plugin["generation"]), plugin["digest"][:8]
        cells = (plugin["plugin"], plugin["version"], generation, digest)
        table.add_row(*[Text(cell) for cell in (*cells, ", ".join(plugin["requires"]), exports)])
    console().print(table if answer["plugins"] else "no plugins; epochal load PATH loads one")


def events(
    server: Server = DEFAULT,
    token_file: TokenFile = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Include each move of each generation.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Go on with later events.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Show a running service's events, past ones first, until Ctrl-C.

    For example:
      epochal events
      epochal events --no-follow --json
    """
    last = None
    with connect(server, token_file) as client:
        for kind, event in client.events():
            if kind == "hello":
                last = event["last"]
            if not follow and (kind == "sample" or last is None or last.endswith("-0")):
                return  # samples come after the past events
            if kind == "message" and (everything or event["level"] != "debug"):
                _show_event(event, as_json=as_json)


def _show_event(event: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        write_json(event)
        return
    styles = {"debug": "dim", "warning": "yellow", "error": "red"}
    at = Text(_clock(event["at"]), style="dim")
    console().print(at, Text(event["text"], style=styles.get(event["level"], "")), soft_wrap=True)


def history(
    plugin: Annotated[
        str,
        typer.Argument(
            help="Only the epochs that changed this plugin.",
            show_default=False,
            callback=_checked_id,
        ),
    ] = "",
    limit: Annotated[
        int, typer.Option(min=1, max=_MOST_EPOCHS, help="So many epochs at most.")
    ] = 20,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show what changed in the plugin's source.")
    ] = False,
    server: Server = DEFAULT,
    token_file: TokenFile = None,
    as_json: Json = False,
) -> None:
    """Show the epochs of a running service with a --store: when, what, by whom and why.

    For example:
      epochal history
      epochal history geo --diff
    """
    if diff and not plugin:
        raise typer.BadParameter("--diff needs a plugin")
    with connect(server, token_file) as client:
        asked = _MOST_EPOCHS if plugin else min(limit + 1, _MOST_EPOCHS)
        answer = client.ask("GET", "/v1/epochs", params={"limit": asked})
        steps = list(_steps(answer["epochs"]))
        if plugin:
            steps = [step for step in steps if plugin in step["changes"]]
        steps = steps[:limit]
        for step in steps if diff else ():
            old, new = step["changes"][plugin]
            if old and new and old["digest"] != new["digest"]:
                params = {"old": old["generation"], "new": new["generation"]}
                found = client.ask("GET", f"/v1/plugins/{plugin}/diff", params=params)
                step["diff"] = found["diff"]
    if as_json:
        write_json({"kept": answer["kept"], "epochs": steps})
        return
    out = console()
    for step in steps:
        at = datetime.fromtimestamp(step["at"]).astimezone().isoformat(" ", "seconds")
        changes = ", ".join(_change_words(name, *pair) for name, pair in step["changes"].items())
        line = Text.assemble((f"{at}  epoch {step['number']:<4} ", "dim"), changes or "no plugin")
        line.append(f"  {step['reason']}", "dim")
        out.print(line, soft_wrap=True)
        if step.get("diff"):
            out.print(step["diff"], markup=False, soft_wrap=True)
    if not answer["kept"]:
        out.print("no more is kept: the service has no --store", style="dim")


def _steps(epochs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each epoch with the plugins that it changed, newest first; the oldest only begins."""
    for epoch, before in zip(epochs, [*epochs[1:], None], strict=True):
        if before is None and epoch["number"] > 1 and len(epochs) > 1:
            return  # the epoch that it replaced is not among those that were asked for
        new = {one["plugin"]: one for one in epoch["plugins"]}
        old = {one["plugin"]: one for one in before["plugins"]} if before else {}
        names = [n for n in sorted(new.keys() | old.keys()) if new.get(n) != old.get(n)]
        changes = {name: (old.get(name), new.get(name)) for name in names}
        facts = {name: epoch[name] for name in ("number", "id", "at", "reason")}
        yield {**facts, "changes": changes}


def _change_words(plugin: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> str:
    if old is None or new is None:
        one = new or old or {}
        return f"{'load' if new else 'remove'} {plugin} {one['version']}"
    if old["digest"] == new["digest"]:
        return f"reload {plugin} {new['version']}, the same code"
    if old["version"] == new["version"]:
        return f"reload {plugin} {new['version']} ({old['digest'][:8]} -> {new['digest'][:8]})"
    return f"reload {plugin} {old['version']} -> {new['version']}"


# --- changes of its plugins --------------------------------------------------------------------


def load(
    path: Source,
    grant: Annotated[
        list[str] | None,
        typer.Option(metavar="CAPABILITY", help="Grant this capability alone.", show_default=False),
    ] = None,
    server: Server = DEFAULT,
    token_file: TokenFile = None,
    wait: Wait = 30.0,
    cancel_holders: CancelHolders = False,
    if_epoch: IfEpoch = None,
    reason: Reason = "",
    config: Configs = None,
    as_json: Json = False,
) -> None:
    """Send a plugin to a running service, as a new one or a new version.

    For example:
      epochal load geo.py
      epochal load plugins/geo --wait 0
      epochal load geo.py --config geo.unit=km
    """
    from epochal.artifact import read_artifact, read_manifest
    from epochal.cli.client import packed

    artifact = read_artifact(path)
    plugin = read_manifest(artifact).id
    content = packed(artifact)
    params = _params(wait, reason, cancel_holders=cancel_holders) | {"grant": grant or []}
    sent = _sent(config, plugin)
    ask = _asking("PUT", f"/v1/plugins/{plugin}", if_epoch, sent, params=params, content=content)
    _change(connect(server, token_file), ask, plugin, wait, as_json=as_json)


def reload(
    plugin: Plugin,
    server: Server = DEFAULT,
    token_file: TokenFile = None,
    wait: Wait = 30.0,
    cancel_holders: CancelHolders = False,
    if_epoch: IfEpoch = None,
    reason: Reason = "",
    config: Configs = None,
    as_json: Json = False,
) -> None:
    """Have a running service read a plugin again from its source.

    For example:
      epochal reload geo
      epochal reload geo --cancel-holders --wait 5
      epochal reload geo --config geo.unit=mile
    """
    params = _params(wait, reason, cancel_holders=cancel_holders)
    sent = _sent(config, plugin)
    ask = _asking("POST", f"/v1/plugins/{plugin}/reload", if_epoch, sent, params=params)
    _change(connect(server, token_file), ask, plugin, wait, as_json=as_json)


def remove(
    plugin: Plugin,
    cascade: Annotated[
        bool, typer.Option("--cascade", help="Also remove the plugins that require it.")
    ] = False,
    server: Server = DEFAULT,
    token_file: TokenFile = None,
    wait: Wait = 30.0,
    cancel_holders: CancelHolders = False,
    if_epoch: IfEpoch = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Remove a plugin from a running service.

    For example:
      epochal remove geo
      epochal remove geo --cascade
    """
    params = _params(wait, reason, cancel_holders=cancel_holders)
    params["cascade"] = str(cascade).lower()
    ask = _asking("DELETE", f"/v1/plugins/{plugin}", if_epoch, params=params)
    _change(connect(server, token_file), ask, plugin, wait, as_json=as_json)


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
        typer.Option(min=0, help="Restore this whole epoch.", show_default=False),
    ] = None,
    server: Server = DEFAULT,
    token_file: TokenFile = None,
    wait: Wait = 30.0,
    cancel_holders: CancelHolders = False,
    if_epoch: IfEpoch = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Restore an earlier version or epoch of a running service with a --store.

    For example:
      epochal rollback geo --to 3
      epochal rollback geo --to 1.2.0
      epochal rollback --epoch 12
    """
    if epoch is None and plugin and not to:
        raise _without_target(server, token_file, plugin)
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
    _change(connect(server, token_file), ask, plugin or f"epoch {epoch}", wait, as_json=as_json)


def _without_target(server: str, token_file: Path | None, plugin: str) -> HostError:
    """The error for a rollback that names no version: it names those that are kept."""
    with connect(server, token_file) as client:
        answer = client.ask("GET", "/v1/epochs", params={"limit": _EPOCHS_SHOWN})
    if not answer["kept"]:
        return HostError("rollback needs a service with a --store; this one keeps no history")
    kept = {
        version["generation"]: version["version"]
        for epoch in answer["epochs"]
        for version in epoch["plugins"]
        if version["plugin"] == plugin
    }
    if not kept:
        return HostError(f"no version of {plugin!r} is kept; `epochal history` shows what is")
    versions = ", ".join(f"{number} ({version})" for number, version in sorted(kept.items()))
    return HostError(
        f"rollback of {plugin} needs --to with a generation or a version; kept are generations "
        f"{versions}"
    )


# --- requests ----------------------------------------------------------------------------------


def _params(wait: float, reason: str, *, cancel_holders: bool) -> dict[str, Any]:
    return {
        "drain_timeout": wait,
        "cancel_holders": str(cancel_holders).lower(),
        **({"reason": reason} if reason else {}),
    }


def _sent(options: Sequence[str] | None, plugin: str) -> dict[str, str]:
    """The header with a plugin's configuration; none where it keeps the one that it has."""
    configs = read_configs(options)
    check_known(configs, {plugin})
    return {"epochal-config": json.dumps(configs[plugin])} if plugin in configs else {}


def _asking(
    method: str,
    path: str,
    if_epoch: str | None,
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> Callable[[Client], dict[str, Any]]:
    headers = {**(headers or {}), **({"if-match": f'"{if_epoch}"'} if if_epoch else {})}
    return lambda client: client.ask(method, path, headers=headers, **options)


def _change(
    client: Client,
    ask: Callable[[Client], dict[str, Any]],
    subject: str,
    wait: float,
    *,
    as_json: bool,
) -> None:
    with client:
        report = _watched(client, ask) if wait > _LEEWAY_S and _is_watched() else ask(client)
    if as_json:
        write_json(report)
    else:
        _show_report(report, subject)
    if not report["drained"]:
        raise typer.Exit(STILL_IN_USE)


def _is_watched() -> bool:
    return error_console().is_terminal


def _watched(client: Client, ask: Callable[[Client], dict[str, Any]]) -> dict[str, Any]:
    """Send the request, and show the holders while it waits."""
    # Not a Future: a Ctrl-C within its condition would come out as another error.
    answers: SimpleQueue[dict[str, Any] | BaseException] = SimpleQueue()

    def run() -> None:
        try:
            answers.put(ask(client))
        except BaseException as error:  # noqa: BLE001  raised again in the waiting thread
            answers.put(error)

    threading.Thread(target=run, name="epochal ask", daemon=True).start()
    with suppress(Empty):
        return _answer(answers, _LEEWAY_S)
    with error_console().status("waiting for its turn") as shown:
        # The display is optional: without it the command waits for the change all the same.
        with suppress(HostError):
            _show_holders(client, answers, shown)
        return _answer(answers, None)


def _answer(
    answers: SimpleQueue[dict[str, Any] | BaseException], timeout: float | None
) -> dict[str, Any]:
    answer = answers.get(timeout=timeout)
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _show_holders(
    client: Client, answers: SimpleQueue[dict[str, Any] | BaseException], shown: Status
) -> None:
    # Samples come twice a second, so this ends soon after the answer.
    for kind, event in client.events():
        if not answers.empty():
            return
        if kind == "sample" and event["drains"]:
            shown.update(Text("\n".join(_drain_line(drain) for drain in event["drains"])))


def _show_report(report: dict[str, Any], subject: str) -> None:
    out = console()
    for swap in report["swaps"]:
        out.print(
            f"{swap['plugin']}: {_version(swap['old'])} -> {_version(swap['new'])}", markup=False
        )
    out.print(f"epoch {report['epoch_after']} published in {report['cutover_ms']:.1f} ms")
    for swap in report["swaps"]:
        for name in ("failures", "leaks"):
            for line in swap[name]:
                warn(f"{swap['plugin']}: {line}")
        for line in swap["dropped"]:
            warn(f"{swap['plugin']}: its new code has no place for {line}")
        for line in swap.get("lost", ()):
            warn(f"{swap['plugin']}: {line}: lost; its code must register with ctx.register")
        for holder in swap["holders"]:
            warn(f"the old code of {swap['plugin']} is still in use by {holder}")
    if not report["swaps"]:
        out.print(f"{subject}: nothing to do", markup=False)


def _version(version: dict[str, Any] | None) -> str:
    if version is None:
        return "nothing"
    return f"{version['version']} (generation {version['generation']}, {version['digest'][:8]})"


def _drain_line(drain: dict[str, Any]) -> str:
    holders = "; ".join(drain["holders"]) or "an unknown holder"
    seconds = drain["seconds"]
    since = "" if seconds is None else f" for {seconds:.1f} s"
    return f"{drain['plugin']} generation {drain['generation']} is held{since} by {holders}"


def _plugins(count: int) -> str:
    return "1 plugin" if count == 1 else f"{count:,} plugins"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f} ms"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")
