"""pluggy's hooks, with plugins that can be swapped while they are called.

A program built on pluggy gains it by changing its plugin manager::

    from epochal.pluggy import PluginManager

    pm = PluginManager("shop", rt)       # instead of pluggy.PluginManager("shop")
    pm.add_hookspecs(specs)
    pm.register(defaults)                # the host's own objects, as ever

    rt.load("plugins/points.py")         # what is marked with @hookimpl, and a manifest
    pm.hook.order_placed(order=order)    # calls whoever is active in the current epoch
    rt.reload("points")

Its specifications and implementations stay as they are, also their markers: those here are pluggy's
own. Its calls are run by pluggy itself: for each epoch there is a `pluggy.PluginManager` with
exactly the functions of that epoch (`_view`), and the manager (`_manager`) hands out callers that
ask for the current one once a call (`_hooks`). `docs/hooks.md` says how to use it.
"""

try:
    import pluggy as _pluggy
except ImportError as error:
    raise ImportError("epochal.pluggy needs pluggy: pip install 'epochal[pluggy]'") from error

from epochal.pluggy._hooks import Caller, Hooks
from epochal.pluggy._manager import PluginManager
from epochal.pluggy._marks import kind_of

HookimplMarker = _pluggy.HookimplMarker
HookspecMarker = _pluggy.HookspecMarker
HookCallError = _pluggy.HookCallError
PluginValidationError = _pluggy.PluginValidationError

__all__ = [
    "Caller",
    "HookCallError",
    "HookimplMarker",
    "Hooks",
    "HookspecMarker",
    "PluginManager",
    "PluginValidationError",
    "kind_of",
]
