"""The exports of one generation's module, for its host's end to call (`host_end`).

A parameter that is not declared as nullable never gets a null: such rows are left out of the batch
and are null in the result. A batch for which the guest's memory has no room is called in halves.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from epochal._core.plugin.declared_exports import DeclaredColumn
from epochal.errors import GuestTimeoutError
from epochal.loaders.wasm.any_guest import AnyGuest, entry_point
from epochal.loaders.wasm.columns import BadResultError, Frame, layout_of, text_room
from epochal.loaders.wasm.interface import EXPORT_STATE, IMPORT_STATE, INIT, SHUTDOWN
from epochal.loaders.wasm.pool import Pool
from epochal.loaders.wasm.scalars import as_arrays, complete_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from epochal._core.generation.context import PluginContext
    from epochal._core.plugin.declared_exports import DeclaredExport
    from epochal._core.plugin.manifest import Manifest
    from epochal.errors import GuestError
    from epochal.loaders._kept_code import KeptCode
    from epochal.loaders.wasm.instance import Instance
    from epochal.loaders.wasm.limits import GuestLimits

_MORE: Final = 1
"""The number by which a table function says that there are more rows."""
_TABLE_ROWS: Final = 8192
_TABLE_TEXT: Final = 32 * _TABLE_ROWS
_BATCH_COST: Final = 64
"""Counted for each batch of a table, so that one that returns no rows for ever ends."""
_MOST_TRIES: Final = 4
_SMALL: Final = 1024
_STATE: Final = DeclaredColumn("the state", "binary", nullable=False)


class Guest(AnyGuest[Pool]):
    """The WebAssembly of one generation; nothing of it runs before `open`.

    Args:
        manifest: the plugin's.
        content: the module.
        limits: what each instance may use.
        kept: where the store keeps compiled code; None for no store.
    """

    def __init__(
        self, manifest: Manifest, content: bytes, limits: GuestLimits, kept: KeptCode | None
    ) -> None:
        super().__init__(Pool(manifest, limits), manifest.exports, content, kept)
        self._requires: Final = tuple(one.plugin for one in manifest.requires)

    # --- the plugin's life ---------------------------------------------------------------------

    def init(self, ctx: PluginContext) -> None:
        """Call `epochal_init` in each instance, with the configuration and the generation.

        Raises:
            EntryPointError: it trapped, or refused.
        """
        config, own = json.dumps(dict(ctx.config)), f"{ctx.version}#{ctx.generation}"
        linked = [ctx.linked[plugin] for plugin in self._requires]
        arguments = [_text(config), _text(own), pa.array(linked, pa.utf8())]
        with entry_point():
            self._pool.begin_with(lambda instance: self._run(instance, INIT, arguments))

    def shutdown(self) -> None:
        """Call `epochal_shutdown` in each instance.

        Raises:
            EntryPointError: it trapped in one; the others were called.
        """
        with entry_point():
            self._pool.end_with(lambda instance: self._run(instance, SHUTDOWN, []))

    def export_state(self) -> bytes:
        """Call `epochal_export_state`.

        Raises:
            EntryPointError: it trapped, refused, or returned no state.
        """
        with entry_point(), self._called(EXPORT_STATE) as instance:
            (state,) = self._ask(instance, EXPORT_STATE, [], [_STATE], 1, _SMALL)
        return bytes(state[0].as_py())

    def import_state(self, state: bytes, version: str) -> None:
        """Call `epochal_import_state` with the state and the version that exported it.

        Raises:
            EntryPointError: it trapped, or refused.
        """
        with entry_point(), self._called(IMPORT_STATE) as instance:
            self._run(instance, IMPORT_STATE, [_bytes(state), _text(version)])

    # --- scalars -------------------------------------------------------------------------------

    def _batch(self, export: DeclaredExport, arrays: list[pa.Array], rows: int) -> pa.Array:
        layout = layout_of(export.results[0].type)
        if rows == 0:
            return pa.array([], layout.arrow)
        room = text_room(arrays, rows) if layout.has_offsets else 0
        try:
            with self._pool.instance() as instance:
                return self._ask(instance, export.name, arrays, export.results, rows, room)[0]
        except MemoryError:
            if rows == 1 or not arrays:
                raise self._has_no_room(export.name) from None
        half = rows // 2
        parts = ((0, half), (half, rows - half))
        results = [self._batch(export, [a.slice(*part) for a in arrays], part[1]) for part in parts]
        return pa.concat_arrays(results)

    # --- aggregates ----------------------------------------------------------------------------

    def update(self, name: str, state: bytes, given: Sequence[Any]) -> bytes:
        """Add rows to an aggregate's state; rows with a null that is not wanted are left out."""
        export = self._exports[name]
        _, arrays = as_arrays(export, given)
        mask = complete_rows(export, arrays)
        if mask is not None:
            arrays = [array.filter(mask) for array in arrays]
        if arrays and len(arrays[0]) == 0:
            return state
        return self._on_state(export, "update", state, arrays)

    def merge(self, name: str, state: bytes, other: bytes) -> bytes:
        """Merge the state of another part of a group into an aggregate's state."""
        return self._on_state(self._exports[name], "merge", state, [_bytes(other)])

    def _on_state(
        self, export: DeclaredExport, part: str, state: bytes, arrays: Sequence[pa.Array]
    ) -> bytes:
        """Call a function that changes a state in place, or returns the next one."""
        function, arguments = f"{export.name}_{part}", [_bytes(state), *arrays]
        with self._called(function) as instance:
            if export.state is None:
                room = _SMALL + 2 * len(state)
                (made,) = self._ask(instance, function, arguments, [_STATE], 1, room)
                return bytes(made[0].as_py())
            return self._run(instance, function, arguments).argument_bytes(instance, 0)

    def evaluate(self, name: str, state: bytes) -> Any:
        """The result of an aggregate's state."""
        function, results = f"{name}_evaluate", self._exports[name].results
        with self._called(function) as instance:
            (result,) = self._ask(instance, function, [_bytes(state)], results, 1, _SMALL)
        return result[0].as_py()

    def initial_state(self, name: str) -> bytes:
        """The state of a group without rows: zeros; nothing, for one of any length."""
        return bytes(self._exports[name].state or 0)

    def checked_state(self, name: str, state: bytes) -> bytes:
        """An aggregate's state that comes back from elsewhere.

        Raises:
            ValueError: it has another size: that of another version, for example.
        """
        size = self._exports[name].state
        if size is not None and len(state) != size:
            raise ValueError(f"a state of {name} has {size} bytes, not {len(state)}")
        return state

    # --- tables --------------------------------------------------------------------------------

    def table(self, name: str, given: Sequence[Any]) -> pa.Table:
        """Call a table function until it has no more rows.

        Raises:
            GuestError: as `call`; or it took more memory or time than it has.
            ValueError: an argument is null that must not be.
        """
        export = self._exports[name]
        _, arrays = as_arrays(export, given)
        for column, array in zip(export.parameters, arrays, strict=True):
            if array.null_count and not column.nullable:
                raise ValueError(f"{column.name} of {name} must not be null")
        fields = [pa.field(c.name, layout_of(c.type).arrow, c.nullable) for c in export.results]
        schema = pa.schema(fields)
        with self._called(name) as instance:
            return pa.Table.from_batches(self._batches(instance, export, arrays, schema), schema)

    def _batches(
        self,
        instance: Instance,
        export: DeclaredExport,
        arrays: Sequence[pa.Array],
        schema: pa.Schema,
    ) -> Iterator[pa.RecordBatch]:
        state, room = bytes(export.state or 0), _TABLE_TEXT
        left = self._pool.limits.max_memory
        deadline = monotonic() + self._pool.limits.call_timeout
        number = _MORE
        while number != 0:
            left_s = deadline - monotonic()
            if left_s <= 0:
                message = f"had more rows after {self._pool.limits.call_timeout:g} s"
                raise GuestTimeoutError(message, plugin=self._pool.plugin, function=export.name)
            frame = Frame([_bytes(state), *arrays], export.results, _TABLE_ROWS, room)
            number = self._pool.call(instance, export.name, frame, left_s)
            if number > _MORE:
                room = self._more_room(instance, export.name, number, room)
                continue
            batch = pa.RecordBatch.from_arrays(
                self._results(instance, export.name, frame, None), schema=schema
            )
            state = frame.argument_bytes(instance, 0)
            left -= batch.nbytes + _BATCH_COST
            if left < 0:
                limit = f"{self._pool.limits.max_memory:,} bytes, its max_memory"
                raise self._pool.error(export.name, f"returned rows of more than {limit}")
            yield batch

    # --- one call ------------------------------------------------------------------------------

    @contextmanager
    def _called(self, function: str) -> Iterator[Instance]:
        try:
            with self._pool.instance() as instance:
                yield instance
        except MemoryError:
            raise self._has_no_room(function) from None

    def _run(self, instance: Instance, function: str, arguments: Sequence[pa.Array]) -> Frame:
        """Call a function that has no result but, perhaps, an error; returns its frame."""
        frame = Frame(arguments, [_STATE], 1, _SMALL)
        number = self._pool.call(instance, function, frame)
        if number != 0:
            raise self._pool.broken(instance, function, f"returned {number}; expected 0")
        return frame

    def _ask(
        self,
        instance: Instance,
        function: str,
        arguments: Sequence[pa.Array],
        results: Sequence[DeclaredColumn],
        rows: int,
        room: int,
    ) -> list[pa.Array]:
        """Call a function, again with more room if it asks for that; returns its results."""
        for _ in range(_MOST_TRIES):
            frame = Frame(arguments, results, rows, room)
            number = self._pool.call(instance, function, frame)
            if number == 0:
                return self._results(instance, function, frame, rows)
            room = self._more_room(instance, function, number, room)
        raise self._pool.broken(instance, function, "asked for more room again and again")

    def _more_room(self, instance: Instance, function: str, number: int, room: int) -> int:
        if not room < number <= self._pool.limits.max_memory:
            raise self._pool.broken(
                instance,
                function,
                f"asked for room of {number:,} bytes and had {room:,}; expected more than that, "
                f"and at most {self._pool.limits.max_memory:,}, its max_memory",
            )
        return number

    def _results(
        self, instance: Instance, function: str, frame: Frame, rows: int | None
    ) -> list[pa.Array]:
        try:
            return frame.results(instance, rows)
        except BadResultError as error:
            raise self._pool.broken(instance, function, f"returned bad data: {error}") from None

    def _has_no_room(self, function: str) -> GuestError:
        return self._pool.error(
            function,
            f"has no room for its arguments: it may use {self._pool.limits.max_memory:,} bytes, or "
            "what its module says; the host grants another limit with max_memory:…",
        )


def _bytes(content: bytes) -> pa.Array:
    return pa.array([content], pa.binary())


def _text(content: str) -> pa.Array:
    return pa.array([content], pa.utf8())
