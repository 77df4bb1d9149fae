"""kedro calls hooks around each node that it runs."""

import sys

sys.runs = []  # the plugin appends to it

from beneath import Program

program = Program("""
import sys
from kedro.framework.hooks import hook_impl

@hook_impl
def before_node_run(node):
    sys.runs.append(("before", node.name, {n}))

@hook_impl
def after_node_run(node, outputs):
    sys.runs.append(("after", node.name, {n}))
""")

from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import node, pipeline
from kedro.runner import SequentialRunner

manager = _create_hook_manager()
program.load()
double = pipeline([node(lambda x: x * 2, "x", "y", name="double")])
for _ in range(10):
    sys.runs.clear()
    SequentialRunner().run(double, DataCatalog({"x": MemoryDataset(21)}), manager)
    assert sys.runs == [("before", "double", program.n), ("after", "double", program.n)]
    program.reload()
print("kedro: 10 reloads, each run with its own hooks")
