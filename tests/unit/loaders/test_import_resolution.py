"""The names that mean a generation's own modules, and the import statement that resolves them."""

import builtins
import json
import types
from functools import partial

import pytest

from epochal.loaders._import_resolution import NameMap, resolve_import, top_names

TOPS = {"geo": "geo__g7_ab", "jinja2": "geo__g7_ab._vendor.jinja2"}


def refuse(name):
    raise ImportError(name)


@pytest.fixture
def names():
    return NameMap(TOPS, lambda name: None)


@pytest.mark.parametrize(
    ("name", "private"),
    [
        ("geo", "geo__g7_ab"),
        ("geo.sub.part", "geo__g7_ab.sub.part"),
        ("jinja2.ext", "geo__g7_ab._vendor.jinja2.ext"),
        ("geometry", None),
        ("json.decoder", None),
        ("", ""),
    ],
)
def test_the_first_part_of_a_name_decides(names, name, private):
    assert names(name) == private


def test_a_removed_generation_resolves_no_name_of_its_own():
    names = NameMap(TOPS, refuse)
    with pytest.raises(ImportError, match=r"geo\.sub"):
        names("geo.sub")
    assert names("json") is None


def test_modules_and_both_forms_of_packages_are_top_names():
    files = ("_vendor/six.py", "_vendor/a/__init__.py", "_vendor/b/c/d.py", "_vendor/x-1/e.py")
    others = ("_vendor/a.dist-info/RECORD", "_vendor/lib.so", "six2.py")
    assert top_names([*files, *others], "_vendor") == {"six", "a", "b"}


def test_imports_of_other_modules_get_their_proxies(names):
    imported, proxy = [], types.ModuleType("proxy")
    proxy.scanner = "the proxy's"

    def proxy_for(name, module):
        imported.append((name, module.__name__))
        return proxy if name == "json" else module

    noticed = []
    importer = partial(resolve_import, names, proxy_for, lambda name, _: noticed.append(name))
    scope = {"__builtins__": {**vars(builtins), "__import__": importer}}
    exec("import json.decoder\nfrom json import scanner\nfrom json.decoder import NaN", scope)
    assert (scope["json"], scope["scanner"]) == (proxy, "the proxy's")
    # `import a.b` binds `a`; `from a.b import c` looks into `a.b`.
    assert imported == [("json", "json"), ("json", "json"), ("json.decoder", "json.decoder")]
    assert noticed == ["json.decoder", "json", "json.decoder"]
    assert json is not proxy
