"""The floors of the house: a module imports lower floors and its own folder, nothing else."""

import ast
from pathlib import Path

import pytest

import epochal

ROOT = Path(epochal.__file__).parent

# From the ground up. A folder with several floors lists its files.
FLOORS = [
    {"errors"},
    {
        "_core.live",
        "_core.threads",
        "_core.capabilities",
        "_core.report",
        "_core.disk",
        "_core.gate",
        "_core.collector",
        "_core.stacks",
    },
    {
        "_core.host_caches",
        "_core.stragglers",
        "_core.watchdog",
        "_core.artifact",
        "_core.blame",
        "_core.turn",
    },
    {"_core.bare_threads", "_core.resources"},
    {"_core.lease", "_core.referrers", "_core.manifest"},
    {"_core.graph", "_core.footprint", "_core.folder"},
    {"_core.carry", "_core.reclaim", "_core.candidate", "_core.distributions"},
    {"_core.holders", "_core.handle"},
    {"_core.kind"},
    {"_core.exports", "_core.context", "_core.handover"},
    {"_core.lifecycle"},
    {"_core.events", "_core.phase", "_core.journal"},
    {"_core.generation"},
    {"_core.epoch"},
    {"_core.operation", "_core.plan", "_core.retire", "_core.party"},
    {"_core.request", "_core.staging"},
    {"_core.change"},
    {"_core.transaction"},
    {"_core.changes"},
    {"loaders", "kinds", "observe", "store"},
    {"runtime"},
    {"sql", "jobs", "examples", "watch", "pluggy", "asgi", "pytest_plugin", "otel"},
    {"demo", "server"},
    {"cli"},
]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def floor_of(name: str) -> int | None:
    for number, rooms in enumerate(FLOORS):
        if any(name == room or name.startswith(f"{room}.") for room in rooms):
            return number
    return None


def imports_at_run_time(tree: ast.Module) -> set[str]:
    """Absolute imports of epochal's own modules, without those under `if TYPE_CHECKING`."""
    found: set[str] = set()

    class Visitor(ast.NodeVisitor):
        def visit_If(self, node: ast.If) -> None:
            if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
                self.generic_visit(node)

        def visit_Import(self, node: ast.Import) -> None:
            found.update(alias.name for alias in node.names)

        def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
            assert node.level == 0, "imports are absolute"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)

    Visitor().visit(tree)
    return {name for name in found if name == "epochal" or name.startswith("epochal.")}


MODULES = {
    module_name(path): path
    for path in sorted(ROOT.rglob("*.py"))
    if "demo/plugins" not in path.as_posix() and "templates" not in path.as_posix()
}


def test_the_scan_sees_the_whole_house():
    assert len(MODULES) >= 35, sorted(MODULES)


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_a_module_imports_downwards_only(name):
    floor = floor_of(name)
    assert floor is not None, f"{name} stands on no floor: add it to FLOORS"
    for imported in imports_at_run_time(ast.parse(MODULES[name].read_text())):
        target = imported.removeprefix("epochal").removeprefix(".")
        assert target or imported != "epochal", f"{name} imports the root package"
        if target not in MODULES and floor_of(target) is None:
            continue  # a name inside a module, which is itself in the set
        same_folder = target.split(".")[0] == name.split(".")[0] != "_core"
        below = floor_of(target)
        assert same_folder or (below is not None and below < floor), f"{name} imports {imported}"


# Imported inside functions alone, where a plugin or an engine has imported pyarrow before:
# `test_kinds_need_no_engine` sees that the kinds do without.
NEED_ARROW = {"kinds.arrow", "kinds.extension"}


def test_the_core_needs_the_standard_library_and_packaging_alone():
    import sys

    scanned = 0
    for name, path in MODULES.items():
        if not name.startswith(
            ("_core", "errors", "runtime", "loaders", "kinds", "observe", "store")
        ):
            continue
        scanned += 1
        for node in ast.walk(ast.parse(path.read_text())):
            tops = []
            if isinstance(node, ast.Import):
                tops = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                tops = [(node.module or "").split(".")[0]]
            for top in tops:
                if top == "pyarrow" and name in NEED_ARROW:
                    continue
                assert top in sys.stdlib_module_names | {"epochal", "packaging"}, (name, top)
    assert scanned >= 25


def test_built_in_kinds_use_nothing_that_a_hosts_kind_cannot():
    """What they take from the core is exported for everybody, or says nothing about plugins."""
    from epochal.kinds import building

    public = {*epochal.__all__, *building.__all__, "Visit"}
    plain = {"_core.blame", "_core.disk"}  # words for errors, files on a disk
    taken = set()
    for name, path in MODULES.items():
        if not name.startswith("kinds") or name == "kinds.building":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            room = module.removeprefix("epochal.")
            if room.startswith("_core") and room not in plain:
                taken |= {(name, alias.name) for alias in node.names}
    assert {name for _, name in taken} >= {"Kind", "carry", "Gate"}
    assert not {(name, one) for name, one in taken if one not in public}
