"""What a plugin author's annotations say about SQL, read without any engine.

The problem: a SQL function needs the types of its arguments and of its result, and a plugin's
author has written them already, as annotations. They must be understood while a plugin is staged,
so that a mistake is told then and by name; and by processes that have neither pyarrow nor
DataFusion installed.

The idea: read annotations into `ValueType`, a small description of our own. A host turns it into
its engine's types (`epochal.kinds.arrow` makes Arrow of it). Arrow types that an author wrote down
himself, for the exact ones, are carried along as they are: whoever wrote them has imported pyarrow,
so they are recognised through `sys.modules` and this module never imports it.

=============================================  ===================================================
annotation                                     one SQL value
=============================================  ===================================================
`float` `int` `str` `bool` `bytes`             DOUBLE, BIGINT, VARCHAR, BOOLEAN, BYTEA
`datetime` `date` `Decimal`                    TIMESTAMP (microseconds, no zone), DATE,
                                               DECIMAL(38, 10)
`list[X]`                                      a list of such values
`X | None`                                     may be null; without it a parameter never sees None
`Annotated[int, pa.int32()]`, `pa.int32()`     exactly that Arrow type
`pa.DoubleArray`, `Annotated[pa.Array, …]`     vectorized form: a whole column of it
`point`, `Annotated[Point, point]`             a data type (`epochal.kinds.data_type`): a class of
                                               the plugin's own, or of a plugin that it requires
=============================================  ===================================================
"""

from __future__ import annotations

import inspect
import sys
import types
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Union, get_args, get_origin

from epochal.kinds.codec import codec_of, data_types_in, has_codec
from epochal.kinds.sql_types import annotated_types, by_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from epochal._core.generation.kind import Kind

_EXPECTED: Final = (
    "SQL types are {}, list[...] of these, "
    "each also `| None`, Annotated[..., <a pyarrow type>], and data types: classes marked with "
    "@data_type, of the plugin's own or of one that it requires"
)


def _expected() -> str:
    return _EXPECTED.format(", ".join(python.__name__ for python in annotated_types()))


_VARIADIC: Final = "has {}, but a SQL function has a fixed number of parameters"


class AnnotationError(TypeError):
    """Something about a target's annotations cannot be SQL.

    Attributes:
        faults: everything that is wrong, each with its place and what was expected.
    """

    def __init__(self, *faults: str, hint: str = "") -> None:
        self.faults = faults
        self.hint = hint
        super().__init__("; ".join(faults) + (f" ({hint})" if hint else ""))


@dataclass(frozen=True, slots=True)
class ValueType:
    """The type of one SQL value, as an annotation says it.

    Attributes:
        python: one of `PLAIN`, or `list`, or None where only an Arrow type was given.
        arrow: the exact `pyarrow.DataType` that the author gave, or None.
        element: of a list, the type of its elements.
        optional: whether None is a value of it.
        codec: of a plugin's data type, how values are stored (`epochal.kinds.data_type.Codec`).
            Plugin code: not to be kept past the look at a signature.
    """

    python: type | None
    arrow: Any = None
    element: ValueType | None = None
    optional: bool = False
    codec: Any = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a SQL function.

    Attributes:
        name: as the author named it.
        type: what it takes.
        required: whether a call from Python must give it.
    """

    name: str
    type: ValueType
    required: bool = True


@dataclass(frozen=True, slots=True)
class Signature:
    """Parameters and result of a SQL function; `returns` is None where nothing is returned."""

    parameters: tuple[Parameter, ...]
    returns: ValueType | None

    @property
    def has_codec(self) -> bool:
        """Whether a data type is in it."""
        result = () if self.returns is None else (self.returns,)
        return has_codec([*(one.type for one in self.parameters), *result])


# --- one annotation ----------------------------------------------------------------------------


def read_value(hint: Any) -> ValueType:
    """Read the annotation of one SQL value.

    Raises:
        AnnotationError: it is not understood.
    """
    if is_arrow_type(hint):
        return ValueType(None, arrow=hint)
    if (codec := codec_of(hint)) is not None:
        return ValueType(None, arrow=codec.storage, codec=codec)
    if isinstance(hint, type) and hint in annotated_types():
        return ValueType(hint)
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _read_annotated(args[0], args[1:])
    if origin in (Union, types.UnionType):
        return _read_union(hint, args)
    if origin is list:
        return ValueType(list, element=read_value(args[0]))
    if hint is list:
        raise AnnotationError("list does not say of what; write list[float], say")
    raise AnnotationError(f"{_show(hint)} is not a SQL type", hint=_expected())


def read_column(hint: Any) -> ValueType:
    """Read `list[X]` where it means a column of X: the rows of a window.

    Raises:
        AnnotationError: it is not such a list.
    """
    if get_origin(hint) is not list:
        what = "a data type, and not a column" if codec_of(hint) is not None else "not a column"
        raise AnnotationError(f"{_show(hint)} is {what}; expected list[...], one value a row")
    return read_value(get_args(hint)[0])


def read_array(hint: Any) -> ValueType:
    """Read the annotation of a whole column in vectorized form: an Arrow array, or its values.

    Raises:
        AnnotationError: it is not understood, or does not say what the array holds.
    """
    if isinstance(hint, type) and hint.__module__.partition(".")[0] == "pyarrow":
        sql_type = by_array(hint.__name__)
        if sql_type is None:
            raise AnnotationError(
                f"{_show(hint)} does not say what it holds; write pa.DoubleArray, say, or "
                "Annotated[pa.Array, pa.float64()]"
            )
        # An array's nulls are in the array: the vectorized form always sees them.
        return ValueType(None, arrow=sql_type.make(sys.modules["pyarrow"]), optional=True)
    return replace(read_value(hint), optional=True)


def is_arrow_type(value: object) -> bool:
    """Whether this is a `pyarrow.DataType`, found out without importing pyarrow."""
    pyarrow = sys.modules.get("pyarrow")
    return pyarrow is not None and isinstance(value, pyarrow.DataType)


def _read_annotated(hint: Any, metadata: tuple[Any, ...]) -> ValueType:
    exact = next((item for item in metadata if is_arrow_type(item)), None)
    typed = next((item for item in metadata if codec_of(item) is not None), None)
    if typed is not None:
        return read_value(typed)  # what stands first is for type checkers
    if exact is None:
        return read_value(hint)
    try:
        plain = read_value(hint)
    except AnnotationError:
        return ValueType(None, arrow=exact)  # the Arrow type says it all
    if has_codec([plain]):
        raise AnnotationError(f"{_show(hint)} is a data type, and says itself how it is stored")
    return replace(plain, arrow=exact, element=None)


def _read_union(hint: Any, args: tuple[Any, ...]) -> ValueType:
    members = [arg for arg in args if arg is not types.NoneType]
    if len(members) != 1 or len(members) == len(args):
        raise AnnotationError(f"{_show(hint)} is more than one SQL type", hint=_expected())
    return replace(read_value(members[0]), optional=True)


def _show(hint: Any) -> str:
    return hint.__qualname__ if isinstance(hint, type) and not get_args(hint) else repr(hint)


# --- a whole function --------------------------------------------------------------------------


def read_signature(
    function: Any,
    read: Callable[[Any], ValueType] = read_value,
    *,
    read_return: Callable[[Any], ValueType] | None = None,
    returns: bool = True,
    method: bool = False,
) -> Signature:
    """Read a function's parameters and result from its annotations.

    Args:
        function: a function or other callable.
        read: reads a parameter's annotation.
        read_return: reads the result's; the same when left out.
        returns: whether the result matters.
        method: whether the first parameter is `self`, which is not SQL's.

    Raises:
        AnnotationError: every fault of it, each with the parameter's name and what was expected.
    """
    hints = annotations_of(function)
    faults = Faults()
    faults.check(_kind_fault(function))
    given = list(inspect.signature(function).parameters.values())[1 if method else 0 :]
    parameters = [
        Parameter(one.name, kind, one.default is one.empty)
        for one in given
        if _is_sql(one, faults)
        and (kind := faults.read(f"parameter {one.name!r}", one.name, hints, read)) is not None
    ]
    result = faults.read("the result", "return", hints, read_return or read) if returns else None
    faults.raise_any()
    return Signature(tuple(parameters), result)


def annotations_of(target: Any) -> Mapping[str, Any]:
    """The annotations of a function, callable object or class, with strings evaluated.

    Raises:
        AnnotationError: one of them names something that is not there at run time.
    """
    if not inspect.isclass(target) and not inspect.isroutine(target):
        target = getattr(target, "func", None) or type(target).__call__
    try:
        # Not typing.get_type_hints: that refuses an Arrow type in a string, since it is no class.
        return inspect.get_annotations(target, eval_str=True)
    except Exception as error:
        raise AnnotationError(
            f"an annotation cannot be evaluated when the plugin runs: {error} "
            "(was it imported under TYPE_CHECKING only?)"
        ) from error


def data_types_of(*targets: Any) -> Iterator[tuple[Kind[Any], Any]]:
    """The plugin's own data types that annotations of these name, for `Kind.dependencies`."""
    for target in targets:
        for hint in annotations_of(target).values():
            yield from data_types_in(hint)


class Faults:
    """Collects what is wrong, so that an author is told everything at once."""

    __slots__ = ("_hint", "messages")

    def __init__(self) -> None:
        self.messages: list[str] = []
        self._hint = ""

    def check(self, fault: str | None) -> None:
        """Note a fault, if there is one."""
        if fault is not None:
            self.messages.append(fault)

    def add(self, what: str, error: AnnotationError) -> None:
        """Note the faults of an error, each with its place."""
        self.messages += [f"{what}{fault}" for fault in error.faults]
        self._hint = self._hint or error.hint

    def read(
        self, what: str, name: str, hints: Mapping[str, Any], read: Callable[[Any], ValueType]
    ) -> ValueType | None:
        """Read one annotation, noting what is wrong with it."""
        if name not in hints:
            self.add(f"{what}: ", AnnotationError("no annotation", hint=_expected()))
            return None
        try:
            return read(hints[name])
        except AnnotationError as error:
            self.add(f"{what}: ", error)
            return None

    def raise_any(self) -> None:
        """Raise `AnnotationError` with all that was found."""
        if self.messages:
            raise AnnotationError(*self.messages, hint=self._hint)


def _is_sql(parameter: inspect.Parameter, faults: Faults) -> bool:
    """Whether a parameter is one that SQL passes; notes the ones that cannot be."""
    if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
        return True
    if parameter.kind is parameter.VAR_POSITIONAL:
        faults.check(_VARIADIC.format(f"*{parameter.name}"))
    elif parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
        faults.check(f"parameter {parameter.name!r} is keyword-only, but SQL passes by position")
    return False  # others keep their defaults: they are for callers in Python


def _kind_fault(function: Any) -> str | None:
    names: Iterable[tuple[Callable[[Any], bool], str]] = (
        (inspect.iscoroutinefunction, "a coroutine function"),
        (inspect.isasyncgenfunction, "an asynchronous generator"),
    )
    for test, name in names:
        if test(function):
            return f"is {name}, which a SQL engine cannot await; make it a plain function"
    return None
