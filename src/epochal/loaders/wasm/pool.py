"""The instances of one generation's module, and calls into them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import wasmtime

from epochal.loaders.wasm.guest_store import CallStoppedError
from epochal.loaders.wasm.instance import Instance
from epochal.loaders.wasm.instance_pool import InstancePool
from epochal.loaders.wasm.interface import LIFE
from epochal.loaders.wasm.module_check import check_module, function_fault, required_functions

if TYPE_CHECKING:
    from epochal._core.plugin.manifest import Manifest
    from epochal.loaders.wasm.columns import Frame
    from epochal.loaders.wasm.engine import Code
    from epochal.loaders.wasm.limits import GuestLimits


class Pool(InstancePool[Instance]):
    """The instances of a module; none is made before `open`.

    Args:
        manifest: the plugin's.
        limits: what each instance may use.
    """

    def __init__(self, manifest: Manifest, limits: GuestLimits) -> None:
        super().__init__(manifest, limits)
        self._required: Final = list(required_functions(manifest.exports))

    def _check(self, code: Code) -> frozenset[str]:
        assert isinstance(code, wasmtime.Module)  # a component has another pool
        return check_module(self.plugin, code, stateful=self._is_single)

    def _instantiate(self, code: Code) -> Instance:
        assert isinstance(code, wasmtime.Module)
        instance = Instance(code, self.limits)
        for name, export in self._required:
            fault = instance.look_up(name)
            if fault:
                raise self.refused(function_fault(name, export, fault, self.names))
        for name in LIFE & self.names:
            fault = instance.look_up(name)
            if fault:
                raise self.refused(f"exports {name!r}, which {fault}")
        return instance

    def call(
        self, instance: Instance, function: str, frame: Frame, timeout: float | None = None
    ) -> int:
        """Write the frame and call; returns 0, or a number that asks for something.

        Args:
            instance: from `instance`.
            function: one that `open` has checked.
            frame: its arguments, and the room for its results.
            timeout: seconds; None for the plugin's limit.

        Raises:
            GuestError: it trapped, failed, or is not called now, since it trapped too often.
            MemoryError: the guest's memory has no room for the frame.
        """
        # That a new instance begins well says nothing of the calls that failed.
        is_counted = function not in LIFE
        if is_counted:
            self.begin_call(function)
        frame.write(instance)
        limit = self.limits.call_timeout if timeout is None else timeout
        try:
            number = instance.call(function, frame.arguments_at, frame.results_at, limit)
        except CallStoppedError as error:
            raise self.stopped(instance, function, error) from None
        if is_counted:
            self.end_call()
        if number < 0:
            message = frame.message(instance) or f"error {number}"
            raise self.error(function, f"failed: {message}")
        return number
