"""Signatures: the SQL types in a plugin author's annotations, read without any engine.

The problem: a SQL function needs the types of its arguments and of its result, and a plugin's
author has written them already, as annotations. They must be read while a plugin is staged, so that
a mistake is reported then and by name; also in processes that have neither pyarrow nor DataFusion.

The idea: read annotations into `ValueType`, a small description of our own. A host turns it into
its engine's types (`epochal.kinds.arrow` makes Arrow types of it). An exact Arrow type that an
author wrote down is passed on as it is. Such an author has imported pyarrow, so this module
recognises the type through `sys.modules` and never imports pyarrow.

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
    """An annotation is not a SQL type, or is missing.

    Attributes:
        faults: every fault, each with its place and the expected types.
        hint: the list of SQL types, where a fault is explained by it; empty otherwise.
    """

    def __init__(self, *faults: str, hint: str = "") -> None:
        self.faults = faults
        self.hint = hint
        super().__init__("; ".join(faults) + (f" ({hint})" if hint else ""))


@dataclass(frozen=True, slots=True)
class ValueType:
    """The type of one SQL value, as an annotation gives it.

    Attributes:
        python: one of `annotated_types()`, or `list`; None where only an Arrow type was given.
        arrow: the exact `pyarrow.DataType` that the author gave, or None.
        element: the type of a list's elements; None for any other type.
        optional: whether None is a value of it.
        codec: how values of a plugin's data type are stored (`epochal.kinds.codec.Codec`); None for
            any other type. It holds plugin code, so do not keep it longer than a query.
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
        name: the name that the author gave it.
        type: the type of its values.
        required: whether a call must give it.
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
        """Whether a parameter or the result is, or contains, a data type."""
        result = () if self.returns is None else (self.returns,)
        return has_codec([*(parameter.type for parameter in self.parameters), *result])


# --- one annotation ----------------------------------------------------------------------------


def read_value(hint: Any) -> ValueType:
    """Read the annotation of one SQL value.

    Raises:
        AnnotationError: it is not a SQL type.
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
        raise AnnotationError("list has no element type; write list[float], for example")
    raise AnnotationError(f"{_show(hint)} is not a SQL type", hint=_expected())


def read_column(hint: Any) -> ValueType:
    """Read `list[X]` where it means a column of X: the rows of a window.

    Raises:
        AnnotationError: it is not such a list.
    """
    if get_origin(hint) is not list:
        fault = "a data type, and not a column" if codec_of(hint) is not None else "not a column"
        raise AnnotationError(f"{_show(hint)} is {fault}; expected list[...], one value a row")
    return read_value(get_args(hint)[0])


def read_array(hint: Any) -> ValueType:
    """Read the annotation of a whole column in vectorized form: an Arrow array, or its values.

    Raises:
        AnnotationError: it is not a SQL type, or an array class that holds any type.
    """
    if isinstance(hint, type) and hint.__module__.partition(".")[0] == "pyarrow":
        sql_type = by_array(hint.__name__)
        if sql_type is None:
            raise AnnotationError(
                f"{_show(hint)} has no value type; write pa.DoubleArray, for example, or "
                "Annotated[pa.Array, pa.float64()]"
            )
        # An array's nulls are in the array: the vectorized form always sees them.
        return ValueType(None, arrow=sql_type.make(sys.modules["pyarrow"]), optional=True)
    return replace(read_value(hint), optional=True)


def is_arrow_type(value: object) -> bool:
    """Return whether this is a `pyarrow.DataType`, without importing pyarrow."""
    pyarrow = sys.modules.get("pyarrow")
    return pyarrow is not None and isinstance(value, pyarrow.DataType)


def _read_annotated(hint: Any, metadata: tuple[Any, ...]) -> ValueType:
    exact = next((item for item in metadata if is_arrow_type(item)), None)
    data_type = next((item for item in metadata if codec_of(item) is not None), None)
    if data_type is not None:
        return read_value(data_type)  # the first argument is for type checkers
    if exact is None:
        return read_value(hint)
    try:
        plain = read_value(hint)
    except AnnotationError:
        return ValueType(None, arrow=exact)  # the Arrow type is enough
    if has_codec([plain]):
        raise AnnotationError(f"{_show(hint)} is a data type, which has a storage type of its own")
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
        read_return: reads the result's; None for `read`.
        returns: whether to read the result.
        method: whether the first parameter is `self`, which SQL does not pass.

    Raises:
        AnnotationError: the function has faults; the message names the place of each.
    """
    hints = annotations_of(function)
    faults = Faults()
    faults.add(_callable_fault(function))
    parameters: list[Parameter] = []
    for name, is_required in _passed_by_sql(function, faults, skip=method):
        value_type = faults.read(f"parameter {name!r}", name, hints, read)
        if value_type is not None:
            parameters.append(Parameter(name, value_type, is_required))
    result = faults.read("the result", "return", hints, read_return or read) if returns else None
    faults.raise_any()
    return Signature(tuple(parameters), result)


def annotations_of(target: Any) -> Mapping[str, Any]:
    """Return the annotations of a function, callable object or class, with strings evaluated.

    Raises:
        AnnotationError: a string cannot be evaluated at run time.
    """
    if not inspect.isclass(target) and not inspect.isroutine(target):
        target = getattr(target, "func", None) or type(target).__call__
    try:
        if type(target) is types.FunctionType:
            hints: dict[str, Any] = target.__annotations__
            if not any(isinstance(hint, str) for hint in hints.values()):
                return hints  # nothing to evaluate: as below, at a tenth of the time
        # Not typing.get_type_hints: it refuses an Arrow type in a string, which is not a class.
        return inspect.get_annotations(target, eval_str=True)
    except Exception as error:
        raise AnnotationError(
            f"an annotation cannot be evaluated when the plugin runs: {error} "
            "(was it imported under TYPE_CHECKING only?)"
        ) from error


def data_types_of(*targets: Any) -> Iterator[tuple[Kind[Any], Any]]:
    """Yield the plugin's own data types in annotations of these, for `Kind.dependencies`."""
    for target in targets:
        for hint in annotations_of(target).values():
            yield from data_types_in(hint)


class Faults:
    """Collects faults, so that an author gets all of them in one error.

    Attributes:
        messages: one for each fault.
    """

    __slots__ = ("_hint", "messages")

    def __init__(self) -> None:
        self.messages: list[str] = []
        self._hint = ""

    def add(self, fault: str | None) -> None:
        """Add a fault; None adds nothing."""
        if fault is not None:
            self.messages.append(fault)

    def add_error(self, place: str, error: AnnotationError) -> None:
        """Add the faults of an error, each with the place in front."""
        self.messages += [f"{place}{fault}" for fault in error.faults]
        self._hint = self._hint or error.hint

    def read(
        self, place: str, name: str, hints: Mapping[str, Any], read: Callable[[Any], ValueType]
    ) -> ValueType | None:
        """Read one annotation; returns None after adding its faults."""
        if name not in hints:
            self.add_error(f"{place}: ", AnnotationError("no annotation", hint=_expected()))
            return None
        try:
            return read(hints[name])
        except AnnotationError as error:
            self.add_error(f"{place}: ", error)
            return None

    def raise_any(self) -> None:
        """Raise `AnnotationError` with all faults, if there are any."""
        if self.messages:
            raise AnnotationError(*self.messages, hint=self._hint)


def _passed_by_sql(function: Any, faults: Faults, *, skip: bool) -> list[tuple[str, bool]]:
    """The parameters that SQL passes, and whether it must; adds a fault for any other that it must.

    `skip` leaves out the first, which is `self`.
    A plain function's are read from its code: that is a fifth of what `inspect` takes for it, and
    to read signatures was a fifth of a start.
    """
    if type(function) is types.FunctionType and not vars(function).keys() & _OTHER_SIGNATURE:
        code, defaults = function.__code__, function.__defaults__ or ()
        if not code.co_kwonlyargcount and not code.co_flags & _VARIADIC_FLAGS:
            first_default = code.co_argcount - len(defaults)
            names = code.co_varnames[: code.co_argcount]
            return [(name, at < first_default) for at, name in enumerate(names)][skip:]
    given = list(inspect.signature(function).parameters.values())[skip:]
    return [(one.name, one.default is one.empty) for one in given if _is_passed_by_sql(one, faults)]


_OTHER_SIGNATURE: Final = frozenset({"__wrapped__", "__signature__", "__text_signature__"})
"""Attributes of a function by which `inspect.signature` shows another one than its code has."""
_VARIADIC_FLAGS: Final = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS


def _is_passed_by_sql(parameter: inspect.Parameter, faults: Faults) -> bool:
    """Return whether SQL passes a parameter; adds a fault for one that it cannot pass but must."""
    if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
        return True
    if parameter.kind is parameter.VAR_POSITIONAL:
        faults.add(_VARIADIC.format(f"*{parameter.name}"))
    elif parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
        faults.add(f"parameter {parameter.name!r} is keyword-only, but SQL passes by position")
    return False  # a keyword with a default, or **options: for callers in Python


def _callable_fault(function: Any) -> str | None:
    tests: Iterable[tuple[Callable[[Any], bool], str]] = (
        (inspect.iscoroutinefunction, "a coroutine function"),
        (inspect.isasyncgenfunction, "an asynchronous generator"),
    )
    for test, name in tests:
        if test(function):
            return f"is {name}, which a SQL engine cannot await; make it a plain function"
    return None
