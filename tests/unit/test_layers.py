"""The floors of the house: a module imports its own folder and the floors below, nothing else."""

import ast
import graphlib
import re
from collections import defaultdict
from pathlib import Path

import pytest

import epochal

ROOT = Path(epochal.__file__).parent
REPOSITORY = Path(__file__).parents[2]

# From the ground up. A room is a module or a folder; within a folder, imports make no circle.
FLOORS = [
    {"errors"},
    {"_core.sync"},
    {"_core.introspect"},
    {"_core.plugin"},
    {"_core.use"},
    {"report", "events", "artifact"},
    {"_core.generation"},
    {"_core.change"},
    {"loaders", "kinds", "store", "share"},
    {"worker"},
    {"runtime"},
    {"sql", "jobs", "examples", "watch", "pluggy", "asgi", "pytest_plugin", "tools", "authoring"},
    {"observe", "mcp", "ray", "daft", "spark"},
    {"demo", "server"},
    {"cli"},
]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {
    module_name(path): path
    for path in sorted(ROOT.rglob("*.py"))
    if "demo/plugins" not in path.as_posix() and "templates" not in path.as_posix()
}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def floor_of(name: str) -> int | None:
    for number, rooms in enumerate(FLOORS):
        if any(name == room or name.startswith(f"{room}.") for room in rooms):
            return number
    return None


def room_of(name: str) -> str:
    """The folder or module that stands on a floor, for a module anywhere in it."""
    return next(
        room for rooms in FLOORS for room in rooms if name == room or name.startswith(f"{room}.")
    )


def imports_at_run_time(name: str) -> set[str]:
    """The modules of epochal that a module imports, without those under `if TYPE_CHECKING`."""
    imported: set[str] = set()

    class Visitor(ast.NodeVisitor):
        def visit_If(self, node: ast.If) -> None:
            if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
                self.generic_visit(node)

        def visit_Import(self, node: ast.Import) -> None:
            for alias in node.names:
                if alias.name.split(".")[0] == "epochal":
                    imported.add(alias.name.removeprefix("epochal").removeprefix("."))

        def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
            assert node.level == 0, "imports are absolute"
            if (node.module or "").split(".")[0] != "epochal":
                return
            source = (node.module or "").removeprefix("epochal").removeprefix(".")
            for alias in node.names:
                submodule = f"{source}.{alias.name}".lstrip(".")
                imported.add(submodule if submodule in MODULES else source)

    Visitor().visit(TREES[name])
    return imported


def test_the_scan_sees_the_whole_house():
    assert len(MODULES) >= 180, sorted(MODULES)


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_a_module_imports_downwards_only(name):
    if name == "_core":
        return
    floor = floor_of(name)
    assert floor is not None, f"{name} stands on no floor: add it to FLOORS"
    for target in imports_at_run_time(name):
        if not target:  # the public front door, which stands on the runtime
            assert floor > FLOORS.index({"runtime"}), f"{name} imports the root package"
            continue
        below = floor_of(target)
        assert below is not None, (name, target)
        assert room_of(target) == room_of(name) or below < floor, f"{name} imports {target}"


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_a_module_does_not_import_the_root_of_its_own_package(name):
    if MODULES[name].name in {"__init__.py", "__main__.py"}:
        return
    own = name.rpartition(".")[0]
    assert not own or own not in imports_at_run_time(name)


def test_imports_make_no_circle():
    graph = {name: imports_at_run_time(name) - {name} for name in MODULES}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert set(order) >= set(graph)


def test_no_class_name_stands_twice():
    places = defaultdict(list)
    for name, tree in TREES.items():
        if name.startswith("examples."):
            continue  # plugins, named as their authors would name them
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(name)
    assert len(places) >= 250
    assert not {name: where for name, where in places.items() if len(where) > 1}


def test_no_file_name_stands_twice_in_neighbouring_folders():
    """Two folders of one parent share no file name, so that a name alone says which file it is."""
    stems: dict[Path, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in MODULES.values():
        if path.name not in {"__init__.py", "__main__.py"} and path.parent != ROOT:
            stems[path.parent.parent][path.stem].append(path.parent.name)
    assert sum(map(len, stems.values())) >= 150
    assert not [
        (stem, folders)
        for neighbours in stems.values()
        for stem, folders in neighbours.items()
        if len(folders) > 1
    ]


# The rooms that may look into `_core`, beside `_core` itself and the public modules made of it.
MAY_IMPORT_THE_CORE = {
    "artifact", "errors", "events", "kinds", "loaders", "report", "runtime", "share", "store",
    "worker",
}  # fmt: skip


def core_imports(source: str) -> list[str]:
    return re.findall(r"(?:from|import) (epochal\._core[\w.]*)", source)


def test_only_named_places_import_the_core():
    hosts = {"sql", "jobs", "watch", "pluggy", "asgi", "observe", "tools", ""}
    looking_in = defaultdict(set)
    for name, path in MODULES.items():
        top = name.split(".")[0]
        if top in {"_core", *MAY_IMPORT_THE_CORE}:
            continue
        if core_imports(path.read_text()):
            looking_in[top].add(name)
    assert set(looking_in) <= hosts, looking_in
    assert {host: names for host, names in looking_in.items() if host} == HOSTS_LOOK_INTO_THE_CORE


HOSTS_LOOK_INTO_THE_CORE = {
    # They start their threads, wait for them and retry as the core does.
    "jobs": {
        *("jobs", "jobs.clock_monitor", "jobs.flow", "jobs.job_state", "jobs.job_table"),
        *("jobs.positions", "jobs.runner", "jobs.status", "jobs.streams", "jobs.timer"),
    },
    "pluggy": {"pluggy._manager", "pluggy._marks"},
    "sql": {
        "sql.database",
        "sql.engine_refs",
        "sql.off_thread",
        "sql.planning",
        "sql.planning_threads",
        "sql.read_ahead",
    },
    "tools": {"tools.tool_run"},
    "watch": {"watch.snapshot", "watch.source_choice", "watch.watcher"},
}


def test_documents_examples_and_benchmarks_use_public_names():
    scanned = 0
    for folder in ("docs", "conformance", "src/epochal/examples", "src/epochal/demo"):
        for path in (REPOSITORY / folder).rglob("*"):
            if path.suffix in {".py", ".md"} and path.name != "architecture.md":
                scanned += 1
                assert not core_imports(path.read_text()), path
    assert scanned >= 40


# Imported inside functions alone, where a plugin or an engine has imported pyarrow before:
# `test_kinds_need_no_engine` sees that the kinds do without.
NEED_ARROW = {"kinds.arrow", "kinds.extension"}


# Imported under `if TYPE_CHECKING` alone: every type checker brings it.
NEED_TYPING_EXTENSIONS = {"_core.generation.kind", "kinds.contract_kind"}


# Imported inside functions alone, for plugins with tools.
NEED_PYDANTIC = {"kinds.tool_contract"}


def test_the_core_needs_the_standard_library_and_packaging_alone():
    import sys

    scanned = 0
    for name, tree in TREES.items():
        if not name.startswith(
            (
                "_core",
                "errors",
                "events",
                "report",
                "artifact",
                "runtime",
                "loaders",
                "kinds",
                "store",
            )
        ):
            continue
        scanned += 1
        for node in ast.walk(tree):
            tops = []
            if isinstance(node, ast.Import):
                tops = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                tops = [(node.module or "").split(".")[0]]
            for top in tops:
                if top == "pyarrow" and name in NEED_ARROW:
                    continue
                if top in {"pydantic", "pydantic_core"} and name in NEED_PYDANTIC:
                    continue
                if top in {"pyarrow", "wasmtime"} and name.startswith("loaders.wasm."):
                    continue  # imported for the first plugin that is WebAssembly
                if top == "typing_extensions" and name in NEED_TYPING_EXTENSIONS:
                    continue
                assert top in sys.stdlib_module_names | {"epochal", "packaging"}, (name, top)
    assert scanned >= 80


def test_built_in_kinds_use_nothing_that_a_hosts_kind_cannot():
    """What they take from the core is exported for everybody, or says nothing about plugins."""
    from epochal.kinds import toolkit

    public = {*epochal.__all__, *toolkit.__all__, "Admission"}
    plain = {
        *("_core.introspect.callables", "_core.introspect.tracebacks"),
        *("_core.sync.durable_files", "_core.sync.file_lock", "_core.sync.threads"),
    }
    taken = set()
    for name, tree in TREES.items():
        if not name.startswith("kinds") or name == "kinds.toolkit":
            continue
        for node in ast.walk(tree):
            module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            room = module.removeprefix("epochal.")
            if room.startswith("_core") and room not in plain:
                taken |= {(name, alias.name) for alias in node.names}
    assert {name for _, name in taken} >= {"Kind", "carry", "Gate"}
    assert not {(name, symbol) for name, symbol in taken if symbol not in public}
