"""The number of source lines by room: `python -m benchmarks.size [FOLDER]`. Writes no file.

A line is counted once: as documentation (a docstring), comment, blank, import, or code.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "src/epochal"
LEFT_OUT = ("demo", "examples")
SORTS = ("total", "code", "docstrings", "comments", "imports", "blank")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def main() -> None:
    folder = Path(sys.argv[1]) if sys.argv[1:] else SOURCES
    rooms: dict[str, Counter[str]] = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).parts
        if parts[0] not in LEFT_OUT:
            room = parts[0] if len(parts) > 1 else "(top)"
            rooms.setdefault(room, Counter()).update(sizes(path.read_text(encoding="utf-8")))
    rooms["all"] = sum(rooms.values(), Counter())
    print(f"{'':10}" + "".join(f"{sort:>12}" for sort in SORTS))
    for room, size in rooms.items():
        print(f"{room:10}" + "".join(f"{size[sort]:>12,}" for sort in SORTS))


def sizes(text: str) -> Counter[str]:
    """The lines of one file, by sort."""
    sort_of: dict[int, str] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            mark(sort_of, node.body[0], "docstrings")
        elif isinstance(node, ast.Import | ast.ImportFrom):
            mark(sort_of, node, "imports")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#"):
            sort_of.setdefault(token.start[0], "comments")
    lines = text.splitlines()
    counted = Counter(
        sort_of.get(number, "code" if line.strip() else "blank")
        for number, line in enumerate(lines, 1)
    )
    return counted + Counter(total=len(lines))


def mark(sort_of: dict[int, str], node: ast.stmt, sort: str) -> None:
    for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
        sort_of.setdefault(number, sort)


if __name__ == "__main__":
    main()
