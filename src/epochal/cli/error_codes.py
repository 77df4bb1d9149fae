"""Errors by code: the documentation's page of them, as text for a terminal.

The page, docs/reference/errors.md, is in the wheel beside this module; in a checkout it is where it
was written. The standard library alone, so that it also works without the extra `cli`.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from epochal.errors import HostError

_BESIDE: Final = Path(__file__).with_name("errors.md")
_IN_CHECKOUT: Final = Path(__file__).parents[3] / "docs" / "reference" / "errors.md"
_SECTION: Final = re.compile(r"^### ([\w-]+)\n\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
_ROW: Final = re.compile(r"^\| <a id=\"([\w-]+)\"></a>[^|]*\| ([^|]*?) \| (.*) \|$", re.MULTILINE)
_LINK: Final = re.compile(r"\[([^\]]+)\]\([^)]+\)")


def explain_code(word: str) -> str:
    """The cause and the remedy of an error.

    Args:
        word: its code, also as a message has it (`error[link]`), or the name of its class.

    Raises:
        HostError: no error has that code.
    """
    texts = _texts()
    code = re.sub(r"^(?:error|fault)?\[(.*)\]$", r"\1", word.strip().strip("`:"))
    if code not in texts:
        named = (name for name, text in texts.items() if text.startswith(f"`{code}`"))
        code = next(named, code)
    if code not in texts:
        close = get_close_matches(code.lower().removesuffix("error"), texts)
        meant = f"; do you mean {' or '.join(close)}?" if close else ""
        raise HostError(f"no error has the code {code!r}{meant} (`epochal explain` lists them all)")
    return f"{code}\n\n{_plain(texts[code])}"


def all_codes() -> list[tuple[str, str]]:
    """Every code with the first sentence of its text."""
    return [(code, _summary(text)) for code, text in _texts().items()]


def _texts() -> dict[str, str]:
    """The text of each code, as the page has it."""
    page = (_BESIDE if _BESIDE.exists() else _IN_CHECKOUT).read_text(encoding="utf-8")
    rows = {
        code: f"HTTP {status}. {remedy}" if status.isdigit() else remedy
        for code, status, remedy in _ROW.findall(page)
    }
    return {code: text.strip() for code, text in _SECTION.findall(page)} | rows


def _plain(text: str) -> str:
    """Markdown as a terminal shows it: links without their addresses, no bold type."""
    return _LINK.sub(r"\1", text).replace("**Remedy.**", "Remedy:")


def _summary(text: str) -> str:
    what = re.sub(r"^(?:`\w+`, )?HTTP \d+\. ", "", _plain(text))
    return re.split(r"(?<=\.) ", " ".join(what.split()), maxsplit=1)[0]
