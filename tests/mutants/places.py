"""Find the place of a breakage in the syntax tree, and change the source there.

`tests/mutants/mutant.py` describes the notation.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.mutants.mutant import Edit, Mutant

SOURCES = Path(__file__).parents[2] / "src"

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_KINDS = {
    ast.AnnAssign: "assign",
    ast.AsyncFor: "for",
    ast.AsyncFunctionDef: "def",
    ast.AsyncWith: "with",
    ast.AugAssign: "assign",
    ast.ClassDef: "class",
    ast.FunctionDef: "def",
    ast.ImportFrom: "import",
    ast.TryStar: "try",
}
_PART = r"[a-z_]+(?:\[\d+\])?(?:\.[a-z_]+(?:\[\d+\])?)*"
_AT = re.compile(
    rf"(?:definition|(?P<first>[a-z]+ \d+)(?: to (?P<last>[a-z]+ \d+))?)(?: / (?P<part>{_PART}))?"
)
_ORIGINAL = re.compile(rf"\$(?:(?P<number>\d+)(?:\.(?P<of>{_PART}))?|(?P<part>{_PART}))?")


class NoSuchPlaceError(Exception):
    """There is no such definition, or no such place in it."""


# Attributes that a breakage uses of another library's objects, and the sources do not.
_FOREIGN = frozenset({"table_name"})


@dataclass(frozen=True, slots=True)
class Place:
    """Some code.

    Attributes:
        source: the module's source.
        tree: the module.
        scopes: the definitions around the place, outermost first.
        statements: the statements that it is, or that it is in.
        block: the block that has them.
        peers: all statements of the definition.
        part: the fields that lead from the statement to a part of it; empty if it is all of it.
        nodes: the statements, or the part.
    """

    source: bytes
    tree: ast.Module
    scopes: tuple[_Definition, ...]
    statements: tuple[ast.stmt, ...]
    block: list[ast.stmt]
    peers: tuple[ast.stmt, ...]
    part: str
    nodes: tuple[ast.AST, ...]


class _Found(NamedTuple):
    statement: ast.stmt
    block: list[ast.stmt]


def path_of(module: str) -> Path:
    """The module's file."""
    path = SOURCES.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def broken_by(mutant: Mutant) -> str:
    """The source of the mutant's module with the breakage in it."""
    return changed(place_of(mutant), mutant.edit)


def place_of(mutant: Mutant) -> Place:
    """The place that the mutant's address names."""
    path = path_of(mutant.module)
    if not path.is_file():
        raise NoSuchPlaceError(f"there is no module {mutant.module}")
    return find(path.read_bytes(), mutant.where, mutant.at)


def find(source: bytes, where: str, at: str) -> Place:
    """The place in a module's source."""
    tree = _parsed(source)
    block, target, scopes = tree.body, _Found(tree.body[0], tree.body), []
    for name in where.split(".") if where else ():
        target = _named(block, name)
        if isinstance(target.statement, _Definition):
            scopes.append(target.statement)
            block = target.statement.body
        else:
            block = []
    matched = _AT.fullmatch(at)
    if matched is None or (not where and at.startswith("definition")):
        raise NoSuchPlaceError(f"{at!r} is not the notation of a place")
    first, last, part = matched["first"], matched["last"], matched["part"] or ""
    peers = tuple(_statements(block))
    if first is not None:
        target = _numbered(peers, first)
    statements: tuple[ast.stmt, ...] = (target.statement,)
    if last is not None:
        begin = _index(target.block, target.statement)
        end = _index(target.block, _numbered(peers, last).statement)
        statements = tuple(target.block[begin : end + 1])
        if end < begin:
            raise NoSuchPlaceError(f"{last!r} does not follow {first!r} in one block")
    return Place(
        source=source,
        tree=tree,
        scopes=tuple(scopes),
        statements=statements,
        block=target.block,
        peers=tuple(peer.statement for peer in peers),
        part=part,
        nodes=tuple(_part(target.statement, part)) if part else statements,
    )


def shape_of(place: Place) -> str:
    """A fingerprint of the code at the place, without its names and values.

    Of a part it is that of the whole statement without its blocks. It counts the statements of the
    definition that have the same shape: otherwise one more of them would move the address unseen.
    """
    whole = not place.part
    first = _shape(place.statements[0], whole)
    twins = [peer for peer in place.peers if _shape(peer, whole) == first]
    number = next((n for n, twin in enumerate(twins) if twin is place.statements[0]), 0)
    shapes = [_shape(statement, whole) for statement in place.statements]
    text = f"{shapes} {place.part} {number} of {len(twins)}"
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def changed(place: Place, edit: Edit) -> str:
    """The module's source with the change made."""
    begin, end = begin_of(place.source, place.nodes[0]), end_of(place.source, place.nodes[-1])
    text = code_of(place, edit).encode()
    if place.part:
        begin, end, text = _in_expression(place, edit, begin, end, text)
    else:
        line_begin = place.source.rfind(b"\n", 0, begin) + 1
        line_end = place.source.index(b"\n", end) + 1
        indent = place.source[line_begin:begin]
        lines = indent + text.replace(b"\n", b"\n" + indent) + b"\n"
        if edit.verb == "delete" and len(place.nodes) == len(place.block):
            text = b"pass"
        elif edit.verb == "delete":
            begin, end, text = line_begin, line_end, b""
        elif edit.verb == "before":
            begin, end, text = line_begin, line_begin, lines
        elif edit.verb == "after":
            begin, end, text = line_end, line_end, lines
        else:
            text = text.replace(b"\n", b"\n" + indent)
    return (place.source[:begin] + text + place.source[end:]).decode()


def code_of(place: Place, edit: Edit) -> str:
    """The code of the change, with what it takes from the original in it."""

    def original(match: re.Match[str]) -> str:
        nodes = place.nodes
        if match["number"] is not None:
            nodes = (nodes[int(match["number"])],)
        if part := match["of"] or match["part"]:
            nodes = tuple(_part(nodes[0], part))
        line = edit.code[edit.code.rfind("\n", 0, match.start()) + 1 :]
        indent = line[: len(line) - len(line.lstrip(" "))]
        return _dedented(place.source, nodes).replace("\n", "\n" + indent)

    return _ORIGINAL.sub(original, edit.code)


def unknown_names(place: Place, edit: Edit) -> set[str]:
    """Names in the change's code that nothing binds, and attributes that no source has.

    An attribute of `self` must be in its own module, because others may have the same name.
    """
    code = code_of(place, edit)
    nodes = [*ast.walk(ast.parse(f"({code})" if place.part and code else code))]
    bound = {*_bound(nodes), *_bound(_own(place.tree)), *dir(builtins), "__file__", "__name__"}
    for scope in place.scopes:
        if scope is place.scopes[-1] or not isinstance(scope, ast.ClassDef):
            bound.update(_bound(_own(scope)))
    names = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    attributes = {n.attr for n in nodes if isinstance(n, ast.Attribute)}
    keywords = {n.arg for n in nodes if isinstance(n, ast.keyword) and n.arg}
    own = {
        n.attr
        for n in nodes
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == "self"
    }
    return (
        (names - bound)
        | (own - _identifiers_of(place.source))
        | ((attributes | keywords) - _identifiers() - _FOREIGN)
    )


def _in_expression(
    place: Place, edit: Edit, begin: int, end: int, text: bytes
) -> tuple[int, int, bytes]:
    if edit.verb == "replace":
        return begin, end, text
    if edit.verb == "before":
        return begin, begin, text + b", "
    if edit.verb == "after":
        return end, end, b", " + text
    parent, _, number = place.part.rstrip("]").rpartition("[")
    siblings = list(_part(place.statements[0], parent))
    index = int(number)
    if index + 1 < len(siblings):
        return begin, begin_of(place.source, siblings[index + 1]), b""
    if index:
        return end_of(place.source, siblings[index - 1]), end, b""
    return begin, end, b""


def _named(block: list[ast.stmt], name: str) -> _Found:
    """The only definition of a name, overloads not counted."""
    matches = [peer for peer in _statements(block) if _name(peer.statement) == name]
    if len(matches) != 1:
        raise NoSuchPlaceError(f"{name!r} is defined {len(matches)} times")
    return matches[0]


def _name(statement: ast.stmt) -> str | None:
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            marks = {ast.unparse(mark).rpartition(".")[2] for mark in statement.decorator_list}
            return None if "overload" in marks else statement.name
        case ast.Assign(targets=[ast.Name(name)]) | ast.AnnAssign(target=ast.Name(name)):
            return name
    return None


def kind_of(statement: ast.stmt) -> str:
    """The kind of a statement, as an address names it."""
    return _KINDS.get(type(statement), type(statement).__name__.lower())


def _numbered(peers: Iterable[_Found], step: str) -> _Found:
    kind, number = step.split(" ")
    matches = [peer for peer in peers if kind_of(peer.statement) == kind]
    if int(number) >= len(matches):
        raise NoSuchPlaceError(f"there is no {step!r}: the definition has {len(matches)} such")
    return matches[int(number)]


def _index(block: list[ast.stmt], statement: ast.stmt) -> int:
    return next((n for n, peer in enumerate(block) if peer is statement), -1)


def _part(node: ast.AST, part: str) -> Iterator[ast.AST]:
    value: object = node
    for name, number in re.findall(r"([a-z_]+)(?:\[(\d+)\])?", part):
        if isinstance(value, ast.JoinedStr):  # Python 3.11 does not know where its parts are
            raise NoSuchPlaceError(f"{part!r} is within an f-string")
        try:
            value = getattr(value, name)
            value = value[int(number)] if number else value  # type: ignore[index]
        except (AttributeError, IndexError, TypeError):
            raise NoSuchPlaceError(f"there is no {part!r} in {ast.unparse(node)!r}") from None
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, ast.AST) or not hasattr(item, "end_lineno"):
            raise NoSuchPlaceError(f"{part!r} is no code in {ast.unparse(node)!r}")
        yield item


def _statements(block: list[ast.stmt]) -> Iterator[_Found]:
    """The statements of a block and of the blocks in it, not those of definitions."""
    for statement in block:
        yield _Found(statement, block)
        if not isinstance(statement, _Definition):
            for inner in _blocks(statement):
                yield from _statements(inner)


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    for _, value in ast.iter_fields(node):
        if isinstance(value, list) and value:
            if isinstance(value[0], ast.stmt):
                yield value
            elif isinstance(value[0], ast.ExceptHandler | ast.match_case):
                for item in value:
                    yield from _blocks(item)


def _shape(node: ast.AST, whole: bool) -> str:
    if isinstance(node, ast.Constant):
        return type(node.value).__name__
    children = [
        _shape(child, whole)
        for child in ast.iter_child_nodes(node)
        if not isinstance(child, ast.expr_context) and (whole or not isinstance(child, ast.stmt))
    ]
    return f"{type(node).__name__}({' '.join(children)})"


def _offset(source: bytes, line: int, column: int) -> int:
    at = 0
    for _ in range(line - 1):
        at = source.index(b"\n", at) + 1
    return at + column


def begin_of(source: bytes, node: ast.AST) -> int:
    """The offset at which a node begins, its decorators included."""
    if isinstance(node, _Definition) and node.decorator_list:
        mark = node.decorator_list[0]
        return source.rindex(b"@", 0, _offset(source, mark.lineno, mark.col_offset))
    return _offset(source, node.lineno, node.col_offset)  # type: ignore[attr-defined]


def end_of(source: bytes, node: ast.AST) -> int:
    """The offset at which a node ends."""
    return _offset(source, node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]


def _dedented(source: bytes, nodes: tuple[ast.AST, ...]) -> str:
    begin = begin_of(source, nodes[0])
    text = source[begin : end_of(source, nodes[-1])].decode()
    if not isinstance(nodes[0], ast.stmt):
        return text
    return text.replace("\n" + " " * (begin - source.rfind(b"\n", 0, begin) - 1), "\n")


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a definition, without those of nested definitions."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, _Definition):
            yield from _own(child)


def _bound(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        match node:
            case ast.Name(name, ast.Store()) | ast.arg(name) | ast.ExceptHandler(name=str(name)):
                yield name
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
                yield name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case ast.alias(name, asname):
                yield asname or name.partition(".")[0]


@cache
def _parsed(source: bytes) -> ast.Module:
    return ast.parse(source)


@cache
def _identifiers_of(source: bytes) -> frozenset[str]:
    """All names in a source: of variables, definitions, parameters, attributes, imports."""
    names: set[str] = set()
    for node in ast.walk(_parsed(source)):
        for field in ("id", "attr", "arg", "name", "asname"):
            if isinstance(name := getattr(node, field, None), str):
                names.add(name)
    return frozenset(names)


@cache
def _identifiers() -> frozenset[str]:
    """All names in all sources."""
    paths = SOURCES.rglob("*.py")
    return frozenset().union(*(_identifiers_of(path.read_bytes()) for path in paths))
