"""Hooks: order, results, vetoes, and what changes them."""

import asyncio

import pytest

from epochal import Runtime
from epochal._core.plugin.artifact import Artifact
from epochal.errors import ExportError, HookAnswerError, IncompatibleError
from epochal.kinds import Hook, Refusal

event = Hook("test.event")
checked = Hook("test.checked", spec=lambda order, *, dry: None)
optional = Hook("test.optional", spec=lambda order, dry=False: None)
anything = Hook("test.anything", spec=lambda first, /, *rest, **named: None)

HEADER = """
# /// plugin
# id = "{id}"
# version = "1"
# ///
from tests.unit.kinds.test_hook import anything, checked, event, optional
from epochal.kinds.hook import Refusal
"""


def plugin(name, body):
    return Artifact(name, {f"{name}.py": (HEADER.format(id=name) + body).encode()})


def taking_part(name, options="", result=None):
    return plugin(name, f"@event{options}\ndef f(x=None): return {result or repr(name)}\n")


@pytest.fixture
def rt():
    with Runtime() as runtime:
        yield runtime


def load(rt, *artifacts):
    with rt.change() as change:
        for artifact in artifacts:
            change.load(artifact)


def test_the_default_order_is_by_plugin_id(rt):
    load(rt, taking_part("c"), taking_part("a"), taking_part("b"))
    assert event.call(rt.epoch) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"c": "(first=True)"}, "cab"),
        ({"a": "(last=True)"}, "bca"),
        ({"a": "(after='c')"}, "bca"),
        ({"c": "(before=['a'])"}, "bca"),
        ({"c": "(first=True)", "b": "(first=True)"}, "bca"),
        ({"a": "(after=['absent'])"}, "abc"),
        ({"a": "(first=True, after=['c'])"}, "bca"),
    ],
)
def test_a_plugin_may_ask_for_a_place_in_the_order(rt, options, expected):
    load(rt, *(taking_part(name, options.get(name, "")) for name in "abc"))
    assert "".join(event.call(rt.epoch)) == expected


def test_a_change_that_closes_a_circle_is_refused(rt):
    load(rt, taking_part("a", "(after=['b'])"), taking_part("b"))
    epoch = rt.epoch
    with pytest.raises(IncompatibleError, match=r"circle: .*a\.f.*b\.f"):
        rt.reload("b", taking_part("b", "(after=['a'])"))
    assert rt.epoch is epoch
    assert event.call(rt.epoch) == ["b", "a"]


def test_none_is_not_a_result(rt):
    load(rt, taking_part("a", result="None"), taking_part("b"))
    assert event.call(rt.epoch) == ["b"]
    assert event.first(rt.epoch) == "b"


def test_the_first_result_ends_the_call(rt):
    load(rt, taking_part("a"), taking_part("b", result="1 / 0"))
    assert event.first(rt.epoch) == "a"
    with pytest.raises(ZeroDivisionError):
        event.call(rt.epoch)


def test_a_hook_without_implementations(rt):
    assert event.call(rt.epoch) == []
    assert event.first(rt.epoch) is None
    assert event.ask(rt.epoch)


def test_an_objection_names_the_export_and_the_reason(rt):
    load(
        rt,
        taking_part("a", result="True"),
        taking_part("b", result="Refusal('too late')"),
        taking_part("c", result="False"),
    )
    verdict = event.ask(rt.epoch)
    assert not verdict
    assert verdict.refusals == (Refusal("too late", "b.f"), Refusal("", "c.f"))
    assert [str(refusal) for refusal in verdict.refusals] == ["b.f: too late", "c.f"]


def test_coroutine_functions_are_awaited_one_after_another(rt):
    load(rt, taking_part("a"), plugin("b", "@event\nasync def f(): return 'b'\n"))
    assert asyncio.run(event.acall(rt.epoch)) == ["a", "b"]


def test_an_operation_keeps_its_implementations_and_their_order(rt):
    load(rt, taking_part("a"), taking_part("b"))
    with rt.operation("label") as op:
        rt.reload("a", taking_part("a", "(last=True)", "'A'"), drain_timeout=0.0)
        assert event.call(op) == ["a", "b"]
        assert event.call(rt.epoch) == ["b", "A"]


def test_a_call_keeps_no_generation_after_it(rt):
    load(rt, taking_part("a"))
    event.call(rt.epoch)
    cut = rt.reload("a", taking_part("a"))
    assert cut.drained
    assert cut.reclaimed


@pytest.mark.parametrize("body", ["return False", "return Refusal('no')", "raise OSError('gone')"])
def test_an_async_veto_never_passes_for_consent(rt, body):
    load(rt, plugin("a", f"@event\nasync def f(): {body}\n"))
    for sync in (event.ask, event.call, event.first):
        with pytest.raises(HookAnswerError, match=r"a\.f .*await.*acall, afirst or aask") as caught:
            sync(rt.epoch)
        assert caught.value.plugin == "a"
    if "raise" in body:
        with pytest.raises(OSError, match="gone"):
            asyncio.run(event.aask(rt.epoch))
    else:
        assert not asyncio.run(event.aask(rt.epoch))


def test_the_async_forms_accept_plain_and_async_functions(rt):
    load(
        rt,
        plugin("a", "@event\nasync def f(): return None\n"),
        taking_part("b", result="Refusal('b')"),
        plugin("c", "@event\nasync def f(): return Refusal('c')\n"),
    )
    assert asyncio.run(event.afirst(rt.epoch)) == Refusal("b")
    verdict = asyncio.run(event.aask(rt.epoch))
    assert verdict.refusals == (Refusal("b", "b.f"), Refusal("c", "c.f"))
    rt.remove("b")
    rt.remove("c")
    assert asyncio.run(event.afirst(rt.epoch)) is None
    assert asyncio.run(event.aask(rt.epoch))


@pytest.mark.parametrize("answer", ["0", "''", "'no'", "[]", "iter([False])"])
def test_an_ambiguous_answer_is_not_consent(rt, answer):
    load(rt, taking_part("a", result=answer))
    with pytest.raises(HookAnswerError, match=r"a\.f answered test\.event"):
        event.ask(rt.epoch)
    with pytest.raises(HookAnswerError, match=r"a\.f answered test\.event"):
        asyncio.run(event.aask(rt.epoch))


@pytest.mark.parametrize(
    "body",
    [
        "@event\ndef f(): yield Refusal('no')\n",
        "@event\nasync def f(): yield Refusal('no')\n",
        "class C:\n    def __call__(self): yield 1\nf = C()\n"
        "def register(ctx): ctx.export(event, f, name='f')\n",
    ],
)
def test_a_generator_function_is_refused(rt, body):
    with pytest.raises(ExportError, match="yield"):
        load(rt, plugin("a", body))


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_place_beside_its_own_plugin_is_refused(rt, side):
    with pytest.raises(ExportError, match=f"{side}='a' is its own plugin"):
        load(rt, taking_part("a", f"({side}='a')"))


@pytest.mark.parametrize("parameters", ["", "order", "dry", "order, dry, more", "o, *, dry"])
def test_an_implementation_that_could_not_be_called_is_refused(rt, parameters):
    with pytest.raises(ExportError, match="it is called as"):
        load(rt, plugin("a", f"@checked\ndef f({parameters}): pass\n"))


@pytest.mark.parametrize(
    "parameters",
    [
        "o, dry=False",
        "dry=None, order=None",
        "order, dry",
        "order, /, dry=False",
        "*a",
        "order, *rest, dry=True",
    ],
)
def test_an_implementation_must_take_arguments_by_name_and_by_position(rt, parameters):
    with pytest.raises(ExportError, match="it is called as"):
        load(rt, plugin("a", f"@optional\ndef f({parameters}): pass\n"))


@pytest.mark.parametrize(
    ("hook", "parameters"),
    [
        ("optional", "order, dry=True"),
        ("optional", "order, dry=True, more=1"),
        ("optional", "*args, **kw"),
        ("anything", "other, *rest, **kw"),
        ("anything", "*rest, **kw"),
    ],
)
def test_an_implementation_may_take_more(rt, hook, parameters):
    load(rt, plugin("a", f"@{hook}\ndef f({parameters}): return 1\n"))
    assert list(rt.generation("a").exports)


@pytest.mark.parametrize("parameters", ["first, *rest", "first, **named", "first"])
def test_an_implementation_must_take_arguments_that_the_specification_leaves_open(rt, parameters):
    with pytest.raises(ExportError, match="it is called as"):
        load(rt, plugin("a", f"@anything\ndef f({parameters}): pass\n"))


@pytest.mark.parametrize("parameters", ["order, dry", "order, *, dry=False", "*args, **kw"])
def test_an_implementation_that_can_be_called_is_accepted(rt, parameters):
    load(rt, plugin("a", f"@checked\ndef f({parameters}): return 1\n"))
    assert checked.call(rt.epoch, "order", dry=True) == [1]


@pytest.mark.parametrize("options", ["(early=True)", "(first=True, last=True)"])
def test_an_invalid_option_is_refused(rt, options):
    with pytest.raises(Exception, match=r"options|both first and last"):
        load(rt, taking_part("a", options))
