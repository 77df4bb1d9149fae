"""A leak through a library that is known to keep things has its remedy."""

import pytest

from epochal._core.introspect.remedies import remedy_for
from epochal.report import Leak

REMEDIES = {
    "numba.core.registry.cpu_target._toplevel_target_context._defns (a key).globals": "the host",
    "celery._state._on_app_finalizers (an element) (closure or defaults)[0]": "shared=False",
    "marshmallow.class_registry._registry['PlaceSchema'][0]": "register = False",
    "yaml.loader.SafeLoader.yaml_constructors['!place']": "of the plugin's own",
    "yaml.dumper.Dumper.yaml_multi_representers (a key)": "of the plugin's own",
    "polars.expr.expr.Expr.greetings._ns": "ctx.defer",
    "pandas.DataFrame.geo._accessor": "ctx.defer",
    "structlog._config._CONFIG.default_processors[0]": "wrap_logger",
    "matplotlib.projections.projection_registry._all_projection_types['geo']": "axes_class",
    "host.engine._compiled_cache._data[a tuple][1]": "clear_compiled_cache",
    "sqlalchemy.orm.instrumentation.class_manager['mapper'].class_": "DeclarativeBase",
    "host.app.router.lifespan_context.__wrapped__ (closure or defaults)[0]": "Mount(",
}


@pytest.mark.parametrize("path", REMEDIES)
def test_the_tables_of_libraries_have_a_remedy(path):
    assert REMEDIES[path] in remedy_for(path)


@pytest.mark.parametrize("path", ["host.HANDLERS[0]", "host.numbers[1]", "a list[0]", ""])
def test_any_other_path_has_none(path):
    assert remedy_for(path) == ""


def test_a_leaks_line_ends_with_its_remedy():
    leak = Leak("class", "geo.Place", path="yaml.yaml_constructors['x']", remedy="do this")
    assert str(leak) == ("class geo.Place is referred to by yaml.yaml_constructors['x']: do this")
