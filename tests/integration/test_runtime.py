"""The runtime's promises, E1 to E7 and flaws 5 to 9 of the design, each on a real plugin."""

import gc
import sys
import threading
import time
import weakref

import pytest
from tests.conftest import tool
from tests.sizes import sized

from epochal import Epoch, LifecycleState, Runtime
from epochal.errors import (
    AlreadyLoadedError,
    ArtifactError,
    CapabilityError,
    DependencyCycleError,
    ExportError,
    HostError,
    IncompatibleError,
    InitError,
    LinkError,
    ManifestError,
    MissingDependencyError,
    NestedChangeError,
    NotActiveError,
    OperationEndedError,
    PhaseTimeoutError,
    RequiredByError,
    RuntimeClosedError,
    UnknownExportError,
    UnknownPluginError,
    VersionConflictError,
)

VERSIONED = """
LOG = []
@tool
def version():
    return {n}

@tool
def wait_for(event, started=None):
    if started is not None:
        started.set()
    assert event.wait(20)
    assert not LOG, "used after shutdown"
    return {n}

def shutdown():
    LOG.append("down")
"""


def versioned(plugins, n, plugin="geo", **kw):
    return plugins.write(plugin, VERSIONED.format(n=n), version=f"{n}.0", **kw)


def call(rt, name, *args):
    return rt.epoch[tool][name](*args)


def in_thread(work, *args):
    """Call `work` on a thread; return the thread and the list that gets its result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(work(*args)))
    thread.start()
    return thread, results


# --- load, reload, remove ------------------------------------------------------------------------


def test_load_reload_and_remove_report_each_swap(rt, plugins):
    cutover = rt.load(versioned(plugins, 1))
    assert call(rt, "geo.version") == 1
    assert (cutover.published, cutover.epoch_before, cutover.epoch_after) == (True, 0, 1)
    assert cutover.plugins == ("geo",)
    assert cutover.swaps[0].old is None
    assert rt.generation("geo").state is LifecycleState.ACTIVE

    cutover = rt.reload("geo", versioned(plugins, 2))
    assert call(rt, "geo.version") == 2
    swap = cutover.swaps[0]
    assert (swap.old.generation, swap.new.generation) == (0, 1)
    assert (swap.old.version, swap.new.version) == ("1.0", "2.0")
    assert swap.old.digest != swap.new.digest
    assert cutover.drained
    assert cutover.reclaimed
    assert not cutover.failures
    assert {"wait", "read", "plan", "link", "publish", "shutdown"} <= cutover.phases_ms.keys()

    cutover = rt.remove("geo")
    assert cutover.swaps[0].new is None
    with pytest.raises(KeyError, match=r"geo\.version"):
        call(rt, "geo.version")
    with pytest.raises(UnknownPluginError):
        rt.generation("geo")


def test_a_reload_without_a_source_reads_the_same_path_again(rt, plugins):
    rt.load(versioned(plugins, 1))
    versioned(plugins, 2)
    rt.reload("geo")
    assert call(rt, "geo.version") == 2


def test_of_two_saves_of_equal_length_within_a_second_the_second_runs(rt, plugins):
    rt.load(versioned(plugins, 1))
    for n in (2, 3, 4, 5):
        versioned(plugins, n)
        rt.reload("geo")
        assert call(rt, "geo.version") == n


def test_an_error_of_a_wrong_call_names_the_right_call(rt, plugins):
    path = versioned(plugins, 1)
    with pytest.raises(UnknownPluginError, match="no plugin 'geo' is active"):
        rt.reload("geo", path)
    with pytest.raises(UnknownPluginError):
        rt.remove("geo")
    rt.load(path)
    with pytest.raises(AlreadyLoadedError, match="reload"):
        rt.load(path)
    with pytest.raises(ArtifactError, match="is plugin 'units', not 'geo'"):
        rt.reload("geo", versioned(plugins, 1, "units"))
    with pytest.raises(ArtifactError):
        rt.reload("geo", plugins.root / "nowhere.py")
    with pytest.raises(HostError, match="named 2 times"), rt.change() as change:
        change.reload("geo")
        change.remove("geo")
    with pytest.raises(TypeError, match="JSON"):
        rt.reload("geo", config={"x": object()})
    with pytest.raises(UnknownExportError, match=r"close: geo\.version"):
        rt.epoch.export(tool, "geo.versoin")
    with pytest.raises(KeyError, match=r"geo\.versoin"):
        rt.epoch[tool]["geo.versoin"]


# --- E1: one consistent set ----------------------------------------------------------------------


def test_e1_an_operation_sees_one_epoch_from_first_line_to_last(rt, plugins):
    rt.load(versioned(plugins, 1))
    with rt.operation("work") as op:
        before = op[tool]["geo.version"]()
        rt.reload("geo", versioned(plugins, 2), drain_timeout=0.0)
        assert op[tool]["geo.version"]() == before == 1
        assert op.number == 1
    assert call(rt, "geo.version") == 2


def test_e1_a_change_of_several_plugins_becomes_visible_at_once(rt, plugins):
    def both(n):
        return versioned(plugins, n, "a"), versioned(plugins, n, "b")

    with rt.change() as change:
        for path in both(1):
            change.load(path)
    stop, mixed, seen = threading.Event(), [], set()

    def reader():
        while not stop.is_set():
            epoch = rt.epoch
            pair = (epoch[tool]["a.version"](), epoch[tool]["b.version"]())
            seen.add(pair)
            if pair[0] != pair[1]:
                mixed.append(pair)

    threads = [threading.Thread(target=reader) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(2, sized(8, 22)):
        paths = both(n)
        with rt.change() as change:
            change.reload("a", paths[0])
            change.reload("b", paths[1])
        assert change.cutover.epoch_after == n
    stop.set()
    for thread in threads:
        thread.join(10)
    assert not mixed
    assert len(seen) > 1


def test_an_epoch_is_read_only_and_its_id_is_of_its_contents(rt, plugins):
    rt.load(versioned(plugins, 1))
    for alter in (
        lambda epoch: epoch.clear(),
        lambda epoch: epoch.__setitem__(tool, {}),
        lambda epoch: epoch.update({tool: {}}),
    ):
        with pytest.raises(TypeError, match="read-only"):
            alter(rt.epoch)
    with pytest.raises(TypeError):
        rt.epoch[tool]["geo.version"] = None
    assert isinstance(rt.epoch, Epoch)
    first = rt.epoch.id
    rt.reload("geo", config={"k": 1})
    assert rt.epoch.id != first
    rt.reload("geo", config={})
    assert rt.epoch.id == first, "the same code, configuration and grants are the same epoch id"
    with Runtime() as other:
        other.load(versioned(plugins, 1))
        assert other.epoch.id == first


# --- E2: no gap ----------------------------------------------------------------------------------


def test_e2_an_export_of_both_versions_is_never_missing(rt, plugins):
    rt.load(versioned(plugins, 1))
    stop, missing, lookups = threading.Event(), [], [0]

    def reader():
        while not stop.is_set():
            lookups[0] += 1
            try:
                call(rt, "geo.version")
            except KeyError as error:
                missing.append(error)

    thread = threading.Thread(target=reader)
    thread.start()
    for n in range(2, sized(12, 60)):
        rt.reload("geo", versioned(plugins, n))
    stop.set()
    thread.join(10)
    assert not missing
    assert lookups[0] > 100


# --- E3: dependents ------------------------------------------------------------------------------

UNITS = """
@tool
def factor():
    return {n}
"""
GEO = """
def init(ctx):
    global units
    units = ctx.require("units")

@tool
def km():
    return units.factor()

@tool
def hold(event, started):
    started.set()
    assert event.wait(20)
    return units.factor()
"""


def load_geo_and_units(rt, plugins):
    units = plugins.write("units", UNITS.format(n=1), version="1.0")
    geo = plugins.write("geo", GEO, requires=["units>=1"])
    with rt.change() as change:  # in any order: the change orders its requests itself
        change.load(geo)
        change.load(units)


def test_e3_a_reload_relinks_dependents_in_the_same_change(rt, plugins):
    load_geo_and_units(rt, plugins)
    old = rt.epoch
    cutover = rt.reload(
        "units", plugins.write("units", UNITS.format(n=2), version="1.1"), drain_timeout=0.0
    )
    assert cutover.plugins == ("units", "geo")
    assert rt.generation("geo").number == 1
    assert call(rt, "geo.km") == 2
    assert old[tool]["geo.km"]() == 1, "geo of the old epoch still calls units of the old epoch"


def test_e3_dependencies_shut_down_after_their_dependents(rt, plugins):
    order = []
    rt.events.subscribe(
        lambda event: (
            order.append(f"{event.plugin}#{event.generation}")
            if getattr(event, "new", None) is LifecycleState.REMOVED
            else None
        )
    )
    load_geo_and_units(rt, plugins)
    go_on, started = threading.Event(), threading.Event()
    thread, results = in_thread(call, rt, "geo.hold", go_on, started)
    assert started.wait(10)
    cutover = rt.reload("units", drain_timeout=0.05)
    assert not cutover.drained
    assert [swap.drained for swap in cutover.swaps] == [False, False]
    go_on.set()
    thread.join(10)
    rt.close()
    assert results == [1]
    assert sorted(order) == ["geo#0", "geo#1", "units#0", "units#1"]
    assert order.index("geo#0") < order.index("units#0")
    assert order.index("geo#1") < order.index("units#1")


def test_e3_a_leaking_dependent_returns_its_borrowed_exports(rt, plugins):
    load_geo_and_units(rt, plugins)
    stored = []  # the host keeps geo's globals, and with them the export of units in them
    with rt.operation() as op:
        stored.append(op[tool]["geo.km"].__globals__)
    cutover = rt.reload("units", plugins.write("units", UNITS.format(n=2)))
    assert cutover.drained
    by_plugin = {swap.plugin: swap for swap in cutover.swaps}
    assert not by_plugin["geo"].reclaimed
    assert by_plugin["geo"].leaks


def test_an_error_of_requirements_names_every_plugin_concerned(rt, plugins):
    geo = plugins.write("geo", GEO, requires=["units>=1"])
    with pytest.raises(MissingDependencyError, match=r"'geo'.*units>=1"):
        rt.load(geo)
    rt.load(plugins.write("units", UNITS.format(n=1), version="1.0"))
    rt.load(geo)
    with pytest.raises(VersionConflictError, match=r"'geo'.*units>=1.*0\.9"):
        rt.reload("units", plugins.write("units", UNITS.format(n=1), version="0.9"))
    assert call(rt, "geo.km") == 1


def test_an_error_of_a_cycle_names_all_its_members(rt, plugins):
    with pytest.raises(DependencyCycleError) as caught, rt.change() as change:
        change.load(plugins.write("a", "", requires=["b"]))
        change.load(plugins.write("b", "", requires=["c"]))
        change.load(plugins.write("c", "", requires=["a"]))
    assert sorted(caught.value.members) == ["a", "b", "c"]


def test_a_required_plugin_is_removed_only_together_with_its_dependents(rt, plugins):
    load_geo_and_units(rt, plugins)
    with pytest.raises(RequiredByError, match="geo") as caught:
        rt.remove("units")
    assert caught.value.dependents == ("geo",)
    cutover = rt.remove("units", cascade=True)
    assert set(cutover.plugins) == {"geo", "units"}
    assert not rt.epoch.generations
    load_geo_and_units(rt, plugins)
    with rt.change() as change:  # the dependent gives its requirement up in the same change
        change.remove("units")
        change.reload("geo", plugins.write("geo", "@tool\ndef km(): return 9\n"))
    assert call(rt, "geo.km") == 9


def test_a_plugin_cannot_require_one_that_its_manifest_does_not_list(rt, plugins):
    rt.load(plugins.write("units", UNITS.format(n=1)))
    with pytest.raises(MissingDependencyError, match='add "units" to `requires`'):
        rt.load(plugins.write("geo", GEO))


def test_distributions_are_checked_before_any_code_runs(rt, plugins):
    path = plugins.write("geo", "raise AssertionError('ran')")
    path.write_text(
        path.read_text().replace(
            "requires = []", 'dependencies = ["no-such-distribution>=1", "packaging<1"]'
        )
    )
    with pytest.raises(MissingDependencyError, match="no-such-distribution>=1"):
        rt.load(path)
    path.write_text(path.read_text().replace('"no-such-distribution>=1", ', ""))
    with pytest.raises(VersionConflictError, match="packaging<1"):
        rt.load(path)


# --- E4: shutdown once, after the last lease ------------------------------------------------------


def test_e4_shutdown_waits_for_a_running_call(rt, plugins):
    rt.load(versioned(plugins, 1))
    go_on, started = threading.Event(), threading.Event()
    thread, results = in_thread(call, rt, "geo.wait_for", go_on, started)
    assert started.wait(10)
    reloading, cutovers = in_thread(rt.reload, "geo", versioned(plugins, 2))
    while rt.epoch.number < 2:
        time.sleep(0)
    assert reloading.is_alive()
    go_on.set()
    thread.join(10)
    reloading.join(10)
    assert results == [1]
    assert cutovers[0].drained
    assert cutovers[0].swaps[0].wakeup_us is not None


def test_e4_a_drain_goes_on_after_its_timeout_and_shuts_nothing_down(rt, plugins):
    rt.load(versioned(plugins, 1))
    old = rt.generation("geo")
    go_on, started = threading.Event(), threading.Event()
    thread, results = in_thread(call, rt, "geo.wait_for", go_on, started)
    assert started.wait(10)
    finished = threading.Event()
    rt.events.subscribe(
        lambda event: finished.set() if type(event).__name__ == "ChangeFinished" else None
    )
    cutover = rt.reload("geo", versioned(plugins, 2), drain_timeout=0.05)
    assert cutover.published
    assert not cutover.drained
    assert not cutover.reclaimed
    assert any("geo.py" in line for line in map(str, cutover.holders))
    assert old.state is LifecycleState.DRAINING
    assert call(rt, "geo.version") == 2
    go_on.set()
    thread.join(10)
    assert results == [1], "the call ended on the old code, which had not been shut down"
    assert finished.wait(10)
    assert old.state is LifecycleState.REMOVED


def test_e4_shutdown_runs_once_for_each_init(rt, plugins, tmp_path):
    log = tmp_path / "log"
    code = f"""
def note(word):
    with open({str(log)!r}, "a") as f:
        f.write(word + " ")
def init(ctx):
    note("init")
    ctx.defer(note, "first")
    ctx.defer(note, "second")
def shutdown():
    note("shutdown")
@tool
def f(): return 1
"""
    rt.load(plugins.write("geo", code))
    rt.reload("geo")
    assert log.read_text().split() == ["init", "init", "shutdown", "second", "first"]
    rt.close()
    assert log.read_text().split()[5:] == ["shutdown", "second", "first"]


def test_e4_an_epoch_in_a_variable_holds_all_its_generations(rt, plugins):
    rt.load(versioned(plugins, 1))
    epoch = rt.epoch
    cutover = rt.reload("geo", drain_timeout=0.05)
    assert not cutover.drained
    assert any("epoch 1" in line for line in map(str, cutover.holders)), cutover.holders
    assert epoch[tool]["geo.version"]() == 1


def test_e4_an_ended_operation_in_a_variable_holds_nothing(rt, plugins):
    rt.load(versioned(plugins, 1))
    with rt.operation("short") as op:
        assert op[tool]["geo.version"]() == 1
    assert rt.reload("geo", drain_timeout=5.0).drained
    with pytest.raises(OperationEndedError, match="short"):
        op[tool]


def test_e4_a_labelled_operation_is_named_among_the_holders(rt, plugins):
    rt.load(versioned(plugins, 1))
    with rt.operation("nightly report"):
        assert any("nightly report" in line for line in map(str, rt.generation("geo").holders()))


def test_a_narrowed_operation_holds_only_the_generations_it_uses(rt, plugins):
    rt.load(versioned(plugins, 1, "a"))
    rt.load(versioned(plugins, 1, "b"))
    with rt.operation("long") as op:
        f = op[tool]["a.version"]
        op.narrow(["a"])
        assert rt.reload("b", drain_timeout=5.0).drained
        assert not rt.reload("a", drain_timeout=0.02).drained
        assert f() == 1
        del f


def test_a_straggler_counts_as_a_use_and_is_named(rt, plugins):
    """A thread that runs a helper of the plugin, and no export, carries no lease."""
    code = """
import threading
def helper(event):
    assert event.wait(20)
@tool
def start(event):
    threading.Thread(target=helper, args=(event,), name="geo-helper").start()
"""
    rt.load(plugins.write("geo", code))
    event = threading.Event()
    call(rt, "geo.start", event)
    old = rt.generation("geo")
    cutover = rt.reload("geo", drain_timeout=0.05)
    assert not cutover.drained
    assert any("geo-helper" in line for line in map(str, cutover.holders))
    assert old.state is LifecycleState.DRAINING
    event.set()
    rt.close()
    assert old.state is LifecycleState.REMOVED


def test_a_thread_started_in_init_is_ended_by_the_plugin_and_is_no_straggler(rt, plugins):
    code = """
import threading
stop = threading.Event()
def loop():
    assert stop.wait(20)
def init(ctx):
    global thread
    thread = threading.Thread(target=loop)
    thread.start()
def shutdown():
    stop.set()
    thread.join(10)
@tool
def f(): return 1
"""
    rt.load(plugins.write("geo", code))
    cutover = rt.reload("geo", drain_timeout=5.0)
    assert cutover.drained
    assert cutover.reclaimed, cutover.leaks


# --- E5: all or nothing --------------------------------------------------------------------------

BROKEN = {
    "syntax": ("def f(:\n", LinkError),
    "raises": ("1 / 0\n", LinkError),
    "exits": ("import sys\nsys.exit(3)\n", LinkError),
    "interrupts": ("raise KeyboardInterrupt\n", LinkError),
    "recurses": ("def f(): return f()\nf()\n", LinkError),
    "register": ("def register(ctx): raise ValueError('no')\n", LinkError),
    "init": ("def init(ctx): raise ValueError('no')\n@tool\ndef version(): return 9\n", InitError),
    "init exits": ("def init(ctx): raise SystemExit(3)\n", InitError),
    "async init": ("async def init(ctx): pass\n", LinkError),
    "bad name": ("tool(name='a b')(lambda: 1)\nx = tool(name='a b')(lambda: 1)\n", ExportError),
    "twice": ("@tool(name='v')\ndef a(): pass\n@tool(name='v')\ndef b(): pass\n", ExportError),
}


@pytest.mark.parametrize("case", BROKEN)
def test_e5_a_version_that_fails_leaves_the_epoch_as_it_was(rt, plugins, case):
    code, error = BROKEN[case]
    rt.load(versioned(plugins, 1))
    rt.load(versioned(plugins, 1, "other"))
    epoch, modules = rt.epoch, set(sys.modules)
    other = versioned(plugins, 2, "other")
    broken = plugins.write("geo", code, version="2.0")
    with pytest.raises(error, match="geo"), rt.change() as change:
        change.reload("other", other)
        change.reload("geo", broken)
    assert rt.epoch is epoch
    assert rt.generation("geo").state is LifecycleState.ACTIVE
    assert rt.generation("other").state is LifecycleState.ACTIVE
    assert call(rt, "geo.version") == call(rt, "other.version") == 1
    assert set(sys.modules) <= modules
    del epoch  # it holds the old generations in use
    rt.reload("geo", versioned(plugins, 3))
    assert call(rt, "geo.version") == 3


def test_e5_no_code_runs_if_the_manifest_is_wrong(rt, plugins):
    path = versioned(plugins, 1)
    rt.load(path)
    epoch = rt.epoch
    path.write_text(
        path.read_text().replace('version = "1.0"', 'vresion = "2"') + "\nprint('ran')\n1/0\n"
    )
    with pytest.raises(ManifestError, match="vresion"):
        rt.reload("geo")
    assert rt.epoch is epoch


def test_e5_a_failed_change_shuts_down_its_staged_generations(rt, plugins, tmp_path):
    log = tmp_path / "log"
    code = """
def note(word):
    with open({log!r}, "a") as f:
        f.write(word + " ")
def init(ctx):
    ctx.defer(note, "closed-{name}")
    if {fail}:
        raise ValueError
def shutdown():
    note("down-{name}")
"""
    a = plugins.write("a", code.format(log=str(log), name="a", fail=False))
    b = plugins.write("b", code.format(log=str(log), name="b", fail=True), requires=["a"])
    with pytest.raises(InitError), rt.change() as change:
        change.load(a)
        change.load(b)
    # Newest first; b has no shutdown, since its init failed.
    assert log.read_text().split() == ["closed-b", "down-a", "closed-a"]


def test_e5_an_error_of_the_rollback_is_a_note_of_the_first_error(rt, plugins):
    code = """
def init(ctx):
    ctx.defer(lambda: 1 / 0)
    raise ValueError("first")
"""
    with pytest.raises(InitError, match="first") as caught:
        rt.load(plugins.write("geo", code))
    assert any("ZeroDivisionError" in note for note in caught.value.__notes__)


def test_e5_an_exception_in_the_block_discards_the_change(rt, plugins):
    path = versioned(plugins, 1)

    class HostsError(Exception):
        pass

    with pytest.raises(HostsError), rt.change() as change:
        change.load(path)
        raise HostsError
    assert not rt.epoch.generations
    assert change.cutover is None


def test_e5_plugin_code_that_blocks_fails_the_change_and_its_thread_is_named(rt, plugins):
    code = """
import threading
gate = threading.Event()
def init(ctx):
    gate.wait(ctx.config["seconds"])
@tool
def version(): return 2
"""
    rt.load(versioned(plugins, 1))
    epoch = rt.epoch
    with pytest.raises(PhaseTimeoutError, match=r"init of plugin 'geo#1'.*epochal change 2"):
        rt.reload("geo", plugins.write("geo", code), config={"seconds": 2.0}, phase_timeout=0.4)
    assert rt.epoch is epoch
    assert call(rt, "geo.version") == 1


def test_closing_does_not_wait_for_the_plugin_error_that_ends_the_block(plugins, monkeypatch):
    monkeypatch.setattr("epochal.runtime._ERROR_LIMIT_S", 0.0)
    with pytest.raises(ZeroDivisionError) as caught, Runtime(drain_timeout=None) as rt:
        rt.load(plugins.write("geo", "@tool\ndef boom(): 1 / 0\n"))
        old = rt.generation("geo")
        call(rt, "geo.boom")
    assert old.state is LifecycleState.DRAINING
    draining = rt._queue._running.live()
    del caught
    assert all(ended.wait(10) for ended in draining)
    assert old.state is LifecycleState.REMOVED


def test_a_dropped_error_releases_the_callers_variables_at_once(rt, plugins, monkeypatch):
    """A cycle through our frames would hold the caller's epoch until a collection."""
    monkeypatch.setattr("epochal._core.change.retirement.collect_soon", lambda **_: None)
    gc.disable()
    try:
        rt.load(versioned(plugins, 1))

        def fail():
            epoch = rt.epoch
            try:
                rt.reload("geo", plugins.write("geo", "1 / 0"))
            except LinkError as error:
                return epoch is rt.epoch, str(error)

        assert fail()[0]
        assert rt.reload("geo", versioned(plugins, 2), drain_timeout=0.02).drained
    finally:
        gc.enable()


def test_the_error_of_a_failed_change_holds_no_generation(rt, plugins):
    rt.load(plugins.write("units", UNITS.format(n=1)))
    code = """
def init(ctx):
    factor = ctx.require("units").factor
    raise ValueError(factor())
"""
    with pytest.raises(InitError) as caught:
        rt.load(plugins.write("geo", code, requires=["units"]))
    assert rt.reload("units", drain_timeout=5.0).drained
    assert "geo.py" in str(caught.traceback[-1].path) or caught.value.__cause__ is not None


def test_a_traceback_has_the_plugins_frames_and_none_of_ours(rt, plugins):
    with pytest.raises(LinkError) as caught:
        rt.load(plugins.write("geo", "def f():\n    1 / 0\nf()\n"))
    frames, tb = [], caught.value.__cause__.__traceback__
    while tb is not None:
        frames.append(tb.tb_frame.f_code.co_name)
        tb = tb.tb_next
    assert frames == ["<module>", "f"]


def test_incompatible_exports_refuse_the_change(rt, plugins):
    from tests.integration.strict_kind import strict

    head = "from tests.integration.strict_kind import strict\n"
    rt.load(plugins.write("geo", head + "@strict\ndef f(a): return 1\n"))
    with pytest.raises(IncompatibleError, match=r"geo\.f.*1 parameters.*2"):
        rt.reload("geo", plugins.write("geo", head + "@strict\ndef f(a, b): return 2\n"))
    assert rt.epoch[strict]["geo.f"](0) == 1


def test_a_hosts_kind_may_refuse_the_removal_of_an_export(rt, plugins):
    head = "from tests.integration.strict_kind import permanent\n"
    rt.load(plugins.write("geo", head + "@permanent\ndef f(): return 1\n"))
    epoch = rt.epoch
    message = r"geo#1 cannot leave out permanent geo\.f of geo#0: ValueError: geo\.f is permanent"
    with pytest.raises(IncompatibleError, match=message):
        rt.reload("geo", plugins.write("geo", head))
    assert rt.epoch is epoch
    del epoch
    rt.remove("geo")


def test_a_hosts_kind_may_demand_that_dependencies_are_exported(rt, plugins):
    head = "from tests.integration.strict_kind import permanent, wrapper\n"
    inner = "def f(): ...\n@wrapper\ndef g(): ...\ng.__wrapped__ = f\n"
    with pytest.raises(
        ExportError, match=r"geo\.g names the permanent f, which plugin 'geo' does not"
    ):
        rt.load(plugins.write("geo", head + inner))
    rt.load(plugins.write("geo", f"{head}@permanent\n{inner}"))


def test_a_dry_run_runs_every_step_before_the_publish(rt, plugins):
    rt.load(versioned(plugins, 1))
    epoch = rt.epoch
    with rt.change(dry_run=True) as change:
        change.reload("geo", versioned(plugins, 2))
    cutover = change.cutover
    assert not cutover.published
    assert rt.epoch is epoch
    assert [step.split()[0] for step in cutover.steps] == [
        *("wait", "read", "plan"),
        *("link", "compare", "init"),
        "build",
        "publish",
        *("drain", "shutdown", "reclaim"),
    ]
    with pytest.raises(LinkError), rt.change(dry_run=True) as change:
        change.reload("geo", plugins.write("geo", "1 / 0"))


def test_an_internal_error_after_the_commit_is_raised_to_the_caller(rt, plugins, monkeypatch):
    def broken(*args, **kw):
        raise RuntimeError("broken reclaim")

    rt.load(versioned(plugins, 1))
    monkeypatch.setattr("epochal._core.generation.generation.reclaim", broken)
    with pytest.raises(RuntimeError, match="broken reclaim") as caught:
        rt.reload("geo", versioned(plugins, 2))
    assert any("is committed" in note for note in caught.value.__notes__)
    assert call(rt, "geo.version") == 2
    monkeypatch.undo()
    assert rt.reload("geo", versioned(plugins, 3)).published, "the failed change released its turn"


# --- E6: publishing ------------------------------------------------------------------------------


def test_e6_no_finalizer_runs_while_an_epoch_is_published(rt, plugins):
    """The finalizer of an object that dies with the old epoch finds the change complete."""
    seen = []

    class Derived:
        def __init__(self, old):
            self.old = old

        def __del__(self):
            seen.append((rt.epoch.number, self.old.state, rt.generation("geo").state))
            raise RuntimeError("a finalizer that fails")

    rt.load(versioned(plugins, 1))
    rt.epoch.derived("planner", lambda _: Derived(rt.generation("geo")))
    unraisable = []
    hook, sys.unraisablehook = sys.unraisablehook, unraisable.append
    try:
        cutover = rt.reload("geo", versioned(plugins, 2))
    finally:
        sys.unraisablehook = hook
    assert cutover.drained
    assert seen == [(2, LifecycleState.DRAINING, LifecycleState.ACTIVE)]
    assert len(unraisable) == 1
    unraisable.clear()


# --- E7: memory ----------------------------------------------------------------------------------


def test_e7_module_functions_and_classes_die_with_their_generation(rt, plugins):
    code = """
class Point:
    def where(self): return Point
@tool
def f(): return Point
"""
    rt.load(plugins.write("geo", code))
    refs = []

    def keep_weakly():
        point = call(rt, "geo.f")
        module = sys.modules[point.where.__globals__["__spec__"].name]
        refs.extend([weakref.ref(point), weakref.ref(module), weakref.ref(module.f)])

    keep_weakly()
    cutover = rt.reload("geo")
    assert cutover.reclaimed
    gc.collect()
    assert [ref() for ref in refs] == [None, None, None]


def test_e7_a_leak_is_named(rt, plugins):
    rt.load(plugins.write("geo", "class Point: pass\n@tool\ndef f(): return Point()\n"))
    values = [call(rt, "geo.f")]
    cutover = rt.reload("geo")
    assert cutover.drained
    assert not cutover.reclaimed
    assert any("Point" in line for line in map(str, cutover.leaks)), cutover.leaks
    assert type(values[0]).__name__ == "Point"


def test_e7_a_removed_generation_leaves_no_entry_in_process_wide_tables(rt, plugins):
    import linecache
    import logging

    before = (set(sys.modules), set(linecache.cache), set(logging.root.manager.loggerDict))
    code = "import logging\nlogging.getLogger(__name__).debug('x')\n@tool\ndef f(): 1/0\n"
    rt.load(plugins.write("geo", code))
    with pytest.raises(ZeroDivisionError):
        call(rt, "geo.f")
    rt.remove("geo")
    after = (set(sys.modules), set(linecache.cache), set(logging.root.manager.loggerDict))
    # The logger named after the plugin stays: the host configures it for all generations.
    for old_names, names in zip(before, after, strict=True):
        assert not {name for name in names - old_names - {"geo"} if "geo" in str(name)}


# --- capabilities, configuration, context --------------------------------------------------------


def test_an_export_of_a_kind_that_was_not_granted_is_refused(rt, plugins):
    path = versioned(plugins, 1)
    with pytest.raises(CapabilityError, match="tool") as caught:
        rt.load(path, grants={"scalar"})
    assert (caught.value.plugin, caught.value.capability) == ("geo", "tool")
    path.write_text(path.read_text().replace("requires = []", 'capabilities = ["scalar"]'))
    with pytest.raises(CapabilityError):
        rt.load(path)


def test_a_plugin_has_the_capabilities_that_it_asks_for_and_is_granted(rt, plugins):
    code = """
def init(ctx):
    global ctx_
    ctx_ = ctx
@tool
def granted(capability): return ctx_.granted(capability)
@tool
def demand(capability): ctx_.demand(capability)
@tool
def config(): return dict(ctx_.config)
"""
    path = plugins.write("geo", code)
    path.write_text(
        path.read_text().replace(
            "requires = []", 'capabilities = ["tool", "net:a.example.org", "fs:data"]'
        )
    )
    rt.load(path, grants={"*", "net:*"}, config={"key": "v"})
    assert call(rt, "geo.granted", "net:a.example.org")
    assert not call(rt, "geo.granted", "net:b.example.org")  # the plugin does not ask for it
    assert not call(rt, "geo.granted", "fs:data")  # the host does not grant it
    with pytest.raises(CapabilityError, match="fs:data"):
        call(rt, "geo.demand", "fs:data")
    assert call(rt, "geo.config") == {"key": "v"}
    rt.reload("geo")
    assert call(rt, "geo.config") == {"key": "v"}, "a reload keeps configuration and grants"


def test_an_object_that_cannot_be_marked_is_exported_by_register(rt, plugins):
    code = """
class Box:
    __slots__ = ("n", "__weakref__")
    def __init__(self): self.n = 3
    def get(self): return self.n
def register(ctx):
    ctx.export(tool, Box().get, name="get")
    ctx.export(tool, len, name="size")
def init(ctx):
    try:
        ctx.export(tool, len, name="late")
    except Exception as error:
        global refused
        refused = error
@tool
def why(): return str(refused)
"""
    rt.load(plugins.write("geo", code))
    assert (call(rt, "geo.get"), call(rt, "geo.size", [1])) == (3, 1)
    assert "outside register" in call(rt, "geo.why")


# --- changes among themselves --------------------------------------------------------------------


def test_plugin_code_inside_a_change_cannot_begin_another(rt, plugins):
    code = """
import tests.integration.test_runtime as host
def init(ctx):
    host.current.remove("other")
"""
    rt.load(versioned(plugins, 1, "other"))
    globals()["current"] = rt
    with pytest.raises(NestedChangeError, match="in the same change"):
        rt.load(plugins.write("geo", code))
    assert call(rt, "other.version") == 1


def test_concurrent_reloads_run_one_after_another(rt, plugins):
    rt.load(versioned(plugins, 1))
    threads = [in_thread(rt.reload, "geo")[0] for _ in range(20)]
    for thread in threads:
        thread.join(30)
    assert rt.generation("geo").number == 20
    assert rt.epoch.number == 21


def test_a_removed_plugin_can_come_back(rt, plugins):
    path = versioned(plugins, 1)
    rt.load(path)
    rt.remove("geo")
    rt.load(path)
    assert rt.generation("geo").number == 1
    assert call(rt, "geo.version") == 1


def test_close_removes_every_plugin_and_refuses_later_changes(plugins):
    rt = Runtime()
    load_geo_and_units(rt, plugins)
    generations = list(rt.epoch.generations.values())
    cutover = rt.close()
    assert set(cutover.plugins) == {"geo", "units"}
    assert {g.state for g in generations} == {LifecycleState.REMOVED}
    assert rt.close() is None
    with pytest.raises(RuntimeClosedError):
        rt.load(versioned(plugins, 1))
    with pytest.raises(RuntimeClosedError):
        rt.operation()


def test_an_error_of_shutdown_is_reported_and_the_change_succeeds(rt, plugins):
    rt.load(plugins.write("geo", "def shutdown(): raise OSError('stuck')\n@tool\ndef f(): pass\n"))
    cutover = rt.reload("geo", versioned(plugins, 2))
    assert cutover.drained
    assert any("OSError: stuck" in line for line in cutover.failures)
    assert call(rt, "geo.version") == 2


def test_no_lease_can_be_taken_on_a_generation_that_drains(rt, plugins):
    rt.load(versioned(plugins, 1))
    old = rt.generation("geo")
    with rt.operation():
        rt.reload("geo", drain_timeout=0.0)
        with pytest.raises(NotActiveError):
            old.lifecycle.lease()


# --- events --------------------------------------------------------------------------------------


def test_events_cover_every_step_despite_a_failing_and_a_blocking_subscriber(rt, plugins):
    seen, stuck = [], threading.Event()
    rt.events.subscribe(lambda event: stuck.wait(20))

    @rt.events.subscribe
    def raises(event):
        raise ValueError("the subscriber's own")

    unsubscribe = rt.events.subscribe(seen.append)
    rt.load(versioned(plugins, 1))
    with pytest.raises(LinkError):
        rt.reload("geo", plugins.write("geo", "1/0"))
    rt.remove("geo")
    stuck.set()
    raises()
    unsubscribe()
    names = [type(event).__name__ for event in seen if type(event).__name__ != "SubscriberFailed"]
    assert names.count("ChangeStarted") == 3
    assert names.count("ChangeCommitted") == 2
    assert names.count("ChangeFailed") == 1
    moves = [
        (event.old.name, event.new.name)
        for event in seen
        if type(event).__name__ == "StateChanged" and event.generation == 0
    ]
    assert moves == [
        ("LOADED", "LINKED"),
        ("LINKED", "INITIALIZED"),
        ("INITIALIZED", "ACTIVE"),
        ("ACTIVE", "DRAINING"),
        ("DRAINING", "REMOVED"),
    ]
    assert any(type(event).__name__ == "SubscriberFailed" for event in seen)


def test_events_become_log_lines(rt, plugins, caplog):
    from epochal.observe import log_events

    caplog.set_level("DEBUG", logger="epochal")
    stop = log_events(rt.events)
    rt.load(versioned(plugins, 1))
    with pytest.raises(LinkError):
        rt.reload("geo", plugins.write("geo", "1/0"))
    stop()
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert ("INFO", "load geo 1.0 (epoch 1)") in lines
    assert any(level == "ERROR" and "rolled back [link]" in text for level, text in lines)


def test_a_reloaded_plugin_keeps_its_place_in_the_epoch(rt, plugins):
    code = "@tool\ndef f(): return 1\n"
    for plugin, requires in (("c", ()), ("a", ("c",)), ("b", ())):
        rt.load(plugins.write(plugin, code, requires=requires))
    assert dict(rt.epoch.since) == {"c": 1, "a": 2, "b": 3}
    rt.reload("c")
    assert list(rt.epoch.generations) == ["c", "a", "b"]
    assert dict(rt.epoch.since) == {"c": 1, "a": 2, "b": 3}
    rt.remove("a")
    rt.load(plugins.write("a", code))
    assert list(rt.epoch.generations) == ["c", "b", "a"]
    assert dict(rt.epoch.since) == {"c": 1, "b": 3, "a": 6}
