"""Exports that a dependent hands on count; classes that it requires are classes."""

import pytest
from tests.conftest import tool

pytestmark = pytest.mark.usefixtures("whole_heap")

LENDER = """
SHUT = []
@tool
def rows(n): yield from range(n)
@tool
def f(): return SHUT == []
def shutdown(): SHUT.append(1)
"""
BORROWER = """
def register(ctx):
    global inner
    inner = ctx.require("{}")
@tool
def rows(n): return inner.rows(n)
@tool
def f(): return inner.f()
@tool
def get(): return inner.{}
"""


@pytest.fixture
def load(rt, plugins):
    rt.load(plugins.write("p", LENDER))
    rt.load(plugins.write("q", BORROWER.format("p", "f"), requires=["p"]))
    rt.load(plugins.write("r", BORROWER.format("q", "get()"), requires=["q"]))


@pytest.mark.parametrize("through", ["q", "r"])
def test_an_export_that_was_handed_on_counts(rt, load, through):
    f = rt.epoch[tool][f"{through}.get"]()
    cutover = rt.reload("p", drain_timeout=0.05)
    by_plugin = {swap.plugin: swap for swap in cutover.swaps}
    assert [by_plugin[name].drained for name in "pqr"] == [False, True, True]
    assert [holder.kind for holder in by_plugin["p"].holders] == ["function"]
    assert f()
    del f
    assert rt.reload("p").drained


@pytest.mark.parametrize("through", ["q", "r"])
def test_a_generator_that_was_handed_on_counts(rt, load, through):
    rows = rt.epoch[tool][f"{through}.rows"](2)
    assert next(rows) == 0
    assert not rt.reload("p", drain_timeout=0.05).drained
    assert list(rows) == [1]
    del rows
    assert rt.reload("p").drained


def test_a_dependent_that_leaks_keeps_nothing_in_use(rt, plugins):
    rt.load(plugins.write("p", LENDER))
    code = "def register(ctx):\n    global kept\n    kept = ctx.require('p').f\n"
    rt.load(plugins.write("q", code + "@tool\ndef get(): return globals()", requires=["p"]))
    leaked = rt.epoch[tool]["q.get"]()
    cutover = rt.reload("p", drain_timeout=5)
    assert cutover.drained
    assert cutover.leaks
    assert leaked["kept"]


USES = {
    "an instance": "s.Base()",
    "a member by value": "s.Fruit('apple')",
    "a member": "s.Fruit.APPLE",
    "members": "list(s.Fruit)",
    "an attribute": "s.Base.limit",
    "a class method": "s.Base.default()",
    "isinstance": "assert isinstance(s.Base(), s.Base)",
    "issubclass": "assert issubclass(type('Mine', (s.Base,), {}), s.Base)",
    "a subclass": "class Mine(s.Base): ...\n    Mine()",
    "catch": "try: raise s.Oops(1)\n    except s.Oops: pass",
    "an annotation": "list[s.Base] | None",
    "identity": "assert s.Base is s.offered_base() is type(s.Base())",
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_required_class_is_a_class(rt, plugins, use):
    code = """
    import enum
    @tool
    class Fruit(enum.Enum):
        APPLE = "apple"
    @tool
    class Base:
        limit = 3
        @classmethod
        def default(cls): return cls()
    @tool
    class Oops(Exception): ...
    @tool
    def offered_base(): return Base
    """
    rt.load(plugins.write("s", code))
    user = f"def register(ctx):\n    s = ctx.require('s')\n    {use}\n@tool\ndef f(): ..."
    rt.load(plugins.write("user", user, requires=["s"]))
    with rt.operation(), pytest.raises(Exception, match="require"):
        rt.remove("s")
    assert rt.reload("s").drained
    assert rt.remove("user").drained
