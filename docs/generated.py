"""What the site has besides the pages in this folder: pages that are made of the real program.

mkdocs calls `on_files`, `on_page_markdown` and nothing else (hooks of `mkdocs.yml`). Each page is
made of the thing that it describes: the command line of its parser, HTTP of the service's own
OpenAPI document, events and errors of their classes. `tests/docs` makes them too, without mkdocs.
"""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_OUTSIDE = re.compile(r"\[([^\]]*)\]\(((?:\.\./)+[^)#]+)[^)]*\)")

# `['x'][0]` in a table is the path of a leak, not a link.
_INDEX = re.compile(r"(\)|\])\[(\d+)\]")


# --- what mkdocs calls ---------------------------------------------------------------------------


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made."""
    from mkdocs.structure.files import File

    for address, make in PAGES.items():
        files.append(File.generated(config, address, content=make()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Show a link to a file of the repository that is not in the site as that file's name."""
    depth = page.file.src_uri.count("/")

    def shown(link: re.Match[str]) -> str:
        text, target = link[1], link[2]
        up = target.count("../")
        if up <= depth:
            return link[0]
        path = target.replace("../", "")
        return f"`{path}`" if path in text or text in path else f"{text} (`{path}`)"

    return _INDEX.sub(r"\1\[\2\]", _OUTSIDE.sub(shown, markdown))


# --- the command line ----------------------------------------------------------------------------


def cli() -> str:
    """Every command with its arguments and options, of the parser itself."""
    import typer

    from epochal.cli.root import app

    group = typer.main.get_command(app)
    lines = [
        "# Command line",
        "",
        "Exit statuses: 0 done; 1 refused or failed; 2 wrong arguments; 3 published, and the old",
        "code still in use after `--wait`; 130 Ctrl-C; 141 the reader of the output left.",
        "`--debug`, anywhere, shows the traceback of an error.",
        "",
    ]
    for name, command in sorted(group.commands.items()):  # type: ignore[attr-defined]
        lines += [f"## epochal {name}", "", *_help(command.help or ""), ""]
        lines += ["| | |", "|---|---|"]
        for parameter in command.params:
            words = " ".join(str(getattr(parameter, "help", None) or "").split())
            names = ", ".join(parameter.opts + parameter.secondary_opts)
            if parameter.param_type_name == "argument":
                names = str(parameter.name).upper()
            default = parameter.default
            if default not in (None, False, ()) and not callable(default):
                words += f" Default: `{default}`."
            lines.append(f"| `{names}` | {_cell(words)} |")
        lines.append("")
    return "\n".join(lines)


def _help(text: str) -> Iterator[str]:
    """A command's help: paragraphs as they are, its example as code."""
    for part in inspect.cleandoc(text.replace("\b", "").replace("\f", "")).split("\n\n"):
        head, colon, example = part.partition("For example:\n")
        if colon:
            yield from (head, "```sh", inspect.cleandoc(example), "```", "")
        else:
            yield from (_escape(part), "")


# --- HTTP ----------------------------------------------------------------------------------------


def http() -> str:
    """Every request of the service, of its OpenAPI document."""
    from epochal.server.api import document

    api = document()
    lines = [
        "# HTTP",
        "",
        "Made of the service's own document, `/openapi.json`. How to use it: [Run it as a",
        "service](../service.md). An error is `application/problem+json` with a `code`:",
        "[Errors by code](errors.md).",
        "",
    ]
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            lines += [f"## {method.upper()} {path}", ""]
            words = operation.get("description") or operation.get("summary") or ""
            lines += [_escape(str(words)), ""]
            if parameters := operation.get("parameters"):
                lines += ["| parameter | in | |", "|---|---|---|"]
                for each in (_resolved(api, parameter) for parameter in parameters):
                    about = _cell(each.get("description", ""))
                    lines.append(f"| `{each['name']}` | {each['in']} | {about} |")
                lines.append("")
            if body := operation.get("requestBody"):
                types = ", ".join(f"`{kind}`" for kind in _resolved(api, body)["content"])
                lines += [f"Body: {types}", ""]
            lines += ["| answer | |", "|---|---|"]
            for status, answer in operation["responses"].items():
                about = _cell(_resolved(api, answer).get("description", ""))
                lines.append(f"| {status} | {about} |")
            lines.append("")
    return "\n".join(lines)


def _resolved(api: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        target: Any = api
        for name in part["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        part = target
    return part


# --- events and errors ---------------------------------------------------------------------------


def events() -> str:
    """Every event with its fields, of the classes."""
    from epochal import events as core
    from epochal import jobs, watch

    lines = [
        "# Events",
        "",
        "`stop = rt.events.subscribe(callback)` calls `callback` with each event, in order, on a",
        "thread of its own; `stop()` ends it, once all events that were emitted before are",
        "delivered. A callback that raises or is slow disturbs no change. `event.describe()` is",
        "the log line, `event.level` its level.",
        "",
        "```python",
        "from epochal.events import ChangeCommitted",
        "",
        "stop = rt.events.subscribe(",
        "    lambda event: print(event.describe()) if isinstance(event, ChangeCommitted) else None",
        ")",
        "```",
        "",
    ]
    base = core.Event
    for module in (core, jobs, watch):
        classes = [value for value in vars(module).values() if inspect.isclass(value)]
        classes = [each for each in classes if issubclass(each, base) and each is not base]
        if classes:
            lines += [f"## {module.__name__}", ""]
        for cls in classes:
            own = ", ".join(f"`{each.name}`" for each in fields(cls))
            text = inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0]
            lines += [f"### {cls.__name__}", "", _escape(text), "", f"Fields: {own}", ""]
    return "\n".join(lines)


def _escape(text: str) -> str:
    return text.replace("<", "&lt;").replace("{", "&#123;")


def _cell(text: object) -> str:
    """Text for a cell of a table."""
    plain = text if isinstance(text, str) else json.dumps(text)
    return " ".join(_escape(plain).replace("|", "\\|").split())


PAGES = {"reference/cli.md": cli, "reference/http.md": http, "reference/events.md": events}
"""Address of a page -> the function that makes it."""
