"""A generation's modules, made by hand."""

from types import FunctionType, ModuleType, SimpleNamespace

from packaging.version import Version

from epochal._core.plugin.manifest import Manifest


class HandMadeNamespace:
    """Modules from source text; an object is the plugin's if its module is one of them."""

    def __init__(self, **sources):
        self.modules = {}
        for name, source in sources.items():
            module = self.modules[name] = ModuleType(name)
            exec(source, vars(module))

    @property
    def root(self):
        return next(iter(self.modules.values()))

    def owns(self, obj):
        if isinstance(obj, FunctionType):
            return any(obj.__globals__ is vars(module) for module in self.modules.values())
        return getattr(obj, "__module__", None) in self.modules


def candidate(plugin="geo", *, capabilities=None, grants=frozenset({"*"})):
    manifest = Manifest(plugin, Version("1.0"), capabilities=capabilities)
    return SimpleNamespace(plugin=plugin, manifest=manifest, grants=grants)
