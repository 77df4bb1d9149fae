"""The fixtures for plugin authors, in a pytest process of their own."""

import pytest

pytest_plugins = ["pytester"]

PLUGIN = '''
TEXT = """\\
# /// plugin
# id = "geo"
# version = "{n}"
# ///
from epochal.kinds import scalar

@scalar
def version(x: int) -> int:
    return {n} * x
"""
'''


@pytest.fixture
def run(pytester):
    def run(code):
        pytester.makepyfile(PLUGIN + code)
        return pytester.runpytest_subprocess("-q", "-p", "no:frontrun")

    return run


def test_a_plugin_is_loaded_called_and_reloaded(run):
    done = run("""
def test_it(epochal_plugin):
    geo = epochal_plugin(TEXT.replace("{n}", "1"))
    assert geo.call("version", 5) == 5
    cutover = geo.reload(TEXT.replace("{n}", "2"))
    assert cutover.reclaimed
    assert geo.call("geo.version", 5) == 10
    assert geo.runtime.epoch.number == 2
    geo.reload()
    assert geo.call("version", 5) == 10
""")
    done.assert_outcomes(passed=1)


def test_a_leak_fails_the_test_and_is_named(run):
    done = run("""
KEPT = []
def test_it(epochal_plugin):
    geo = epochal_plugin(TEXT.replace("{n}", "1"))
    KEPT.append(geo.export("version"))
    geo.reload(TEXT.replace("{n}", "2"), drain_timeout=0.1)
""")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*still in use by*", "*KEPT*"])


def test_a_shutdown_that_raises_fails_the_test_at_its_end(run):
    done = run("""
def test_it(epochal_plugin):
    epochal_plugin(TEXT.replace("{n}", "1") + "def shutdown(): raise OSError('no')\\n")
""")
    done.assert_outcomes(passed=1, errors=1)
    done.stdout.fnmatch_lines(["*did not shut down cleanly*", "*OSError*no*"])


def test_an_unknown_export_is_an_error(run):
    done = run("""
import pytest
def test_it(epochal_plugin):
    geo = epochal_plugin(TEXT.replace("{n}", "1"))
    with pytest.raises(KeyError, match="it has geo.version"):
        geo.call("nope")
""")
    done.assert_outcomes(passed=1)


def test_a_broken_plugin_is_refused_and_the_old_version_serves(run):
    done = run("""
import pytest
from epochal import EpochalError
def test_it(epochal_plugin):
    geo = epochal_plugin(TEXT.replace("{n}", "1"))
    with pytest.raises(EpochalError):
        geo.reload(TEXT.replace("{n}", "2") + "1/0\\n")
    assert geo.call("version", 5) == 5
""")
    done.assert_outcomes(passed=1)
