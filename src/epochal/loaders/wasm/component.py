"""The exports of one generation's component, for its host's end to call (`host_end`).

A component gets values, not columns: its functions are called once for each row.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from epochal.loaders.wasm.any_guest import AnyGuest, EntryPointError, entry_point
from epochal.loaders.wasm.columns import layout_of
from epochal.loaders.wasm.component_pool import ComponentPool
from epochal.loaders.wasm.component_world import HANDOVER, LIFECYCLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from epochal._core.generation.context import PluginContext
    from epochal._core.plugin.candidate import Candidate
    from epochal._core.plugin.declared_exports import DeclaredExport
    from epochal.loaders._kept_code import KeptCode
    from epochal.loaders.wasm.component_instance import ComponentInstance
    from epochal.loaders.wasm.limits import GuestLimits

_VALUES: Final = "values"
_OWN: Final = "own"


class ComponentGuest(AnyGuest[ComponentPool]):
    """The component of one generation; nothing of it runs before `open`.

    Args:
        candidate: the plugin.
        content: the component.
        limits: what each instance may use.
        kept: where the store keeps compiled code; None for no store.
    """

    def __init__(
        self, candidate: Candidate, content: bytes, limits: GuestLimits, kept: KeptCode | None
    ) -> None:
        pool = ComponentPool(candidate, limits)
        super().__init__(pool, candidate.manifest.exports, content, kept)

    def init(self, ctx: PluginContext) -> None:
        """Call `init` in each instance, with the configuration as JSON.

        Raises:
            EntryPointError: it trapped, or refused.
        """
        row = (json.dumps(dict(ctx.config)),)
        with entry_point():
            self._pool.begin_with(
                lambda instance: self._pool.call(instance, f"{LIFECYCLE}.init", [row])
            )

    def shutdown(self) -> None:
        """Call `shutdown` in each instance.

        Raises:
            EntryPointError: it trapped in one; the others were called.
        """
        with entry_point():
            self._pool.end_with(
                lambda instance: self._pool.call(instance, f"{LIFECYCLE}.shutdown", [()])
            )

    def export_state(self) -> Any:
        """The state of its own; with that which the host keeps for it, if it does.

        Raises:
            EntryPointError: `export-state` trapped, or refused.
        """
        with entry_point(), self._pool.instance() as instance:
            own = self._own_state(instance)
        values = self._pool.values
        return own if values is None else {_VALUES: values.copy(), _OWN: own}

    def _own_state(self, instance: ComponentInstance) -> bytes:
        function = f"{HANDOVER}.export-state"
        if not instance.has(function):
            return b""
        return bytes(self._pool.call(instance, function, [()])[0])

    def import_state(self, state: Any, version: str) -> None:
        """Take over what another version exported.

        Raises:
            EntryPointError: `import-state` trapped, or refused; or it is no state of a component,
                or has values for which this version does not import `state`.
        """
        values: Mapping[str, bytes] = {}
        if isinstance(state, dict) and state.keys() == {_VALUES, _OWN}:
            values, state = state[_VALUES], state[_OWN]
        if not isinstance(state, bytes):
            raise EntryPointError(f"the state is a {type(state).__name__}; expected bytes")
        if values and self._pool.values is None:
            raise EntryPointError("the state has values of `state`, which it does not import")
        with entry_point(), self._pool.instance() as instance:
            function = f"{HANDOVER}.import-state"
            if instance.has(function):
                self._pool.call(instance, function, [(state, version)])
            elif state:
                raise EntryPointError(f"there is a state, and it does not export {HANDOVER}")
        if self._pool.values is not None:
            self._pool.values.replace(values)

    def _batch(self, export: DeclaredExport, arrays: list[pa.Array], rows: int) -> pa.Array:
        columns = [array.to_pylist() for array in arrays]
        given = zip(*columns, strict=True) if columns else iter([()] * rows)
        with self._pool.instance() as instance:
            results = self._pool.call(instance, export.name, given)
        return pa.array(results, layout_of(export.results[0].type).arrow)
