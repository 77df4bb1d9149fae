"""Window functions in the engine: one call for each partition, or for each row's frame."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from datafusion.user_defined import WindowEvaluator, WindowUDF

from epochal.kinds.window import window
from epochal.sql.codec_adapters import coded_window
from epochal.sql.conversion import (
    ResultColumn,
    ReturnTypeError,
    complete_rows,
    inputs_of,
    kept,
    received,
    spread,
    typed_fields,
)
from epochal.sql.engine_refs import EngineRef
from epochal.sql.function import Function

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa
    from datafusion import SessionContext

    from epochal._core.generation.epoch import Epoch
    from epochal._core.generation.generation import Generation
    from epochal._core.generation.kind import Export
    from epochal.kinds.signature import Signature
    from epochal.sql.execution import Execution


T = TypeVar("T")


class WindowFunction(Function):
    """One window function of an epoch.

    Attributes:
        by_frame: whether it is called for each row's frame.
    """

    __slots__ = ("_inputs", "_is_coded", "_result", "_vectorized", "by_frame")

    def __init__(self, export: Export, generation: Generation, signature: Signature) -> None:
        super().__init__(export, generation)
        assert signature.returns is not None
        self.by_frame: Final[bool] = export.options["frame"]
        self._inputs: Final = inputs_of(signature.parameters, export.plugin)
        self.takes = typed_fields(self._inputs)
        self._result: Final = ResultColumn(signature.returns)
        self._vectorized: Final[bool] = export.options["vectorized"]
        self._is_coded: Final = signature.has_codec

    def callable_of(self, epoch: Epoch) -> Any:
        """The function; where it has data types, between their codecs."""
        function = super().callable_of(epoch)
        if not self._is_coded:
            return function
        return coded_window(
            function,
            window.signature(epoch.export(self.kind, self.exported)),
            vectorized=self._vectorized,
            by_frame=self.by_frame,
        )

    def install(self, context: SessionContext, execution: Execution) -> None:
        """Put it into a planning context, for this one query."""
        make = execution.track(partial(Evaluator, self, execution))
        context.register_udwf(
            WindowUDF(
                self.name,
                make,
                [one.kind for one in self._inputs],
                self._result.kind,
                "immutable",
            )
        )

    def uninstall(self, context: SessionContext) -> None:
        """Take it out of a planning context again."""
        context.deregister_udwf(self.name)

    # --- what an evaluator does, each run by `Execution.call` with the plugin's function --------

    def partition(self, function: Callable[..., Any], columns: Sequence[pa.Array]) -> pa.Array:
        """A value for each row of a partition."""
        if self._vectorized:
            return self._result.array(function(*columns), len(columns[0]))
        mask = complete_rows(self._inputs, columns)
        if mask is None:
            return self._call(function, columns)
        return spread(self._call(function, kept(columns, mask)), mask)

    def frame(self, function: Callable[..., Any], columns: Sequence[pa.Array]) -> pa.Scalar:
        """The value of the row whose frame this is."""
        if not self._vectorized:
            mask = complete_rows(self._inputs, columns)
            if mask is not None:
                columns = kept(columns, mask)
            columns = [column.to_pylist() for column in columns]
        return self._result.scalar(function(*columns), "returned")

    def inputs(self, columns: Sequence[pa.Array]) -> list[pa.Array]:
        """What the plugin's function gets."""
        return received(self._inputs, columns)

    def _call(self, function: Callable[..., Any], columns: Sequence[pa.Array]) -> pa.Array:
        values = function(*[column.to_pylist() for column in columns])
        if not isinstance(values, (list, tuple)):
            raise ReturnTypeError(f"returned a {type(values).__qualname__}; expected a list")
        if len(values) != len(columns[0]):
            raise ReturnTypeError(f"returned {len(values)} values for {len(columns[0])} rows")
        return self._result.column(list(values))


class Evaluator(WindowEvaluator):
    """What the engine holds of one partition."""

    __slots__ = ("_execution", "_function", "_lent")

    def __init__(self, function: WindowFunction, execution: Execution) -> None:
        self._function: Final = function
        self._execution: Final = execution
        self._lent: EngineRef | None = execution.track(EngineRef())

    def uses_window_frame(self) -> bool:
        """Whether the engine must work out each row's frame."""
        return self._function.by_frame

    def evaluate_all(self, values: list[pa.Array], num_rows: int) -> pa.Array:
        """A value for each row of the partition."""
        return self._call(self._function.partition, values)

    def evaluate(self, values: list[pa.Array], eval_range: tuple[int, int]) -> pa.Scalar:
        """The value of one row, whose frame is the range."""
        start, stop = eval_range
        return self._call(
            self._function.frame, [column.slice(start, stop - start) for column in values]
        )

    def _call(self, work: Callable[..., T], values: Sequence[pa.Array]) -> T:
        function = self._function
        try:
            return self._execution.call(function, function.key, work, function.inputs(values))
        except BaseException:
            self._lent = None  # a traceback may keep this evaluator
            raise
