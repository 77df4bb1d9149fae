"""A generation's modules, made by hand."""

from types import FunctionType, ModuleType, SimpleNamespace

from packaging.requirements import Requirement as Distribution
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from tests.conftest import tool

from epochal._core.generation.generation import Generation
from epochal._core.introspect.origins import Origin
from epochal._core.plugin.candidate import Candidate
from epochal._core.plugin.manifest import Manifest, Requirement
from epochal._core.sync.weak_registry import WeakRegistry


class PluginStub:
    """Stands for a generation where only what it begins matters."""

    def __init__(self):
        self.ids = frozenset()
        self.origin = Origin("geo#0", self.globals_ids)

    def globals_ids(self):
        return self.ids


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


class SourceNamespace(HandMadeNamespace):
    """The namespace of a generation: its one module is made from source when it is executed."""

    def __init__(self, root_name, source, given):
        super().__init__()
        self.root_name, self._source, self._given = root_name, source, given

    def open(self):
        pass

    def execute(self):
        module = self.modules[self.root_name] = ModuleType(self.root_name)
        vars(module).update(self._given)
        exec(self._source, vars(module))
        return module

    def run_exit_hooks(self, failures):
        return []

    def close(self):
        """Do nothing: the module is in no process-wide table."""


def open_namespace(candidate, number, *, in_subprocess=False):
    """A loader for the candidates of `source_candidate`."""
    artifact = candidate.artifact
    return SourceNamespace(f"_{candidate.plugin}_{number}", artifact.source, artifact.given)


LOADERS = {"python": open_namespace}


def source_candidate(plugin, source="", *, version="1.0", requires=(), dependencies=(), **given):
    """A candidate whose code is `source`; the names in `given`, and `tool`, are defined in it."""
    artifact = SimpleNamespace(digest=f"{plugin}-{version}", source=source, language="python")
    artifact.given = {"tool": tool, **given}
    requirements = tuple(Requirement(name, SpecifierSet()) for name in requires)
    manifest = Manifest(
        plugin,
        Version(version),
        requires=requirements,
        dependencies=tuple(Distribution(text) for text in dependencies),
    )
    return Candidate(artifact, manifest, {}, frozenset({"*"}))


def link(candidate, number=0, required=None):
    """A linked generation of a candidate, with its lease.

    Args:
        candidate: the candidate.
        number: the generation's number.
        required: by plugin, the linked generations that it requires.
    """
    generation = Generation(candidate, number, WeakRegistry())
    generation.prepare(open_namespace, required or {})
    generation.link()
    return generation.carry()
