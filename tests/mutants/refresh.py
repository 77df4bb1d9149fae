"""Write the shapes of today's code into the catalogue: `python -m tests.mutants --refresh`.

Look at the breakages first: a shape has changed because the code has, or because a statement in
front of it has moved the address to another one. So each line shows the code that is there now.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from tests.mutants.catalogue import AREAS
from tests.mutants.places import begin_of, end_of, place_of, shape_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.mutants.mutant import Mutant


def refresh(chosen: Mapping[int, Mutant]) -> Iterator[str]:
    """Write the shapes of these breakages, by number; a line for each that was another."""
    number = sum(len(area.MUTANTS) for area in AREAS)
    for area in reversed(AREAS):
        path = Path(str(area.__file__))
        source = path.read_bytes()
        for call in reversed(_records(ast.parse(source))):  # backwards, so that offsets stay right
            mutant = chosen.get(number)
            if mutant is not None and (new := shape_of(place := place_of(mutant))) != mutant.shape:
                (value,) = (k.value for k in call.keywords if k.arg == "shape")
                begin, end = begin_of(source, value), end_of(source, value)
                source = source[:begin] + f'"{new}"'.encode() + source[end:]
                code = ast.unparse(place.statements[0]).partition("\n")[0]
                yield f"{number}: {mutant.shape} -> {new}  {mutant.broken}\n  now: {code}"
            number -= 1
        path.write_bytes(source)


def _records(tree: ast.Module) -> list[ast.Call]:
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Mutant"]
