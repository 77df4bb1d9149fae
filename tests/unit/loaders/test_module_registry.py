"""The process-wide tables, which a generation enters and leaves without a trace."""

import linecache
import logging
import sys
import types

from epochal.loaders import _module_registry as registry


class Namespace:
    public_root = "geo_registry"

    def public_names(self):
        return []

    def find_spec(self, name):
        return f"spec of {name}"


def entered(tag):
    namespace = Namespace()
    registry.enter(namespace, "geo_registry", tag)
    return namespace


def test_a_tag_that_is_taken_gets_a_suffix():
    namespaces = [entered("g0_ab") for _ in range(3)]
    try:
        assert [each.tag for each in namespaces] == ["g0_ab", "g0_ab_2", "g0_ab_3"]
    finally:
        for namespace in namespaces:
            registry.leave(namespace.root_name, ())


def test_the_finder_serves_names_below_a_registered_root_alone():
    root = entered("g1_ab").root_name
    try:
        assert registry.Finder in sys.meta_path
        assert registry.Finder.find_spec(f"{root}.sub") == f"spec of {root}.sub"
        assert registry.Finder.find_spec(f"{root}_2.sub") is None
        assert registry.Finder.find_spec("json.decoder") is None
    finally:
        registry.leave(root, ())
    assert registry.Finder.find_spec(f"{root}.sub") is None


def test_leaving_removes_modules_sources_and_loggers():
    root = entered("g2_ab").root_name
    for name in (root, f"{root}.sub"):
        sys.modules[name] = types.ModuleType(name)
        logging.getLogger(name)
    linecache.cache["geo.py@g2_ab"] = (lambda: "",)
    neighbour = sys.modules[f"{root}er"] = types.ModuleType(f"{root}er")
    try:
        registry.leave(root, ["geo.py@g2_ab"])
        left = [name for name in sys.modules if name.startswith("geo_registry__")]
        assert left == [neighbour.__name__]
        assert not [name for name in logging.root.manager.loggerDict if name.startswith(root)]
        assert "geo.py@g2_ab" not in linecache.cache
        registry.leave(root, ())  # again: nothing happens
    finally:
        del sys.modules[neighbour.__name__]
