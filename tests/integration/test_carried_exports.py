"""A plugin carries distributions: each has its own name, and is the plugin's own copy."""

import importlib.metadata
import pickle
import sys

import pytest
from tests.conftest import tool

from epochal._core.plugin.manifest import read_manifest
from epochal.artifact import Artifact
from epochal.errors import ManifestError

TOOL = "from tests.conftest import tool\n"


@pytest.fixture
def carrying(tmp_path):
    """Writes plugin geo, which carries a distribution `shapes`."""

    def write(code, version="1.0", **files):
        files = {
            "shapes/__init__.py": f"VERSION = {version!r}\nfrom shapes.round import Circle\n",
            "shapes/round.py": "import shapes\nclass Circle:\n    of = shapes\n",
            "shapes/data.txt": f"data of {version}",
            "shapes/bare/leaf.py": "LEAF = __name__",
            "shapes_single.py": "import shapes.bare.leaf\nLEAF = shapes.bare.leaf.LEAF",
            "shapes.dist-info/METADATA": f"Name: shapes\nVersion: {version}\n",
            "shapes.dist-info/entry_points.txt": ("[shapes.kinds]\nround = shapes.round:Circle\n"),
            **files,
        }
        for name, text in files.items():
            path = tmp_path / "geo" / "_vendor" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / "geo" / "__init__.py").write_text(TOOL + code)
        (tmp_path / "geo" / "plugin.toml").write_text(
            f'id = "geo"\nversion = "{version}"\nvendored = "_vendor"\n'
        )
        return tmp_path / "geo"

    return write


def use(rt):
    return rt.epoch[tool]["geo.use"]()


WAYS = {
    "import": "import shapes\n@tool\ndef use(): return shapes.VERSION",
    "import of a submodule": "import shapes.round\n@tool\ndef use(): return shapes.VERSION",
    "import as": "import shapes.round as r\n@tool\ndef use(): return r.shapes.VERSION",
    "from": "from shapes.round import Circle\n@tool\ndef use(): return Circle.of.VERSION",
    "late": "@tool\ndef use():\n    import shapes.round\n    return shapes.VERSION",
    "__import__": "@tool\ndef use(): return __import__('shapes.round').VERSION",
    "a single module": "import shapes_single as s\n@tool\ndef use(): return s.shapes.VERSION",
    "by string": "import importlib\n@tool\ndef use():\n"
    "    return importlib.import_module('shapes.round').shapes.VERSION",
    "relative by string": "from importlib import import_module\n@tool\ndef use():\n"
    "    return import_module('.round', 'shapes').shapes.VERSION",
    "a spec": "import importlib.util\n@tool\ndef use():\n"
    "    return importlib.util.find_spec('shapes').loader.get_source('').split(\"'\")[1]",
    "its version": "from importlib.metadata import version\n@tool\ndef use():\n"
    "    return version('Shapes')",
    "its metadata": "import importlib.metadata as m\n@tool\ndef use():\n"
    "    return m.metadata('shapes')['Version']",
    "an entry point": "from importlib import metadata\n@tool\ndef use():\n"
    "    (point,) = metadata.entry_points(group='shapes.kinds')\n"
    "    return point.load().of.VERSION",
    "a resource": "from importlib import resources\n@tool\ndef use():\n"
    "    return resources.files('shapes').joinpath('data.txt').read_text().split()[-1]",
    "a resource by importlib.resources": "import importlib.resources\n@tool\ndef use():\n"
    "    return importlib.resources.files('shapes').joinpath('data.txt').read_text()[8:]",
    "data": "import pkgutil\n@tool\ndef use():\n"
    "    return pkgutil.get_data('shapes', 'data.txt').decode().split()[-1]",
    "a pickle": "import pickle\nBYTES = b'cshapes\\nVERSION\\n.'\n@tool\ndef use():\n"
    "    assert pickle.loads(BYTES) == pickle.Unpickler(__import__('io').BytesIO(BYTES)).load()\n"
    "    return pickle.loads(BYTES)",
}


@pytest.mark.parametrize("way", WAYS)
def test_each_generation_has_its_own_copy_however_it_asks(rt, carrying, way):
    rt.load(carrying(WAYS[way]))
    old = rt.epoch
    assert use(rt) == "1.0"
    rt.reload("geo", carrying(WAYS[way], "2.0"), drain_timeout=0.0)
    assert use(rt) == "2.0"
    assert old[tool]["geo.use"]() == "1.0"
    assert "shapes" not in sys.modules, "no other code sees it"


def test_it_goes_with_the_generation(rt, carrying):
    code = "import shapes.bare.leaf, shapes_single\n@tool\ndef use(): return shapes_single.LEAF"
    rt.load(carrying(code))
    assert use(rt).endswith("._vendor.shapes.bare.leaf"), (
        "a folder without __init__.py is a package"
    )
    cut = rt.remove("geo")
    assert cut.reclaimed, cut.leaks
    assert not [name for name in sys.modules if "shapes" in name]


def test_an_installed_distribution_is_what_it_is_everywhere(rt, carrying):
    code = """
from importlib import metadata, util
import pickle
@tool
def use():
    names = [found.metadata["Name"] for found in metadata.distributions()]
    console = metadata.entry_points(group="console_scripts", name="pytest")
    return (metadata.version("pytest"), "pytest" in names, names.count("shapes"), len(console),
            util.find_spec("json").name, pickle.loads(pickle.dumps(metadata.EntryPoint)).__name__)
"""
    rt.load(carrying(code))
    version = importlib.metadata.version("pytest")
    assert use(rt) == (version, True, 1, 1, "json", "EntryPoint")
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("shapes")


def test_a_name_it_does_not_carry_is_missed_under_the_name_asked_for(rt, carrying):
    code = "@tool\ndef use():\n    import shapes.square"
    rt.load(carrying(code))
    with pytest.raises(ModuleNotFoundError, match=r"shapes\.square"):
        use(rt)


def test_what_a_plugin_carries_has_stable_names_too(rt, carrying):
    code = "import shapes, pickle\n@tool\ndef use(): return pickle.dumps(shapes.Circle())"
    rt.load(carrying(code))
    data = use(rt)
    rt.reload("geo", carrying(code, "2.0"))
    read = pickle.loads(data)
    assert type(read).__module__ == "geo._vendor.shapes.round"
    assert type(read) is type(pickle.loads(use(rt)))


@pytest.mark.parametrize(
    ("vendored", "files", "fault"),
    [
        ('"lib"', {}, "vendored is 'lib', but the plugin has no such folder"),
        ('"../lib"', {}, "expected a folder such as"),
        ("1", {}, "expected a text in quotes"),
        ('"_vendor"', {"_vendor/geo/__init__.py": b""}, "holds 'geo', the plugin's own id"),
    ],
)
def test_a_manifest_that_names_no_such_folder_is_refused(vendored, files, fault):
    toml = f'id = "geo"\nversion = "1"\nvendored = {vendored}\n'
    artifact = Artifact(
        "geo", {"__init__.py": b"", "plugin.toml": toml.encode(), **files}, is_package=True
    )
    with pytest.raises(ManifestError, match=fault) as caught:
        read_manifest(artifact)
    assert "plugin.toml:3: vendored" in str(caught.value)


def test_an_artifact_that_never_was_a_folder_carries_its_data_too():
    from epochal.loaders.python_namespace import PythonNamespace

    code = b"import pkgutil\nDATA = pkgutil.get_data('shapes', 'data.txt')"
    files = {
        "__init__.py": code,
        "_vendor/shapes/__init__.py": b"",
        "_vendor/shapes/data.txt": b"x",
    }
    namespace = PythonNamespace(Artifact("geo", files, is_package=True), "geo", 0, "_vendor")
    namespace.open()
    try:
        assert namespace.execute().DATA == b"x"
    finally:
        namespace.close()


def test_what_typing_keeps_for_overloads_goes_too(rt, plugins):
    code = (
        "import typing\n@typing.overload\ndef g(x: int): ...\n@typing.overload\ndef g(x: str): ..."
    )
    rt.load(plugins.write("geo", f"{code}\ndef g(x): return x\n@tool\ndef f(): return g(1)\n"))
    cut = rt.remove("geo")
    assert cut.reclaimed, cut.leaks


def test_a_plugin_with_hints_of_its_own_is_reclaimed_without_a_look_through_the_heap(rt, plugins):
    """`Optional[Own]` is everywhere, and a heap walk for each would stop the process."""
    import gc
    from unittest import mock

    code = "import typing\nclass Own: pass\nA = typing.Optional[Own]\nB = typing.List[Own]\n"
    rt.load(plugins.write("geo", f"{code}\n@tool\ndef f(): return 1\n"))
    with mock.patch.object(gc, "get_referrers", wraps=gc.get_referrers) as walked:
        cut = rt.remove("geo")
    assert cut.reclaimed, cut.leaks
    assert not walked.called
