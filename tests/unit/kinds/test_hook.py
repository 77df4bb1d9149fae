"""Hooks: order, results, vetoes, and what changes them."""

import asyncio

import pytest

from epochal import Runtime
from epochal._core.artifact import Artifact
from epochal.errors import ExportError, IncompatibleError
from epochal.kinds.hook import Hook, Refusal

event = Hook("test.event")
checked = Hook("test.checked", spec=lambda order, *, dry: None)

HEADER = """
# /// plugin
# id = "{id}"
# version = "1"
# ///
from tests.unit.kinds.test_hook import checked, event
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


def test_without_a_wish_the_order_is_that_of_the_plugins_ids(rt):
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
        ({"a": "(after=['nobody'])"}, "abc"),
        ({"a": "(first=True, after=['c'])"}, "bca"),
    ],
)
def test_a_plugin_may_say_where_it_wants_to_be(rt, options, expected):
    load(rt, *(taking_part(name, options.get(name, "")) for name in "abc"))
    assert "".join(event.call(rt.epoch)) == expected


def test_a_circle_refuses_the_change_that_would_close_it(rt):
    load(rt, taking_part("a", "(after=['b'])"), taking_part("b"))
    epoch = rt.epoch
    with pytest.raises(IncompatibleError, match=r"circle: .*a\.f.*b\.f"):
        rt.reload("b", taking_part("b", "(after=['a'])"))
    assert rt.epoch is epoch
    assert event.call(rt.epoch) == ["b", "a"]


def test_none_is_no_result(rt):
    load(rt, taking_part("a", result="None"), taking_part("b"))
    assert event.call(rt.epoch) == ["b"]
    assert event.first(rt.epoch) == "b"


def test_the_first_result_ends_the_call(rt):
    load(rt, taking_part("a"), taking_part("b", result="1 / 0"))
    assert event.first(rt.epoch) == "a"
    with pytest.raises(ZeroDivisionError):
        event.call(rt.epoch)


def test_nobody_takes_part(rt):
    assert event.call(rt.epoch) == []
    assert event.first(rt.epoch) is None
    assert event.ask(rt.epoch)


def test_whoever_objects_is_named_with_the_reason(rt):
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


def test_an_operation_goes_on_with_those_who_took_part_as_it_began(rt):
    load(rt, taking_part("a"), taking_part("b"))
    with rt.operation("one") as op:
        rt.reload("a", taking_part("a", "(last=True)", "'A'"), drain_timeout=0.0)
        assert event.call(op) == ["a", "b"]
        assert event.call(rt.epoch) == ["b", "A"]


def test_a_call_holds_nobody_after_it(rt):
    load(rt, taking_part("a"))
    event.call(rt.epoch)
    cut = rt.reload("a", taking_part("a"))
    assert cut.drained
    assert cut.reclaimed


@pytest.mark.parametrize("parameters", ["", "order", "dry", "order, dry, more"])
def test_an_implementation_that_could_not_be_called_is_refused(rt, parameters):
    with pytest.raises(ExportError, match="it is called as"):
        load(rt, plugin("a", f"@checked\ndef f({parameters}): pass\n"))


@pytest.mark.parametrize("parameters", ["order, dry", "order, *, dry=False", "*args, **kw"])
def test_an_implementation_that_can_be_called_is_taken(rt, parameters):
    load(rt, plugin("a", f"@checked\ndef f({parameters}): return 1\n"))
    assert checked.call(rt.epoch, "order", dry=True) == [1]


@pytest.mark.parametrize("options", ["(early=True)", "(first=True, last=True)"])
def test_an_option_that_cannot_be_is_refused(rt, options):
    with pytest.raises(Exception, match=r"options|both first and last"):
        load(rt, taking_part("a", options))
