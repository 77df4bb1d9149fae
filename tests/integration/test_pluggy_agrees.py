"""The same program on pluggy and on Epochal gives the same answers.

They are those of pluggy 1.7: in earlier versions a plugin that failed validation stayed registered.
"""

import inspect
import sys
import types
import warnings

import pluggy
import pytest

from epochal import Runtime
from epochal.artifact import Artifact
from epochal.pluggy import PluginManager

hookspec = pluggy.HookspecMarker("shop")
hookimpl = pluggy.HookimplMarker("shop")


class Specs:
    @hookspec
    def each(self, x, y=2): ...

    @hookspec(firstresult=True)
    def one(self, x): ...

    @hookspec(historic=True)
    def started(self, x, y=5): ...

    @hookspec(historic=True)
    def begun(self, x): ...


class More:
    @hookspec
    def later(self, x): ...


LOG = []


class World:
    """A manager, and how plugins come and go in it."""

    def __init__(self, pm):
        self.pm = pm
        LOG.clear()

    def load(self, name, body):
        raise NotImplementedError


class Pluggy(World):
    def __init__(self):
        super().__init__(pluggy.PluginManager("shop"))

    def load(self, name, body):
        module = types.ModuleType(name)
        exec(HEADER + body, vars(module))
        plugin = vars(module).get("plugin", module)
        self.pm.register(plugin, name)

    def remove(self, name):
        self.pm.unregister(name=name)


class Epochal(World):
    def __init__(self, rt):
        super().__init__(PluginManager("shop", rt))
        self.rt = rt

    def load(self, name, body):
        manifest = f'# /// plugin\n# id = "{name}"\n# version = "1"\n# ///\n'
        self.rt.load(Artifact(name, {f"{name}.py": (manifest + HEADER + body).encode()}))

    def remove(self, name):
        self.rt.remove(name)


HEADER = "from tests.integration.test_pluggy_agrees import LOG, hookimpl\n"


def impl(hook, answer, options="", arguments="x"):
    return f"@hookimpl{options}\ndef {hook}({arguments}): return {answer}\n"


def in_order(world):
    for name, options in [
        ("a", ""),
        ("b", "(trylast=True)"),
        ("c", "(tryfirst=True)"),
        ("d", ""),
        ("e", "(tryfirst=True)"),
        ("f", "(trylast=True)"),
    ]:
        world.load(name, impl("each", repr(name), options))
    yield world.pm.hook.each(x=1)
    world.remove("c")
    world.load("c", impl("each", "'c'"))
    yield world.pm.hook.each(x=1)


def host_objects_among_plugins(world):
    world.load("a", impl("one", "'a'") + impl("each", "'a'"))
    world.pm.register(Host("h1"), "h1")
    world.load("b", impl("each", "'b'"))
    world.pm.register(Host("h2"))
    yield world.pm.hook.each(x=1), world.pm.hook.one(x=1)
    world.pm.unregister(name="h1")
    yield world.pm.hook.each(x=1)
    yield [name for name, _ in world.pm.list_name_plugin()][:2]


class Host:
    def __init__(self, answer):
        self.answer = answer

    @hookimpl
    def each(self, x):
        return self.answer

    @hookimpl
    def started(self, x):
        LOG.append((self.answer, x))
        return self.answer


def wrappers(world):
    world.load("a", impl("each", "1") + impl("one", "1"))
    new = "@hookimpl(wrapper=True)\ndef {}(x):\n    LOG.append('n')\n    return ['new', (yield)]\n"
    old = (
        "@hookimpl(hookwrapper=True{})\ndef each(x):\n    LOG.append('o')\n"
        "    outcome = yield\n    outcome.force_result(['old', outcome.get_result()])\n"
    )
    world.load("b", new.format("each") + new.format("one"))
    world.load("c", old.format(""))
    world.load("d", old.format(", trylast=True"))
    yield world.pm.hook.each(x=1), world.pm.hook.one(x=1), list(LOG)
    catching = (
        "@hookimpl(wrapper=True)\ndef one(x):\n"
        "    try: return (yield)\n    except OSError: return 'caught'\n"
    )
    world.load("e", catching)
    world.load("f", "@hookimpl\ndef one(x): raise OSError\n")
    yield world.pm.hook.one(x=1)


def first_result(world):
    world.load("a", impl("one", "LOG.append('a')"))
    world.load("b", impl("one", "'b'"))
    world.load("c", impl("one", "LOG.append('c')"))
    yield world.pm.hook.one(x=1), list(LOG)
    world.remove("b")
    yield world.pm.hook.one(x=1)


def historic(world):
    results = []
    each = "LOG.append(({0!r}, 'started', x)) or {0!r}"
    world.load("a", impl("started", each.format("a")))
    world.pm.hook.begun.call_historic(kwargs={"x": 1})
    world.pm.hook.started.call_historic(results.append, {"x": 2})
    world.pm.hook.started.call_historic(kwargs={"x": 3})
    world.load("b", impl("started", each.format("b")) + impl("begun", "LOG.append('begun')"))
    world.pm.register(Host("host"))
    yield results, list(LOG)
    subset = world.pm.subset_hook_caller("started", [world.pm.get_plugin("a")])
    subset.call_historic(results.append, {"x": 4})
    world.load("c", impl("started", "LOG.append(y)", arguments="x, y"))
    yield results, list(LOG)
    yield raised(lambda: world.pm.hook.each.call_historic(kwargs={"x": 1}))
    yield raised(lambda: world.pm.hook.started(x=1))


def arguments(world):
    world.load("a", impl("each", "(x, y)", arguments="y, x"))
    world.load("b", impl("each", "()", arguments=""))
    yield world.pm.hook.each(x=1), world.pm.hook.each(x=1, y=3)
    world.load("c", impl("each", "q", arguments="q"))
    yield "unreachable"


def extra_and_subset(world):
    world.load("a", impl("each", "'a'"))
    world.load("b", impl("each", "'b'", "(tryfirst=True)"))
    world.load("c", impl("one", "1"))
    yield world.pm.hook.each.call_extra([lambda x: "extra"], {"x": 1})
    without = world.pm.subset_hook_caller("each", [world.pm.get_plugin("a")])
    yield without(x=1), [i.plugin_name for i in without.get_hookimpls()]
    world.load("d", impl("each", "'d'"))
    yield without(x=1)
    yield raised(lambda: world.pm.subset_hook_caller("nothing", []))


def pending(world):
    world.load("a", impl("later", "1"))
    yield world.pm.hook.later(anything=1, x=1)
    yield raised(world.pm.check_pending)
    world.pm.add_hookspecs(More)
    yield world.pm.check_pending()
    world.load("b", impl("never", "1", "(optionalhook=True)"))
    yield world.pm.check_pending()


def names(world):
    pm = world.pm
    world.load("a", impl("each", "1"))
    plugin = pm.get_plugin("a")
    yield pm.has_plugin("a"), pm.has_plugin("b"), pm.get_plugin("b"), pm.get_name(plugin)
    yield pm.is_registered(plugin), pm.is_registered(object()), len(pm.get_plugins())
    yield [caller.name for caller in pm.get_hookcallers(plugin)], pm.get_hookcallers(object())
    host = Host("h")
    yield pm.register(host, "h"), pm.get_name(host), pm.unregister(host) is host
    yield pm.get_canonical_name(Host).partition(".")[0], pm.register(None)
    yield raised(lambda: pm.register(host, "a")), pm.unregister(name="nobody")
    pm.register(host, "h")
    yield raised(lambda: pm.register(host, "again")), raised(lambda: pm.unregister(object()))
    yield dir(pm.hook.each)[:0], pm.hook.each.name, pm.hook.each.has_spec()
    yield pm.hook.each.is_historic(), pm.hook.each.spec.argnames
    yield raised(lambda: pm.hook.nothing)


def blocked(world):
    pm = world.pm
    pm.set_blocked("a")
    world.load("a", impl("each", "1"))
    yield pm.hook.each(x=1), pm.is_blocked("a"), pm.is_blocked("b"), pm.list_name_plugin()
    yield pm.register(Host("a"), "a"), pm.has_plugin("a")
    pm.register(Host("h"), "h")
    pm.set_blocked("h")
    yield pm.hook.each(x=1), pm.unblock("h"), pm.unblock("h"), pm.hook.each(x=1)


def monitoring(world):
    pm = world.pm
    world.load("a", impl("each", "1"))
    seen = []
    undo = pm.add_hookcall_monitoring(
        lambda name, impls, kwargs: seen.append((name, [i.plugin_name for i in impls], kwargs)),
        lambda outcome, name, impls, kwargs: seen.append((outcome.get_result(), name)),
    )
    pm.hook.each(x=1, y=1)
    world.load("b", impl("each", "2"))
    pm.hook.each(x=1, y=1)
    undo()
    pm.hook.each(x=1, y=1)
    yield seen
    lines = []
    pm.trace.root.setwriter(lines.append)
    undo = pm.enable_tracing()
    pm.hook.each(x=1, y=1)
    undo()
    pm.hook.each(x=1, y=1)
    yield lines


def objects(world):
    body = (
        "class Base:\n    @hookimpl\n    def one(self, x): return 'base'\n"
        "class Plugin(Base):\n"
        "    @hookimpl\n    def each(self, x): return self.answer()\n"
        "    @hookimpl(specname='each', trylast=True)\n    def again(self, x): return 'again'\n"
        "    def answer(self): return type(self).__name__\n"
        "plugin = Plugin()\n"
    )
    world.load("a", body)
    yield world.pm.hook.each(x=1), world.pm.hook.one(x=1)
    yield raised(lambda: world.load("b", body.replace("def one(self, x)", "def one(self, z)")))
    yield world.pm.hook.each(x=1)


def refused(world):
    world.load("a", impl("each", "1"))
    for body in (
        impl("each", "1", arguments="z"),
        "@hookimpl(wrapper=True)\ndef each(x): return 1\n",
        "@hookimpl(wrapper=True, hookwrapper=True)\ndef each(x): yield\n",
        "@hookimpl(wrapper=True)\ndef started(x): yield\n",
    ):
        yield raised(lambda body=body: world.load("b", body))
        yield world.pm.hook.each(x=1), world.pm.has_plugin("b")
    for spec in (Specs, Host):
        yield raised(lambda spec=spec: world.pm.add_hookspecs(spec))
        yield world.pm.hook.each(x=1)


def raised(act):
    try:
        act()
    except Exception as error:  # noqa: BLE001  any error is compared
        return ("raised", named(error))
    return "did not raise"


def named(error):
    if hasattr(error, "code"):
        return "refused"
    return "ValueError" if isinstance(error, ValueError) else type(error).__name__


def answers(scenario, world):
    world.pm.add_hookspecs(Specs)
    collected = []
    try:
        collected.extend(repr(answer) for answer in scenario(world))
    except Exception as error:  # noqa: BLE001  any error is compared
        collected.append(named(error))
    return collected


@pytest.mark.parametrize(
    "scenario",
    [
        in_order,
        host_objects_among_plugins,
        wrappers,
        first_result,
        historic,
        extra_and_subset,
        pending,
        names,
        blocked,
        monitoring,
    ],
)
def test_the_answers_are_pluggys(scenario):
    expected = answers(scenario, Pluggy())
    with Runtime() as rt:
        assert answers(scenario, Epochal(rt)) == expected
    assert len(expected) >= 2 or scenario is in_order


@pytest.mark.parametrize("scenario", [arguments, objects, refused])
def test_the_refusals_are_pluggys(scenario):
    """Epochal raises an error of the change where pluggy raises one of its own."""
    expected = [
        answer.replace("PluginValidationError", "refused") for answer in answers(scenario, Pluggy())
    ]
    assert any("refused" in answer for answer in expected)
    with Runtime() as rt:
        assert [
            answer.replace("PluginValidationError", "refused")
            for answer in answers(scenario, Epochal(rt))
        ] == expected


def test_every_public_method_of_pluggy_is_answered():
    """Methods that read pluggy's own tables must be overridden; the others use those."""
    safe = {
        "add_hookcall_monitoring",
        "enable_tracing",
        "get_canonical_name",
        "has_plugin",
        "list_plugin_distinfo",
        "list_plugin_distributions",
        "load_setuptools_entrypoints",
        "parse_hookimpl_opts",
        "parse_hookspec_opts",
    }
    offered = {name for name in vars(pluggy.PluginManager) if not name.startswith("_")}
    assert len(offered) >= 20
    ours = {name for cls in PluginManager.__mro__[:2] for name in vars(cls)}
    assert offered - safe <= ours
    for name in offered - safe:
        ours = inspect.signature(getattr(PluginManager, name))
        expected = inspect.signature(getattr(pluggy.PluginManager, name))
        assert list(ours.parameters) == list(expected.parameters), name


class Named(PluginManager):
    """Like pytest's: functions with a prefix are hooks, marked or not."""

    def parse_hookimpl_opts(self, plugin, name):
        options = super().parse_hookimpl_opts(plugin, name)
        if options is None and name.startswith("shop_"):
            return {}
        return options

    def parse_hookspec_opts(self, module_or_class, name):
        options = super().parse_hookspec_opts(module_or_class, name)
        return {"firstresult": True} if options is None and name.startswith("shop_") else options

    def get_canonical_name(self, plugin):
        return "canonical"


def test_a_subclass_may_parse_marks_in_its_own_way():
    class Specs:
        def shop_named(self, x): ...

    class Mine:
        def shop_named(self, x):
            return x

    with Runtime() as rt:
        pm = Named("shop", rt)
        pm.add_hookspecs(Specs)
        assert pm.register(Mine()) == "canonical"
        assert pm.hook.shop_named(x=1) == 1
        world = Epochal.__new__(Epochal)
        world.rt, world.pm = rt, pm
        world.load("a", impl("shop_named", "2"))
        assert pm.hook.shop_named(x=1) == 2


def test_entry_points_are_objects_of_the_host(monkeypatch, tmp_path):
    info = tmp_path / "shop_extra-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-extra\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[shop.plugins]\nextra = shop_extra_for_test\n")
    (tmp_path / "shop_extra_for_test.py").write_text(HEADER + impl("each", "'extra'"))
    monkeypatch.syspath_prepend(tmp_path)
    with Runtime() as rt:
        pm = PluginManager("shop", rt)
        pm.add_hookspecs(Specs)
        assert pm.load_setuptools_entrypoints("shop.plugins") == 1
        assert pm.load_setuptools_entrypoints("shop.plugins") == 0
        assert pm.hook.each(x=1) == ["extra"]
        ((plugin, dist),) = pm.list_plugin_distinfo()
        assert (plugin, dist.project_name) == (sys.modules["shop_extra_for_test"], "shop-extra")
    monkeypatch.delitem(sys.modules, "shop_extra_for_test")


def test_an_unblocked_plugin_receives_historic_calls():
    with Runtime() as rt:
        world = Epochal(rt)
        world.pm.add_hookspecs(Specs)
        world.pm.hook.started.call_historic(kwargs={"x": 1})
        world.pm.set_blocked("a")
        world.load("a", impl("each", "1") + impl("started", "LOG.append(x)"))
        assert (world.pm.hook.each(x=1), LOG) == ([], [])
        assert world.pm.unblock("a")
        assert (world.pm.hook.each(x=1), LOG) == ([1], [1])


def test_a_missing_argument_warns_as_pluggy_does():
    with Runtime() as rt, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for world in (Pluggy(), Epochal(rt)):
            world.pm.add_hookspecs(Specs)
            world.pm.hook.each()
    assert len({str(warning.message) for warning in caught}) == 1
    assert len(caught) == 2


def test_unmarked_functions_may_be_exported_by_hand():
    with Runtime() as rt:
        pm = Named("shop", rt)
        world = Epochal.__new__(Epochal)
        world.rt = rt
        body = (
            "from epochal.pluggy import kind_of\ndef shop_named(x): return x\n"
            "def register(ctx): ctx.export(kind_of('shop'), shop_named)\n"
        )
        world.load("a", body)
        assert pm.hook.shop_named(x=2) == [2]
