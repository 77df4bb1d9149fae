"""`--config`: the configuration of plugins, as `plugin.key=value` or as a file with their tables.

A value is read as JSON, or else as the text that it is: `geo.port=80` is a number, `geo.name=x` a
text, `geo.name="80"` again a text. A file is TOML or JSON with one table a plugin. Later options
take precedence over earlier ones, key by key.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from epochal.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

Configs = Annotated[
    list[str] | None,
    typer.Option(
        "--config",
        "-c",
        metavar="PLUGIN.KEY=VALUE|FILE",
        help="A plugin's configuration: one value, or a TOML or JSON file with a table a plugin. "
        "May be given several times.",
        show_default=False,
    ),
]
Config = dict[str, Any]

_ONE: Final = re.compile(r"([a-z][a-z0-9_]*)\.([^=\s]+)=(.*)", re.DOTALL)


def read_configs(options: Sequence[str] | None) -> dict[str, Config]:
    """The values of `--config`, by plugin.

    Raises:
        BadParameter: an option is neither of the two forms.
        HostError: a file cannot be read.
    """
    configs: dict[str, Config] = {}
    for option in options or ():
        if one := _ONE.fullmatch(option):
            plugin, key, text = one.groups()
            _put(configs.setdefault(plugin, {}), key, _value(text))
        elif "=" in option and not Path(option).exists():
            raise typer.BadParameter(f"--config {option!r} is not of the form PLUGIN.KEY=VALUE")
        else:
            for plugin, table in _read(Path(option)).items():
                _merge(configs.setdefault(plugin, {}), table)
    return configs


def check_known(configs: Mapping[str, Config], plugins: Collection[str]) -> None:
    """Refuse configurations of plugins that are not there.

    Raises:
        HostError: one is of another plugin; the message names it.
    """
    for plugin, config in configs.items():
        if plugin not in plugins:
            key = next(iter(config), "")
            known = ", ".join(sorted(plugins)) or "none"
            raise HostError(
                f"--config {plugin}.{key} is for plugin {plugin!r}, which is not loaded; "
                f"loaded: {known}"
            )


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _put(table: Config, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        inner = table.setdefault(parent, {})
        if not isinstance(inner, dict):
            inner = table[parent] = {}
        table = inner
    table[last] = value


def _merge(table: Config, newer: Mapping[str, Any]) -> None:
    for key, value in newer.items():
        old = table.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            _merge(old, value)
        else:
            table[key] = value


def _read(path: Path) -> dict[str, Config]:
    import tomllib  # here, for the help

    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:  # both parsers' errors, and text that is not UTF-8
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise HostError(f"--config {path}: {reason}") from None
    tables: dict[str, Config] = document if isinstance(document, dict) else {"": document}
    for plugin, table in tables.items():
        if not isinstance(table, dict):
            raise HostError(
                f"--config {path}: {plugin!r} is not a table; expected one a plugin, such as "
                "[geo] with its keys below"
            )
    return tables
