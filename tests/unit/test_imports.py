"""What is imported, and so paid for, by those who do not use it: a list, not a time."""

import subprocess
import sys

ENGINE = {"datafusion", "numpy", "pyarrow"}
SERVER = {"httptools", "httpx", "msgspec", "prometheus_client", "starlette", "uvicorn"}
LATER = {
    *("asyncio", "email", "importlib.metadata", "sqlite3", "ssl", "subprocess"),
    *("cronsim", "packaging.requirements", "pluggy", "watchfiles"),
}
"""Of the standard library and others; what a use of them imports when it comes to it."""

HELP = 'import contextlib, io\nfrom epochal.cli import main\nmain(["--help"])'


def imported_by(code: str, before: str = "") -> set[str]:
    """The modules that a new process imports for some code, and not for the code before it."""
    program = f"{before}\nimport sys\nbefore = set(sys.modules)\n{code}\n"
    program += "print('imported:', *sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.splitlines()[-1].removeprefix("imported: ").split())


def ours(modules: set[str]) -> set[str]:
    return {name for name in modules if name.partition(".")[0] == "epochal"}


def test_the_package_imports_no_part_of_itself():
    imported = imported_by("import epochal")
    assert ours(imported) == {"epochal"}
    assert not imported & (ENGINE | SERVER | LATER | {"dataclasses", "inspect", "threading"})


def test_the_pytest_plugin_imports_nothing_but_the_package():
    imported = imported_by("import epochal.pytest_plugin", before="import gc, typing, pytest")
    assert imported == {"epochal", "epochal.pytest_plugin"}


def test_a_runtime_imports_what_a_change_needs_and_nothing_else():
    imported = imported_by("from epochal import Runtime\nRuntime().close()")
    assert "epochal.runtime" in imported
    assert not imported & (ENGINE | SERVER | LATER)
    rooms = {name.split(".")[1] for name in ours(imported) if "." in name}
    assert not rooms & {"cli", "jobs", "kinds", "observe", "pluggy", "server", "sql", "watch"}


def test_the_help_imports_no_engine_no_runtime_and_no_client():
    imported = imported_by(HELP)
    assert "epochal.cli.root" in imported
    assert not imported & (
        ENGINE | SERVER | {"asyncio", "email", "sqlite3", "ssl", "tarfile", "tomllib"}
    )
    rooms = {name.split(".")[1] for name in ours(imported) if "." in name}
    assert rooms <= {"cli", "errors"}


def test_commands_that_query_nothing_import_no_engine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "geo.py").write_text('# /// plugin\n# id = "geo"\n# version = "1"\n# ///\n')
    imported = imported_by(
        "from epochal.cli import main\n"
        "calls = ['new', 'units'], ['check', 'geo.py'], ['plan', '--load', 'geo.py']\n"
        "assert [*map(main, calls)] == [0, 0, 0]\n"
        "assert main(['status', '--server', 'http://127.0.0.1:9']) == 1\n"
    )
    assert {"epochal.runtime", "httpx"} <= imported
    assert not imported & ENGINE


def test_the_package_offers_its_modules_and_names_without_a_look_at_them():
    imported = imported_by(
        "import epochal\n"
        "assert {*epochal.__all__, 'errors', 'runtime'} <= set(dir(epochal))\n"
        "assert not hasattr(epochal, 'nothing')"
    )
    assert ours(imported) == {"epochal"}
