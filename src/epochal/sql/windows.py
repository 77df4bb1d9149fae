"""Window functions in the engine: one call for each partition, or for each row's frame."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from datafusion import SessionContext
from datafusion.user_defined import WindowEvaluator, WindowUDF

from epochal.kinds.window import window
from epochal.sql.codec_adapters import wrap_window
from epochal.sql.conversion import ResultColumn, ReturnTypeError
from epochal.sql.engine_refs import EngineRef
from epochal.sql.function import Function, encode_types

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from epochal import Export, Generation
    from epochal.sql.call_slot import CallSlot
    from epochal.sql.execution import Execution


T = TypeVar("T")


class WindowFunction(Function):
    """One window function of an epoch.

    Attributes:
        by_frame: whether it is called for each row's frame.
    """

    deregister = SessionContext.deregister_udwf

    def __init__(self, export: Export, generation: Generation) -> None:
        signature = window.signature(export)
        super().__init__(export, generation, signature.parameters, has_codec=signature.has_codec)
        assert signature.returns is not None
        self.by_frame: Final[bool] = export.options["frame"]
        self._result: Final = ResultColumn(signature.returns)
        self._vectorized: Final[bool] = export.options["vectorized"]

    def _wrapped(self, function: Any, export: Export) -> Any:
        signature = window.signature(export)
        return wrap_window(function, signature, vectorized=self._vectorized, by_frame=self.by_frame)

    def install(self, context: SessionContext, execution: Execution, _: CallSlot) -> None:
        """Register it in a planning context, for one query."""
        make = execution.track(partial(PartitionEvaluator, self, execution))
        kinds, result = self.parameters.kinds, self._result.kind
        context.register_udwf(WindowUDF(self.name, make, kinds, result, "immutable"))

    def stub(self) -> dict[str, Any]:
        """Its name and types."""
        fields = encode_types([*self.parameters.kinds, self._result.kind])
        return {"kind": "window", "name": self.name, "fields": fields}

    # --- an evaluator's work, which `Execution.call` runs with the plugin's function ------------

    def partition(self, function: Callable[..., Any], columns: Sequence[pa.Array]) -> pa.Array:
        """Compute a value for each row of a partition."""
        if self._vectorized:
            return self._result.array(function(*columns), len(columns[0]))
        return self.parameters.on_complete_rows(columns, partial(self._call, function))

    def frame(self, function: Callable[..., Any], columns: Sequence[pa.Array]) -> pa.Scalar:
        """Compute the value of the row that has this frame."""
        if not self._vectorized:
            columns = self.parameters.drop_incomplete(columns)
            columns = [column.to_pylist() for column in columns]
        return self._result.scalar(function(*columns), "returned")

    def _call(self, function: Callable[..., Any], columns: Sequence[pa.Array]) -> pa.Array:
        values = function(*[column.to_pylist() for column in columns])
        if not isinstance(values, (list, tuple)):
            raise ReturnTypeError(f"returned a {type(values).__qualname__}; expected a list")
        if len(values) != len(columns[0]):
            raise ReturnTypeError(f"returned {len(values)} values for {len(columns[0])} rows")
        return self._result.column(list(values))


class PartitionEvaluator(WindowEvaluator):
    """The engine's object for one partition."""

    __slots__ = ("_execution", "_function", "_ref")

    def __init__(self, function: WindowFunction, execution: Execution) -> None:
        self._function: Final = function
        self._execution: Final = execution
        self._ref: EngineRef | None = execution.track(EngineRef())

    def uses_window_frame(self) -> bool:
        """Whether the engine must compute each row's frame."""
        return self._function.by_frame

    def evaluate_all(self, values: list[pa.Array], num_rows: int) -> pa.Array:
        """Compute a value for each row of the partition."""
        return self._call(self._function.partition, values)

    def evaluate(self, values: list[pa.Array], eval_range: tuple[int, int]) -> pa.Scalar:
        """Compute the value of one row, whose frame is the range."""
        start, stop = eval_range
        return self._call(
            self._function.frame, [column.slice(start, stop - start) for column in values]
        )

    def _call(self, work: Callable[..., T], values: Sequence[pa.Array]) -> T:
        function = self._function
        try:
            columns = function.parameters.received(values)
            return self._execution.call(function, function.key, work, columns)
        except BaseException:
            self._ref = None  # a traceback may keep this evaluator
            raise
