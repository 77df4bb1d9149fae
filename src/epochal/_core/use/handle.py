"""A handle: the view that an epoch gives of an instance that a kind opened.

The instance belongs to its generation, which closes it; so it cannot itself hold the lease that
keeps the generation. A handle holds both, and its methods carry the lease on: a call inside one of
the instance's methods, and an object that keeps one, count as use of the generation.
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

from epochal._core.use.lease import carry

if TYPE_CHECKING:
    from epochal._core.use.lease import Lease, RevocableLease


class Handle:
    """The public attributes of an instance; its methods carry the lease of its generation.

    A method's carrier is made once, at its first use, and kept here (two threads that do so at once
    make two, of which one is kept). Other attributes are read each time. None can be set: the
    instance and the other handles would not see it.
    """

    _instance: Any
    _lease: Lease | RevocableLease

    def __init__(self, instance: Any, lease: Lease | RevocableLease) -> None:
        self.__dict__.update(_instance=instance, _lease=lease)

    def __getattr__(self, name: str) -> Any:
        # Called for names that are not in `__dict__` only: carriers made before are found there.
        if name.startswith("_"):
            raise AttributeError(f"{name!r} of {self!r} is not public")
        value = getattr(self._instance, name)
        if not callable(value):
            return value
        carried = carry(value, self._lease)
        if isinstance(value, MethodType) and value.__self__ is self._instance:
            self.__dict__[name] = carried
        return carried

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse, with the way that works."""
        raise AttributeError(f"{name!r} of {self!r} cannot be set; call a method that sets it")

    def __call__(self, *args: Any, **kw: Any) -> Any:
        """Call the instance itself."""
        return carry(self._instance, self._lease)(*args, **kw)

    def __repr__(self) -> str:
        return f"<handle of a {type(self._instance).__qualname__}>"
