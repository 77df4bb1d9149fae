"""The holders of a generation are named in words that a person can act on."""

import asyncio
import gc
import threading
from types import MethodType

import pytest
from tests.conftest import tool

from epochal import Runtime
from epochal._core.change.retirement import Retirement
from epochal.errors import DrainTimeoutError

pytestmark = pytest.mark.usefixtures("whole_heap")

HOST_LIST = []


class HostObject:
    """An object of the host that keeps a function."""


HOST_OBJECT = HostObject()

CODE = """
import asyncio
@tool
def f(): return 1
@tool
def rows():
    yield 1
    yield 2
@tool
async def poll(started, event):
    started.set()
    await event.wait()
@tool
async def stream():
    yield 1
@tool
def boom(): 1 / 0
@tool
def wait(started, event):
    started.set()
    assert event.wait(20)
class Index:
    def look(self): return 1
@tool
def methodical(self=None): return 1
def register(ctx):
    ctx.export(tool, Index().look, name="look")
    ctx.export(tool, len, name="length")
"""


@pytest.fixture
def geo(rt, plugins):
    rt.load(plugins.write("geo", CODE))

    def export(name):
        return rt.epoch[tool][f"geo.{name}"]

    yield export
    HOST_LIST.clear()
    vars(HOST_OBJECT).clear()


def holders_after_a_reload(rt):
    gc.collect()
    old = rt.generation("geo")
    cut = rt.reload("geo", drain_timeout=0.0)
    assert not cut.drained
    now = old.known_holders() or old.holders()
    assert tuple(map(str, cut.holders)) == tuple(map(str, now)), (
        "the report lists the holders that a look finds now"
    )
    return "\n".join(map(str, cut.holders))


def kept_function(geo):
    HOST_LIST.append(geo("f"))


def kept_in_a_nested_container(geo):
    HOST_LIST.append({"handlers": (geo("f"),)})


def kept_as_attribute(geo):
    HOST_OBJECT.callback = geo("f")


def kept_bound_method(geo):
    HOST_LIST.append(geo("look"))


def kept_c_function(geo):
    HOST_LIST.append(geo("length"))


def suspended_generator(geo):
    HOST_LIST.append(generator := geo("rows")())
    next(generator)


def kept_exception(geo):
    try:
        geo("boom")()
    except ZeroDivisionError as error:
        HOST_LIST.append(error.with_traceback(error.__traceback__.tb_next))


def kept_epoch(geo):
    HOST_LIST.append(geo.__closure__[0].cell_contents.epoch)


def kept_pins(geo):
    HOST_LIST.append(geo.__closure__[0].cell_contents.epoch.pins(["geo"]))


def kept_table(geo):
    HOST_LIST.append(geo.__closure__[0].cell_contents.epoch[tool])


@pytest.mark.parametrize(
    ("hold", "words"),
    [
        (kept_function, ["captured function 'f'", "test_holders.HOST_LIST[0]"]),
        (kept_in_a_nested_container, ["'f'", "HOST_LIST[0]['handlers'][0]"]),
        (kept_as_attribute, ["'f'", "test_holders.HOST_OBJECT.callback"]),
        (kept_bound_method, ["Index.look", "HOST_LIST[0]"]),
        (kept_c_function, ["len", "HOST_LIST[0]"]),
        (suspended_generator, ["generator 'rows' suspended at geo.py", "HOST_LIST[0]"]),
        (kept_exception, ["exception", "HOST_LIST[0]", "geo.py", "boom"]),
        (kept_epoch, ["epoch 1", "HOST_LIST[0]"]),
        (kept_pins, ["lease", "HOST_LIST[0][0]"]),
        (kept_table, ["HOST_LIST[0]"]),
    ],
)
def test_a_kept_object_is_named_with_its_path(rt, geo, hold, words):
    hold(geo)
    text = holders_after_a_reload(rt)
    assert all(word in text for word in words), text
    assert "native code" not in text, "the look's own references are not holders"
    assert "_core" not in text


def test_a_running_call_is_named_with_its_thread_and_line(rt, geo):
    started, event = threading.Event(), threading.Event()
    thread = threading.Thread(target=geo("wait"), args=(started, event), name="reporter")
    thread.start()
    try:
        assert started.wait(10)
        text = holders_after_a_reload(rt)
        assert "thread 'reporter' at geo.py:" in text
        assert "in wait" in text
    finally:
        event.set()
        thread.join(10)


def test_a_local_variable_is_named_with_its_function(rt, geo):
    captured = geo("f")
    text = holders_after_a_reload(rt)
    assert "local variable 'captured'" in text
    assert "test_holders.py" in text
    assert "test_a_local_variable_is_named_with_its_function" in text
    assert captured() == 1


def test_a_suspended_task_is_named_with_its_line():
    async def main(rt, plugins):
        await rt.aload(plugins.write("geo", CODE))
        started, event = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(rt.epoch[tool]["geo.poll"](started, event), name="poller")
        await started.wait()
        cut = await rt.areload("geo", drain_timeout=0.0)
        text = "\n".join(map(str, cut.holders))
        assert "task 'poller' at geo.py:" in text, text
        event.set()
        await task

    run_with_runtime(main)


def test_a_draining_dependent_is_named(rt, plugins, geo):
    rt.load(plugins.write("user", "@tool\ndef g(): return 1\n", requires=["geo"]))
    HOST_LIST.append(rt.epoch[tool]["user.g"])
    text = "\n".join(
        line
        for swap in rt.remove("geo", cascade=True, drain_timeout=0.0).swaps
        for line in (f"{swap.plugin}: {holder}" for holder in swap.holders)
    )
    assert "geo: user#0, which requires it" in text


def test_a_look_holds_nothing(rt, geo):
    captured = geo("f")
    old = rt.generation("geo")
    gc.disable()
    try:
        assert old.holders()
        rt.reload("geo", drain_timeout=0.0)
        assert old.holders()
        del captured
        assert not old.holders()
        assert rt.reload("geo", drain_timeout=0.05).drained
    finally:
        gc.enable()


def test_a_look_does_not_prolong_the_life_of_other_threads_variables(rt, geo, monkeypatch):
    """Before Python 3.13 a frame that was looked at keeps a copy of its variables."""
    monkeypatch.setattr(Retirement, "_name_holders", lambda _: True)  # a second look drops it
    go_on, dropped, ended = threading.Event(), threading.Event(), threading.Event()

    def worker():
        captured = geo("f")
        captured()
        started.set()
        go_on.wait(20)
        del captured
        dropped.set()
        ended.wait(20)

    started = threading.Event()
    thread = threading.Thread(target=worker)
    thread.start()
    try:
        assert started.wait(10)
        old = rt.generation("geo")
        gc.disable()
        assert any("local variable 'captured'" in line for line in map(str, old.holders()))
        go_on.set()
        assert dropped.wait(10)
        assert rt.reload("geo", drain_timeout=1.0).drained
    finally:
        gc.enable()
        ended.set()
        thread.join(10)


def test_a_look_leaves_the_result_of_locals_unchanged(rt, geo):
    secret = 41
    variables = locals()
    assert rt.generation("geo").holders()
    assert variables["secret"] == secret


def test_holders_beyond_the_list_are_counted(rt, geo):
    HOST_LIST.extend({"n": n, "f": geo("f")} for n in range(30))
    text = holders_after_a_reload(rt)
    assert "more" in text.splitlines()[-1]


def test_the_hand_driven_protocol_names_holders_too():
    from epochal import EpochFencedReload, LifecycleState, PluginLifecycle

    lifecycle = PluginLifecycle("geo")
    lifecycle.set(LifecycleState.ACTIVE)
    HOST_LIST.append(lifecycle.lease("request 17"))
    reload = EpochFencedReload(lifecycle)
    reload.begin_drain()
    with pytest.raises(DrainTimeoutError) as caught:
        reload.wait_for_drain(timeout=0)
    assert caught.value.holders
    assert "request 17" in str(caught.value.holders[0])
    assert "HOST_LIST[0]" in str(caught.value.holders[0])
    HOST_LIST.clear()


def run_with_runtime(main):
    import tempfile
    from pathlib import Path

    from tests.conftest import PluginFolder

    with tempfile.TemporaryDirectory() as folder, Runtime() as rt:
        asyncio.run(main(rt, PluginFolder(Path(folder))))


# --- garbage, and many of them -------------------------------------------------------------------

GARBAGE = """
import gc
@tool
def f():
    try: raise ValueError
    except ValueError as error: last = error  # its traceback has this frame: a cycle
    gc.collect()  # what is alive now grows old
"""


@pytest.mark.parametrize("limit", [0.0, 0.05, 0.25])
def test_garbage_is_nobody(rt, plugins, limit):
    """Also where the limit is the instant of a collection: 0.05 s and 0.25 s are."""
    rt.load(plugins.write("geo", GARBAGE))
    rt.epoch[tool]["geo.f"]()
    cut = rt.reload("geo", drain_timeout=limit)
    assert cut.drained, cut.holders
    assert not cut.holders


def test_a_look_for_holders_collects_first(rt, plugins):
    rt.load(plugins.write("geo", GARBAGE))
    HOST_LIST.append(rt.epoch[tool]["geo.f"])
    HOST_LIST[0]()
    gc.disable()
    try:
        old = rt.generation("geo")
        (holder, *others) = rt.reload("geo", drain_timeout=0.0).holders
        HOST_LIST[0]()
        assert [str(holder), *map(str, others)] == list(map(str, old.holders()))
    finally:
        gc.enable()
        HOST_LIST.clear()


def many_generators(geo):
    HOST_LIST.extend(geo("rows")() for _ in range(3_000))
    for generator in HOST_LIST:
        next(generator)


def many_frames(geo):
    for _ in range(3_000):
        try:
            geo("boom")()
        except ZeroDivisionError as error:
            HOST_LIST.append(error)


def many_methods(geo):
    HOST_LIST.extend(MethodType(geo("methodical"), number) for number in range(3_000))


def many_dictionaries(geo):
    HOST_LIST.extend({"callback": geo("f")} for _ in range(3_000))


@pytest.mark.parametrize("hold", [many_generators, many_frames, many_methods, many_dictionaries])
def test_thousands_of_holders_are_counted_and_twenty_named(rt, geo, hold, monkeypatch):
    walks, walk = [], gc.get_referrers

    def counted(*targets):
        walks.append(len(targets))
        return [referrer for referrer in walk(*targets) if referrer is not targets]

    monkeypatch.setattr(gc, "get_referrers", counted)
    hold(geo)
    holders = rt.reload("geo", drain_timeout=0.0).holders
    assert len(holders) == 21
    assert str(holders[-1]) == "and 2980 more"
    assert all(f"{__name__}.HOST_LIST[" in str(holder) for holder in holders[:20])
    assert len(walks) < 40, "the number of heap walks does not grow with that of the holders"
    assert max(walks) <= 16, "a heap walk stops other threads for longer, the more it asks about"


def test_of_each_sort_of_holder_one_is_named_before_the_second_of_any(rt, geo):
    many_generators(geo)
    HOST_OBJECT.callback = geo("f")
    holders = rt.reload("geo", drain_timeout=0.0).holders
    assert f"captured function 'f' in {__name__}.HOST_OBJECT.callback" in map(str, holders)


def test_what_is_frozen_is_said_not_to_be_looked_at(rt, geo):
    HOST_LIST.append(geo("f"))
    gc.freeze()
    try:
        holders = rt.reload("geo", drain_timeout=0.0).holders
    finally:
        gc.unfreeze()
    assert "gc.freeze()" in str(holders[-1])
    assert len(holders) >= 2, "the lease itself is named, too"
