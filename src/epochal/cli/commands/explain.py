"""`epochal explain`: the cause and the remedy of an error, by its code."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from epochal.cli.console import Json, console, data_table, write_json
from epochal.cli.error_codes import all_codes, explain_code


def explain(
    code: Annotated[
        str,
        typer.Argument(help="The code, as in error[CODE].", show_default=False),
    ] = "",
    as_json: Json = False,
) -> None:
    """Explain an error by its code: its cause and its remedy.

    For example:
      epochal explain link
      epochal explain
    """
    if as_json:
        texts = [code] if code else [each for each, _ in all_codes()]
        write_json({each: explain_code(each) for each in texts})
    elif code:
        console().print(explain_code(code), markup=False, soft_wrap=True)
    else:
        table = data_table("code", "")
        for each, about in all_codes():
            table.add_row(Text(each), Text(about))
        console().print(table)
