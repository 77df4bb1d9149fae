"""Fixtures for every test: plugins written in place, and a runtime that ends with its test."""

import gc
import signal
import socket
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from epochal import Kind, Runtime

tool = Kind("tool", "a host's own kind, for tests")

# No test depends on a fast machine.
settings.register_profile("any", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any")

HEADER = """\
# /// plugin
# id = "{id}"
# version = "{version}"
# requires = [{requires}]
# ///
from tests.conftest import tool

"""


def set_aside():
    """Have collections, and looks through the heap, pass over all that is there.

    Half a million objects are pytest's and its tests': a reload of a three-line plugin would take
    many times as long as in a program. Tests that look for names among them use `whole_heap`.
    """
    gc.collect()
    gc.freeze()


def pytest_configure():
    # A shell that runs the suite in the background has it ignore Ctrl-C, which some tests press.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    set_aside()


@pytest.fixture(scope="module")
def whole_heap():
    """Let the module's tests find everything, also what was made before the first test.

    A program with so large a heap would run on a faster machine: no path is cut short by time.
    """
    gc.unfreeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("epochal._core.introspect.referrers._LOOK_S", 60.0)
        yield
    set_aside()


class PluginFolder:
    """Writes plugins: `write("geo", "1.0", code)` gives the path of a file that is plugin geo."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, plugin: str, code: str, *, version: str = "1.0", requires=()) -> Path:
        path = self.root / f"{plugin}.py"
        quoted = ", ".join(f'"{requirement}"' for requirement in requires)
        head = HEADER.format(id=plugin, version=version, requires=quoted)
        path.write_text(head + textwrap.dedent(code))
        return path


def free_port():
    """A port of this machine that no program listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
def plugins(tmp_path):
    return PluginFolder(tmp_path)


PACKAGE_MANIFEST = 'id = "{id}"\nversion = "{version}"\n'


@pytest.fixture
def package(tmp_path):
    """Writes a package plugin: `package("geo", {"__init__.py": …})`."""

    def write(plugin, files, version="1.0"):
        root = tmp_path / plugin
        manifest = PACKAGE_MANIFEST.format(id=plugin, version=version)
        for name, text in {"plugin.toml": manifest, **files}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return root

    return write


@pytest.fixture
def rt():
    with Runtime(drain_timeout=10.0, phase_timeout=10.0) as runtime:
        yield runtime


@pytest.fixture
def start(tmp_path):
    """Start a runtime on the test's store; each is closed at the end."""
    started = []

    def start(**options):
        rt = Runtime(store=tmp_path / "store", **options)
        started.append(rt)
        return rt

    yield start
    for rt in started:
        rt.close()
