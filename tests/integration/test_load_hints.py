"""The error of a plugin that fails to load ends with what a person can do about it."""

import sys
import types

import pytest
from tests.conftest import free_port, tool

from epochal.errors import InitError, LinkError

HOLDS = r"generation 0, is still there beside the new one.*ctx\.register.*stop-first"
ITSELF = "'{0}' means the plugin itself: give it another id"


@pytest.mark.parametrize("plugin", ["httpx", "json", "geo"])
@pytest.mark.parametrize(
    "code",
    [
        "from {0} import Client\n",
        "import {0}\n{0}.Client()\n",
        "import {0}.client\n",
        "def init(ctx):\n    from {0} import Client\n",
        "def init(ctx):\n    import {0}\n    {0}.get\n",
    ],
)
def test_a_plugin_with_the_name_of_the_library_that_it_uses(rt, plugins, plugin, code):
    path = plugins.write(plugin, code.format(plugin))
    with pytest.raises((LinkError, InitError), match=ITSELF.format(plugin)):
        rt.load(path)


@pytest.mark.parametrize("beside", ["common_code.py", "common_code/__init__.py", "common_code/x"])
def test_a_file_beside_the_plugin(rt, plugins, beside):
    path = plugins.root / beside
    path.parent.mkdir(exist_ok=True)
    path.write_text("V = 1\n")
    for code in ("import common_code\n", "def init(ctx):\n    from common_code.sub import V\n"):
        with pytest.raises((LinkError, InitError), match=r"lies beside the plugin.*one package"):
            rt.load(plugins.write("geo", code))


def test_a_module_of_the_package_itself(rt, plugins):
    folder = plugins.root / "geo"
    folder.mkdir()
    (folder / "plugin.toml").write_text('id = "geo"\nversion = "1"\n')
    (folder / "__init__.py").write_text("import helpers\n")
    (folder / "helpers.py").write_text("")
    with pytest.raises(LinkError, match=r"write `from \. import helpers`"):
        rt.load(folder)


def test_a_library_that_is_not_installed(rt, plugins):
    with pytest.raises(LinkError, match="install the distribution that has 'no_such_library'"):
        rt.load(plugins.write("geo", "import no_such_library.part\n"))


# --- what the active version still has -----------------------------------------------------------


@pytest.fixture
def registry(monkeypatch):
    """A host's registry that refuses a second entry of a name, each in its own words."""
    module = types.ModuleType("the_registry")
    exec(
        "entries = {}\n"
        "class Refused(Exception): pass\n"
        "def add(name, error):\n"
        "    if name in entries: raise error\n"
        "    entries[name] = 1\n",
        vars(module),
    )
    monkeypatch.setitem(sys.modules, "the_registry", module)
    return module


@pytest.mark.parametrize(
    "error",
    [
        "ValueError(\"'mine' is registered already\")",
        "KeyError('mine')",
        "the_registry.Refused()",
        'TypeError("Couldn\'t build proto file: duplicate symbol")',
    ],
)
@pytest.mark.parametrize("at", ["link", "init"])
def test_a_registry_that_refuses_a_second_entry(rt, plugins, registry, error, at):
    call = f"the_registry.add('mine', {error})"
    code = f"import the_registry\n{call}\n"
    if at == "init":
        code = f"import the_registry\ndef init(ctx): {call}\n"
    path = plugins.write("geo", code + "@tool\ndef f(): return 1\n")
    rt.load(path)
    with pytest.raises((LinkError, InitError), match=HOLDS):
        rt.reload("geo")
    assert rt.epoch[tool]["geo.f"]() == 1
    rt.remove("geo")
    with pytest.raises((LinkError, InitError)) as caught:
        rt.load(path)  # the entry is there, but no version of this plugin
    assert "beside" not in str(caught.value)


def test_a_port_that_the_active_version_has(rt, plugins):
    port = free_port()
    code = f"""
    import socket
    def init(ctx):
        server = ctx.enter_context(socket.socket())
        server.bind(("127.0.0.1", {port}))
        server.listen()
    """
    rt.load(plugins.write("geo", code))
    with pytest.raises(InitError, match=HOLDS):
        rt.reload("geo")


@pytest.mark.parametrize(
    "code", ["1/0\n", "x = undefined\n", "def (\n", "raise ValueError('no')\n"]
)
def test_a_fault_of_the_plugins_own_code_has_no_hint(rt, plugins, code):
    rt.load(plugins.write("geo", ""))
    plugins.write("geo", code)
    with pytest.raises(LinkError) as caught:
        rt.reload("geo")
    assert "beside" not in str(caught.value)
