"""hatch's back end collects its builders each time that it looks one up."""

from beneath import Program

program = Program("""
from hatchling.builders.plugin.interface import BuilderInterface
from hatchling.plugin import hookimpl

class Echo(BuilderInterface):
    PLUGIN_NAME = "echo"
    VERSION = {n}

@hookimpl
def hatch_register_builder():
    return Echo
""")

from hatchling.plugin.manager import PluginManager

manager = PluginManager()
program.load()
for _ in range(10):
    assert program.n == manager.builder.get("echo").VERSION
    program.reload()
print("hatch: 10 reloads, each with its own builder")
