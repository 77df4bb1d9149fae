"""Objects that outlive the global names of modules, as the interpreter exits: none prints."""

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import gc, os, sys
from pathlib import Path
from tests.conftest import PluginFolder, tool
from epochal import Runtime
from epochal._core.sync import weak_registry

class Last:
    def __init__(self, objects):
        self.objects = objects

    def __del__(self, names=vars(weak_registry), collect=gc.collect, write=os.write):
        write(1, b"too early" if names["WeakRegistry"] else b"late")
        self.objects.clear()
        collect()

def objects(plugins):
{objects}

# The modules live on, so that the interpreter empties them; then it drops what is before them.
modules = [module for name, module in sys.modules.items() if "epochal" in name]
sys._kept = [Last(objects(PluginFolder(Path(sys.argv[1])))), modules]
"""

CORE = """
from epochal.kinds import service

rt = Runtime(drain_timeout=0.0)
rt.load(plugins.write("geo", '''
from epochal.kinds import service

class Suspended:
    def __await__(self): yield

@tool
def f(): return 1

@tool
def generator(): yield 1

@tool
class Made: pass

@service
class counter:
    async def add(self): await Suspended()
'''))
tools, counter = rt.epoch[tool], rt.epoch[service]["geo.counter"]
generator, call, operation = tools["geo.generator"](), counter.add(), rt.operation("work")
next(generator)
call.send(None)
operation.__enter__()
lease = rt.generation("geo").lifecycle.lease("work")
cycle = [rt.generation("geo").lifecycle.lease("a cycle")]
cycle.append(cycle)
draining = tools["geo.f"]
rt.reload("geo")
made, epoch = tools["geo.Made"](), rt.epoch
return [generator, call, operation, lease, cycle, draining, made, epoch, counter]
"""

SQL = """
from epochal.sql import Database

rt = Runtime(drain_timeout=0.0)
rt.load(plugins.write("geo", '''
from epochal.kinds import scalar

@scalar
def twice(x: int) -> int: return 2 * x
'''))
db = Database(rt)
running = db.query("SELECT geo.twice(value) FROM range(100000)")
rows = iter(running)
next(rows)
return [rows, running, db.query("SELECT geo.twice(value) FROM range(10)"), db]
"""


def test_nothing_is_printed_where_objects_outlive_the_names_of_modules(tmp_path):
    assert printed(CORE, tmp_path) == ("late", "", 0)


def test_nothing_is_printed_where_results_outlive_the_names_of_modules(tmp_path):
    assert printed(SQL, tmp_path) == ("late", "", 0)


def printed(program, folder):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(objects=textwrap.indent(program, "    ")), folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.stdout, done.stderr, done.returncode
