"""What the benchmarks import of the library exists: nothing else runs them between two releases."""

import ast
import importlib
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_of_the_library_exists(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("epochal"):
            try:
                module = importlib.import_module(node.module)
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")
            except ImportError as error:  # an extra that is not installed: ours has that as cause
                missing = error.__cause__ or error
                if not isinstance(missing, ModuleNotFoundError):
                    raise
                if (missing.name or "").startswith("epochal"):
                    raise
