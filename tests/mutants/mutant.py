"""A breakage: the place of the code that keeps a promise, and the edit that breaks it.

A place is given by the syntax tree, so that renaming, reformatting or commenting the code around it
does not move it: `where` is the qualified name of a definition (a function, a
class, or a variable of a module or class), and `at` is a place within it:

- `"if 0"`: the first `if` within the definition, in the order of the source. Statements in
  blocks count, those in nested definitions do not. Kinds are those of `ast` in lower case;
  `assign` is with and without annotation or operator, `import` with and without `from`, and `with`,
  `for` and `def` are also the `async` ones.
- `"if 0 to return 1"`: these two statements and all between them, which are in one block.
- `"if 0 / test"`, `"return 1 / value.args[0]"`: a part of the statement, by the fields of `ast`.
- `"definition"`, `"definition / args.defaults[0]"`: the definition itself, or a part of it.

The code of a change is Python, in which `$` is the code at the place, `$test` or `$value.args[0]` a
part of it, `$body` a block, and `$0`, `$1` are the statements of several. With them the code of a
breakage does not depend on names. An expression is put where it is as it is written: `($) or True`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit of the code at a place."""

    verb: Literal["delete", "replace", "before", "after"]
    code: str = ""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One guarantee taken out.

    Attributes:
        id: its name for good, such as `E4.shutdown-runs-once`; the promise comes first.
        promise: the promises that it takes out, as `docs/guarantees.md` names them.
        broken: a description of the breakage.
        module: the module that keeps the promise.
        where: the qualified name of a definition in it; empty for the module itself.
        at: the place within the definition.
        edit: the edit at that place.
        shape: the fingerprint of the code at the place, names left out: see `places.shape_of`.
        test: the test that must fail.
    """

    id: str
    promise: str
    broken: str
    module: str
    where: str
    at: str
    edit: Edit
    shape: str
    test: str


def delete() -> Edit:
    """Take out statements (`pass` stays for all of a block), or one of several parts."""
    return Edit("delete")


def replace(code: str) -> Edit:
    """Put the code there instead."""
    return Edit("replace", code)


def before(code: str) -> Edit:
    """Put the code in front of it."""
    return Edit("before", code)


def after(code: str) -> Edit:
    """Put the code behind it."""
    return Edit("after", code)
