"""A refused version leaves nothing of it with the host, or the error names what is left."""

import codecs
import functools
import sys
import types

import pytest
from tests.integration import raising_kinds
from tests.notes import notes_of
from tests.sizes import sized

from epochal import Kind
from epochal.errors import EpochalError, ExportError, IncompatibleError, InitError

pytestmark = pytest.mark.usefixtures("whole_heap")


def make_host():
    """A host with names to patch, as modules that plugins import."""
    host, web = types.ModuleType("hostpkg"), types.ModuleType("hostpkg.web")

    class Router:
        def resolve(self):
            return "host"

        @classmethod
        def make(cls):
            return "host"

        @property
        def name(self):
            return "host"

        class Inner:
            def call(self):
                return "host"

    class Special(Router): ...

    @functools.singledispatch
    def render(value):
        return "host"

    class Renderer:
        @functools.singledispatchmethod
        def render(self, value):
            return "host"

    @functools.lru_cache
    def described(function):
        return function.__name__

    def answer():
        return "host"

    web.Router, host.Special = Router, Special
    host.render, host.Renderer, host.described, host.answer = render, Renderer, described, answer
    host.web, host.LISTENERS, host.CLASSES = web, [], [Router]
    return host, web


@pytest.fixture
def host(monkeypatch):
    host, web = make_host()
    monkeypatch.setitem(sys.modules, "hostpkg", host)
    monkeypatch.setitem(sys.modules, "hostpkg.web", web)
    return host


def error_handler(name):
    try:
        return codecs.lookup_error(name)(UnicodeError())
    except LookupError:
        return "host"


def encoding(name):
    try:
        return codecs.lookup(name).name
    except LookupError:
        return "host"


TRACES = {
    "a method": (
        "from hostpkg.web import Router\ndef resolve(self): return V\nRouter.resolve = resolve",
        lambda host: host.web.Router().resolve(),
    ),
    "a method, by a way": (
        "import hostpkg\nhostpkg.web.Router.Inner.call = lambda self: V",
        lambda host: host.web.Router.Inner().call(),
    ),
    "a method, by setattr": (
        "import hostpkg.web as w\nsetattr(w.Router, 'resolve', lambda self: V)",
        lambda host: host.web.Router().resolve(),
    ),
    "a method, by its path": (
        "import functools, importlib, hostpkg\n"
        "*way, name = 'web.Router.resolve'.split('.')\n"
        "setattr(functools.reduce(getattr, way, hostpkg), name, lambda self: V)",
        lambda host: host.web.Router().resolve(),
    ),
    "a method, late": (
        "def patch():\n    from hostpkg.web import Router\n    Router.resolve = lambda self: V\n"
        "def register(ctx): patch()",
        lambda host: host.web.Router().resolve(),
    ),
    "a class method": (
        "from hostpkg.web import Router\nRouter.make = classmethod(lambda cls: V)",
        lambda host: host.web.Router.make(),
    ),
    "a property": (
        "from hostpkg.web import Router\nRouter.name = property(lambda self: V)",
        lambda host: host.web.Router().name,
    ),
    "an inherited method": (
        "from hostpkg import Special\nSpecial.resolve = lambda self: V",
        lambda host: host.Special().resolve(),
    ),
    "a wrapper of a library": (
        "import functools, hostpkg\ndef mine(before, self): return V\n"
        "Router = hostpkg.web.Router\n"
        "Router.resolve = functools.partialmethod(functools.partial(mine, Router.resolve))",
        lambda host: host.web.Router().resolve(),
    ),
    "a function": (
        "import hostpkg\nhostpkg.answer = lambda: V",
        lambda host: host.answer(),
    ),
    "an instance of its own class": (
        "import hostpkg\nclass Mine:\n    def __call__(self): return V\nhostpkg.answer = Mine()",
        lambda host: host.answer(),
    ),
    "a dispatch": (
        "import hostpkg\n@hostpkg.render.register(dict)\ndef shown(value): return V",
        lambda host: host.render({}),
    ),
    "a dispatch by a method": (
        "import hostpkg\nhostpkg.Renderer.__dict__['render'].register(dict, lambda self, value: V)",
        lambda host: host.Renderer().render({}),
    ),
    "a codec's error handler": (
        "import codecs\ncodecs.register_error('tests.mine', lambda error: V)",
        lambda host: error_handler("tests.mine"),
    ),
    "a codec": (
        "import codecs\ndef search(name):\n    if name == 'tests_codec':\n"
        "        info = codecs.CodecInfo(lambda x: x, lambda x: x, name=V)\n"
        "        return info\ncodecs.register(search)",
        lambda host: encoding("tests_codec"),
    ),
    "a cache": (
        "import hostpkg\ndef helper(): pass\nhostpkg.described(helper)",
        lambda host: "host" if host.described.cache_info().currsize == 0 else "cached",
    ),
}


def write(plugins, code, version, end=""):
    return plugins.write("geo", f"V = {version!r}\n{code}\n@tool\ndef f(): return V\n{end}")


FAILS = "def init(ctx): raise RuntimeError('no')\n"


@pytest.mark.parametrize("case", TRACES)
def test_a_refused_first_version_leaves_the_host_as_it_was(rt, plugins, host, case):
    code, answer = TRACES[case]
    with pytest.raises(InitError) as caught:
        rt.load(write(plugins, code, "refused", FAILS))
    assert answer(host) == "host"
    assert not notes_of(caught.value)


REPLACED = [case for case in TRACES if case not in ("a codec", "a cache")]


@pytest.mark.parametrize("case", REPLACED)
def test_a_refused_version_leaves_its_predecessors_entries(rt, plugins, host, case):
    code, answer = TRACES[case]
    rt.load(write(plugins, code, "first"))
    assert answer(host) == "first"
    write(plugins, code, "refused", FAILS)
    for _ in range(2):
        with pytest.raises(InitError) as caught:
            rt.reload("geo")
        assert answer(host) == "first"
        assert not notes_of(caught.value)
    write(plugins, code, "second")
    rt.reload("geo")
    assert answer(host) == "second"
    cut = rt.remove("geo")
    assert answer(host) == "host"
    assert cut.reclaimed, cut.leaks


LEFT = {
    "a list of the host's": (
        "import hostpkg\ndef heard(): return V\nhostpkg.LISTENERS.append(heard)",
        "function geo.heard",
        lambda host: host.LISTENERS.clear(),
    ),
    "a class that no name leads to": (
        "import hostpkg\ndef resolve(self): return V\n"
        "setattr(next(iter(hostpkg.CLASSES)), 're' + 'solve', resolve)",
        "Router",
        lambda host: None,
    ),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_cannot_be_taken_back_is_named_in_the_error(rt, plugins, host, case):
    code, named, clear = LEFT[case]
    with pytest.raises(InitError) as caught:
        rt.load(write(plugins, code, "refused", FAILS))
    (note,) = notes_of(caught.value)
    assert note.startswith("geo#0 could not be taken back wholly: ")
    assert named in note
    clear(host)


def test_the_error_alone_keeps_a_refused_version(rt, plugins, host):
    code = "def init(ctx):\n    local = f\n    raise RuntimeError('no')\n"
    with pytest.raises(InitError) as caught:
        rt.load(write(plugins, "", "refused", code))
    assert not notes_of(caught.value)
    frames, entry = [], caught.value.__cause__.__traceback__
    while entry is not None:
        frames.append(entry.tb_frame)
        entry = entry.tb_next
    assert frames[-1].f_locals["local"]() == "refused", "its frames find the code whole"


def test_data_of_the_host_that_changes_meanwhile_are_the_hosts(rt, plugins, host):
    host.count = 0
    code = "import hostpkg\nhostpkg.count\nhostpkg.answer = hostpkg.later"
    host.later = lambda: "later"
    with pytest.raises(InitError):
        rt.load(write(plugins, code, "refused", f"hostpkg.count = 1\n{FAILS}"))
    assert (host.count, host.answer()) == (1, "later"), "neither is code of the plugin's"


# --- a kind that raises ---------------------------------------------------------------------------


class Panic(BaseException):
    """As libraries in other languages raise."""


class MuteError(Exception):
    def __str__(self):
        raise ZeroDivisionError


class ClosedError(Exception):
    def __getattribute__(self, name):
        raise AttributeError(name)


class Failing(Kind):
    """Raises in one of its rules, once there is an error to raise."""

    __slots__ = ("error", "rule")

    def __init__(self):
        super().__init__("failing")
        self.error = self.rule = None

    def _fail(self, rule):
        if self.rule == rule:
            raise self.error

    def options(self, **options):
        self._fail("options")
        return options

    def validate(self, export):
        self._fail("validate")

    def compare(self, old, new):
        self._fail("compare")

    def check_removed(self, old):
        self._fail("check_removed")

    def dependencies(self, export):
        self._fail("dependencies")
        return ()

    def validate_together(self, exports):
        self._fail("validate_together")


REFUSED = {
    "options": EpochalError,
    "validate": ExportError,
    "dependencies": ExportError,
    "compare": IncompatibleError,
    "check_removed": IncompatibleError,
    "validate_together": IncompatibleError,
}


@pytest.mark.parametrize("rule", REFUSED)
@pytest.mark.parametrize(
    "error",
    [
        *(TypeError("no"), RuntimeError("no"), KeyError(), MuteError(), ClosedError("no")),
        *(Panic("no"), SystemExit(3), SyntaxError("no", (7, 1, 2, "x"))),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_kind_raises_refuses_the_change_and_names_the_export(
    rt, plugins, monkeypatch, rule, error
):
    host = types.ModuleType("kindpkg")
    host.failing = kind = Failing()
    monkeypatch.setitem(sys.modules, "kindpkg", host)
    code = "from kindpkg import failing\n@failing(name='f', size=1)\ndef f(): return 1\n"
    rt.load(plugins.write("geo", code))
    old = rt.generation("geo").number
    kind.rule, kind.error = rule, error
    code = code if rule != "check_removed" else code.replace("'f'", "'other'")
    with pytest.raises(REFUSED[rule]) as refused:
        rt.reload("geo", plugins.write("geo", code, version="2.0"))
    words = str(refused.value)
    assert type(error).__name__ in words or "no" in words
    assert "failing" in words
    if rule != "validate_together":
        assert "geo" in words
        assert "geo.f" in words or "@failing 'f'" in words
    assert rt.generation("geo").number == old
    kind.rule = None
    assert rt.reload("geo").drained
    assert rt.epoch[kind]["geo.f" if rule != "check_removed" else "geo.other"]() == 1


def test_options_given_in_register_are_refused_by_the_exports_name(rt, plugins, monkeypatch):
    host = types.ModuleType("kindpkg")
    host.failing = kind = Failing()
    monkeypatch.setitem(sys.modules, "kindpkg", host)
    kind.rule, kind.error = "options", RuntimeError("no")
    code = (
        "def register(ctx):\n    import kindpkg\n    ctx.export(kindpkg.failing, len, name='f')\n"
    )
    with pytest.raises(EpochalError, match=r"geo.*@failing 'f': RuntimeError: no"):
        rt.load(plugins.write("geo", code))


@pytest.fixture
def opened(plugins):
    """A kind that opens what plugin geo_opened exports, of which one rule fails."""
    world = raising_kinds.World(plugins.root)
    yield world, world.host.opened
    world.close()


@pytest.mark.parametrize(
    ("rule", "answer", "reason"),
    [
        ("dependencies", [7], "cannot unpack"),
        ("dependencies", [(None, 7)], "'NoneType' object has no attribute 'name'"),
        ("hand_over", 7, "hand_over returned no Handover, but int"),
    ],
)
def test_a_rule_that_answers_nonsense_refuses_the_change(opened, rule, answer, reason):
    world, kind = opened
    kind.rule, kind.answer = rule, answer
    with pytest.raises(EpochalError, match=rf"opened\.failing.*{reason}") as refused:
        world.rt.reload("geo_opened")
    assert "geo_opened.f" in str(refused.value)


@pytest.mark.parametrize("rule", ["open", "wrap"])
def test_an_export_that_cannot_be_opened_or_offered_is_named(opened, rule):
    world, kind = opened
    kind.rule, kind.error = rule, OSError("no")
    with pytest.raises(EpochalError, match=r"opened\.failing geo_opened\.f.*OSError: no"):
        world.rt.reload("geo_opened")


@pytest.mark.parametrize("rule", ["commit", "close"])
def test_an_error_that_a_kind_keeps_holds_no_generation(opened, rule):
    world, kind = opened
    kind.rule, kind.error = rule, OSError("raised again and again")
    cut = world.rt.reload("geo_opened")
    assert (cut.drained, cut.reclaimed) == (True, True), (cut.holders, cut.leaks)
    assert any("raised again" in line for line in cut.failures)


def test_whatever_kinds_raise_or_answer_the_next_change_works(tmp_path):
    runs = sized(20, 200, 5000)
    counts = raising_kinds.run_all(tmp_path, runs, seed=17)
    assert sum(counts.values()) == runs
    assert sum(n for ended, n in counts.items() if ended.endswith("refused")) >= runs // 3
