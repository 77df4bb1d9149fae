"""pluggy's hooks, with plugins that can be swapped while they are called.

A program built on pluggy changes its plugin manager, and its plugins can be reloaded::

    from epochal.pluggy import PluginManager

    pm = PluginManager("shop", rt)       # instead of pluggy.PluginManager("shop")
    pm.add_hookspecs(specs)
    pm.register(defaults)                # the host's own objects, as ever

    rt.load("plugins/points.py")         # functions marked with @hookimpl, and a manifest
    pm.hook.order_placed(order=order)    # calls the implementations in the current epoch
    rt.reload("points")

Specifications, implementations and markers stay as they are: the markers here are pluggy's own.
Calls are run by pluggy itself. For each epoch there is an *epoch manager*, a pluggy manager with
exactly the functions of that epoch (`_epoch_manager`); the program's manager (`_manager`) gives out
callers that look the current one up once a call (`_hooks`). `docs/hooks.md` is the guide.
"""

try:
    import pluggy as _pluggy
except ImportError as error:
    raise ImportError("epochal.pluggy needs pluggy: pip install 'epochal[pluggy]'") from error

from epochal.pluggy._distributions import entry_point_plugins
from epochal.pluggy._hooks import Caller, Hooks
from epochal.pluggy._manager import PluginManager
from epochal.pluggy._marks import HookimplKind, kind_of

HookimplMarker = _pluggy.HookimplMarker
HookspecMarker = _pluggy.HookspecMarker
HookCallError = _pluggy.HookCallError
PluginValidationError = _pluggy.PluginValidationError

__all__ = [
    "Caller",
    "HookCallError",
    "HookimplKind",
    "HookimplMarker",
    "Hooks",
    "HookspecMarker",
    "PluginManager",
    "PluginValidationError",
    "entry_point_plugins",
    "kind_of",
]
