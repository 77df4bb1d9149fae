"""tox asks its plugins for environments in each run.

tox unregisters every plugin as a run begins, and registers its own again. The runtime's come and go
with the runtime, so this manager leaves them alone.
"""

import contextlib
import io
import tempfile
from pathlib import Path

from beneath import Program

program = Program("""
from tox.plugin import impl

@impl
def tox_extend_envs():
    return ("echo{n}",)
""")

import pluggy


class Manager(pluggy.PluginManager):
    """The runtime's plugins are not tox's to unregister."""

    def unregister(self, plugin=None, name=None):
        """Unregister an object of tox's."""
        if plugin is not None and self.get_name(plugin) == "echo":
            return plugin
        return super().unregister(plugin, name)


pluggy.PluginManager = Manager

import tox.run

program.load()
folder = Path(tempfile.mkdtemp())
(folder / "tox.ini").write_text("[tox]\nno_package = true\n")
for _ in range(10):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        tox.run.main(["list", "--no-desc", "-c", str(folder / "tox.ini")])
    assert f"echo{program.n}" in printed.getvalue().split(), printed.getvalue()
    program.reload()
print("tox: 10 reloads, each run with its own environments")
