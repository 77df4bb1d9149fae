"""The exports of a generation: which objects, under which names, with which checks."""

import pytest
from tests.conftest import tool
from tests.unit.core.generation.modules import HandMadeNamespace, candidate

from epochal import Kind
from epochal._core.generation.exports import check_entry_points, collect_exports
from epochal.errors import CapabilityError, ExportError, LinkError

IMPORT = "from tests.conftest import tool\n"


class Many(Kind):
    allow_duplicates = True


many = Many("many")


def collect(source, *registered, of=None):
    return collect_exports(of or candidate(), HandMadeNamespace(geo=IMPORT + source), registered)


def test_a_marked_function_is_exported_under_its_plugins_name():
    exports = collect("@tool\ndef f(): return 1")
    assert list(exports) == [(tool, "geo.f")]
    assert exports[tool, "geo.f"].target() == 1


def test_an_imported_marked_function_is_not_exported():
    helper = HandMadeNamespace(helper=IMPORT + "@tool\ndef f(): ...").root
    namespace = HandMadeNamespace(geo="")
    namespace.root.f = helper.f
    assert not collect_exports(candidate(), namespace, ())


def test_methods_of_an_object_are_exported_bound_to_it():
    source = "class Plugin:\n    @tool\n    def f(self): return self\nplugin = Plugin()"
    target = collect(source)[tool, "geo.f"].target
    assert target() is target.__self__


def test_two_exports_of_one_name_are_refused():
    with pytest.raises(ExportError, match="two tools named 'f'"):
        collect("@tool\ndef f(): ...\n@tool(name='f')\ndef g(): ...")


def test_a_kind_that_allows_duplicates_numbers_them():
    registered = [(many, "f", {}, function) for function in (len, max, len)]
    assert [name for _, name in collect("", *registered)] == ["geo.f", "geo.f_2"]


@pytest.mark.parametrize("name", ["not a name", "a.b", "", "1st"])
def test_a_name_must_be_an_identifier(name):
    with pytest.raises(ExportError, match="expected a plain identifier"):
        collect("", (tool, name, {}, len))


def test_a_kind_that_the_manifest_leaves_out_is_not_granted():
    with pytest.raises(CapabilityError, match="not granted") as caught:
        collect("@tool\ndef f(): ...", of=candidate(capabilities=frozenset({"scalar"})))
    assert caught.value.capability == "tool"


def test_the_exports_are_read_only():
    with pytest.raises(TypeError):
        collect("")[tool, "geo.f"] = None


def test_an_async_entry_point_is_refused():
    namespace = HandMadeNamespace(geo="async def init(ctx): ...")
    with pytest.raises(LinkError, match="`async def`"):
        check_entry_points("geo", namespace.root, namespace)


def test_an_imported_entry_point_is_refused():
    namespace = HandMadeNamespace(geo="from pprint import pprint as shutdown")
    with pytest.raises(LinkError, match=r"imported \(pprint\.pprint\)"):
        check_entry_points("geo", namespace.root, namespace)
