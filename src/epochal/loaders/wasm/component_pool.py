"""The instances of one generation's component, and calls into them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from wasmtime.component import Component

from epochal.loaders.wasm.component_check import ComponentCheck
from epochal.loaders.wasm.component_instance import ComponentInstance, GuestRefusedError, time_left
from epochal.loaders.wasm.component_world import LIFECYCLE, REGISTER, STATE
from epochal.loaders.wasm.engine import engine
from epochal.loaders.wasm.guest_store import CallStoppedError
from epochal.loaders.wasm.host_imports import HostImports
from epochal.loaders.wasm.instance_pool import InstancePool

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wasmtime.component import Linker

    from epochal._core.plugin.candidate import Candidate
    from epochal.loaders.wasm.engine import Code
    from epochal.loaders.wasm.host_imports import KeyValues
    from epochal.loaders.wasm.limits import GuestLimits


class ComponentPool(InstancePool[ComponentInstance]):
    """The instances of a component; none is made before `open`.

    Args:
        candidate: the plugin.
        limits: what each instance may use.

    Attributes:
        values: what its instances share; None if it does not import `state`.
    """

    def __init__(self, candidate: Candidate, limits: GuestLimits) -> None:
        super().__init__(candidate.manifest, limits)
        self._candidate: Final = candidate
        self._scalars: Final = [export.name for export in candidate.manifest.exports]
        self._linker: Linker | None = None
        self.values: KeyValues | None = None

    def _check(self, code: Code) -> frozenset[str]:
        assert isinstance(code, Component)  # a module has another pool
        check = ComponentCheck(self._candidate, code)
        host = HostImports(self._candidate, self.limits.max_memory, time_left)
        self._linker = host.linker(engine(), check.imports, has_wasi=check.has_wasi)
        self.values = host.values if STATE in check.imports else None
        return check.names

    def _instantiate(self, code: Code) -> ComponentInstance:
        assert isinstance(code, Component)
        assert self._linker is not None
        instance = ComponentInstance(code, self._linker, self._scalars, self.limits)
        try:
            instance.call(f"{LIFECYCLE}.{REGISTER}", [()])
        except GuestRefusedError as error:
            instance.close()
            raise self.refused(f"refused to register: {error}") from None
        except BaseException:
            instance.close()
            raise
        return instance

    def call(
        self, instance: ComponentInstance, function: str, rows: Iterable[Sequence[Any]]
    ) -> list[Any]:
        """Call a function with each row; returns the results.

        Args:
            instance: from `instance`.
            function: a scalar's name; or an interface's and its function's.
            rows: the arguments.

        Raises:
            GuestError: it trapped, failed, or is not called now, since it trapped too often.
        """
        shown = function.rpartition(".")[2]
        # That a new instance begins well says nothing of the calls that failed.
        is_counted = shown == function
        if is_counted:
            self.begin_call(shown)
        try:
            results = instance.call(function, rows)
        except CallStoppedError as error:
            raise self.stopped(instance, shown, error) from None
        except GuestRefusedError as error:
            if is_counted:
                self.end_call()
            raise self.error(shown, f"failed: {error}") from None
        if is_counted:
            self.end_call()
        return results
