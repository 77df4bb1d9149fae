"""Installed distributions that have entry points become plugins of a runtime."""

import importlib.resources
import sys

import pluggy
import pytest

from epochal import Runtime
from epochal.errors import ArtifactError
from epochal.pluggy import PluginManager, entry_point_plugins

GROUP = "epochal_tests_pages"
MARK = "import pluggy\nhookimpl = pluggy.HookimplMarker('pages')\n"


class Specs:
    @pluggy.HookspecMarker("pages")
    def page(self, x): ...


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a distribution as pip would: its files, and their record."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, version, files, entry):
        info = f"{name}-1.dist-info"
        files = {
            **files,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/entry_points.txt": f"[{GROUP}]\n{name} = {entry}\n",
        }
        files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in files)
        for path, content in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(content)

    return write


@pytest.fixture
def pm():
    with Runtime() as rt:
        pm = PluginManager("pages", rt)
        pm.add_hookspecs(Specs)
        pm.runtime = rt
        yield pm


def pages(version):
    return {
        "pages_blog/__init__.py": f"__version__ = '{version}'\n",
        "pages_blog/hooks.py": MARK
        + "from pages_blog.text import TEXT\n@hookimpl\ndef page(x): return TEXT\n",
        "pages_blog/text.py": f"TEXT = 'blog {version}'\n",
        "pages_blog/templates/page.html": f"<{version}>",
    }


def test_a_package_is_loaded_and_reloaded_after_an_upgrade(pm, install):
    install("pages_blog", "1.0", pages("1.0"), "pages_blog.hooks")
    (artifact,) = entry_point_plugins(GROUP)
    pm.runtime.load(artifact)
    assert pm.hook.page(x=0) == ["blog 1.0"]
    blog = pm.get_plugin("pages_blog")
    template = importlib.resources.files(blog.__name__) / "templates" / "page.html"
    assert (blog.__version__, template.read_text()) == ("1.0", "<1.0>")
    del blog, template
    install("pages_blog", "2.0", pages("2.0"), "pages_blog.hooks")
    cut = pm.runtime.reload("pages_blog", *entry_point_plugins(GROUP))
    assert cut.drained, cut.holders
    assert cut.reclaimed, cut.leaks
    assert pm.hook.page(x=0) == ["blog 2.0"]
    assert str(pm.runtime.generation("pages_blog").candidate.manifest.version) == "2.0"
    assert "pages_blog" not in sys.modules


def test_a_module_is_loaded_too(pm, install):
    source = MARK + "@hookimpl\ndef page(x): return 'one module'\n"
    install("pages_single", "1.0", {"pages_single.py": source}, "pages_single")
    install("pages_blog", "1.0", pages("1.0"), "pages_blog.hooks")
    for artifact in entry_point_plugins(GROUP, "pages_single"):
        pm.runtime.load(artifact)
    assert pm.hook.page(x=0) == ["one module"]


@pytest.mark.parametrize(
    ("files", "entry", "reason"),
    [
        ({"pages_fast/__init__.py": "", "pages_fast/core.so": ""}, "pages_fast", "extension"),
        ({}, "pages_gone", "lists no files"),
        ({"Pages.py": ""}, "Pages", "cannot be the id"),
    ],
)
def test_a_distribution_that_cannot_be_a_plugin_is_refused(install, files, entry, reason):
    install("pages_bad", "1.0", files, entry)
    with pytest.raises(ArtifactError, match=reason):
        entry_point_plugins(GROUP)
