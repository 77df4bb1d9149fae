"""One generation: a record that holds nothing in use, and each step of its life."""

import gc

import pytest
from tests.conftest import tool
from tests.unit.core.generation.modules import link, source_candidate

from epochal import Kind, LifecycleState
from epochal._core.generation.generation import NO_EXPORTS
from epochal._core.generation.reclaim import Reclaim
from epochal.errors import IncompatibleError, LinkError

TOOL = "@tool\ndef f(): return 1\n"


class Boxes(Kind):
    """Opens each export as a box, and refuses to close it."""

    def open(self, export):
        return [export.name]

    def close(self, instance):
        raise OSError(f"{instance[0]} is stuck")


boxes = Boxes("boxes")


def test_a_generation_does_not_hold_its_lease():
    leased = link(source_candidate("geo", TOOL))
    generation = leased.generation
    assert generation.live_lease() is leased.lease
    del leased
    assert generation.live_lease() is None


def test_an_export_that_the_host_keeps_holds_the_lease():
    leased = link(source_candidate("geo", TOOL))
    generation, export = leased.generation, leased.carried[tool, "geo.f"]
    del leased
    assert export() == 1
    assert generation.live_lease() is not None
    del export
    assert generation.live_lease() is None


def test_code_that_raises_is_a_link_error_and_leaves_no_exports():
    with pytest.raises(LinkError, match=r"'geo' failed to load: ZeroDivisionError") as caught:
        link(source_candidate("geo", TOOL + "1 / 0\n"))
    assert caught.value.plugin == "geo"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_an_error_of_ours_in_register_is_raised_as_it_is():
    error = IncompatibleError("no")
    with pytest.raises(IncompatibleError) as caught:
        link(source_candidate("geo", "def register(ctx): raise error\n", error=error))
    assert caught.value is error


def test_an_opened_export_is_offered_once_it_is_open_and_never_carried():
    leased = link(source_candidate("geo", TOOL + "@boxes\ndef box(): ...\n", boxes=boxes))
    generation = leased.generation
    assert set(leased.carried) == {(tool, "geo.f")}
    assert generation.wrap(leased.lease) == {}
    generation.init()
    assert generation.state is LifecycleState.INITIALIZED
    assert generation.opened[boxes, "geo.box"].instance == ["geo.box"]
    assert set(generation.wrap(leased.lease)) == {(boxes, "geo.box")}


SHUTDOWN = """
def init(ctx):
    ctx.defer(log.append, "resource")
    ctx.defer(fail)
def fail():
    raise LookupError
def shutdown():
    log.append("shutdown")
    raise ValueError
@boxes
def box(): ...
"""


def test_a_shutdown_goes_on_after_each_error_and_reports_all():
    log = []
    generation = link(source_candidate("geo", SHUTDOWN, log=log, boxes=boxes)).generation
    generation.init()
    generation.shutdown(initialized=True)
    assert log == ["shutdown", "resource"]
    closing, shutdown, resource = generation.failures
    assert closing == "closing boxes geo.box of geo#0 raised OSError: geo.box is stuck"
    assert shutdown.startswith("shutdown() of geo#0 raised ValueError")
    assert resource.startswith("a resource of geo#0: LookupError")
    assert not generation.opened


def test_without_init_there_is_no_shutdown_but_the_resources_are_closed():
    log = []
    generation = link(source_candidate("geo", SHUTDOWN, log=log, boxes=boxes)).generation
    generation.init()
    generation.shutdown(initialized=False)
    assert log == ["resource"]


def test_a_shutdown_that_goes_on_elsewhere_does_not_call_the_plugin_again():
    """The thread that was abandoned is still inside `shutdown()` when another one continues."""
    log = []

    def resume():
        log.append("shutdown")
        if len(log) < 3:
            generation.shutdown(initialized=True)
        log.append("returned")

    code = "def init(ctx): ctx.defer(log.append, 'resource')\ndef shutdown(): resume()\n"
    generation = link(source_candidate("geo", code, log=log, resume=resume)).generation
    generation.init()
    generation.shutdown(initialized=True)
    assert log == ["shutdown", "resource", "returned"]
    assert not generation.failures


def test_borrowed_exports_go_back_though_the_dependent_keeps_them():
    units = link(source_candidate("units", TOOL))
    code = "def init(ctx): log.append(ctx.require('units').f)\n"
    borrowed = []
    geo = link(
        source_candidate("geo", code, requires=["units"], log=borrowed), required={"units": units}
    ).generation
    geo.init()
    generation = units.generation
    del units
    assert borrowed[0]() == 1
    assert generation.live_lease() is not None
    geo.return_borrowed()
    assert generation.live_lease() is not None, "it may have handed them on"
    geo.revoke_borrowed(leaks=True)
    assert generation.live_lease() is None
    assert borrowed


def test_a_plugin_that_requires_this_one_gets_its_opened_exports_too():
    leased = link(source_candidate("geo", TOOL + "@boxes\ndef box(): ...\n", boxes=boxes))
    leased.generation.init()
    required = leased.generation.exports_for(leased.lease, "maps#0")
    assert sorted(required) == ["box", "f"]
    assert required.f() == 1


KEEPS = "def export_state(): return {state!r}\n"
TAKES = "def import_state(state, version): log.append((state, version))\n"


def test_a_plugins_own_state_moves_if_the_old_exports_it_and_the_new_imports_it():
    log = []
    keeps = link(source_candidate("geo", KEEPS.format(state="old"), version="1.5")).generation
    takes = link(source_candidate("geo", TAKES, log=log), 1).generation
    assert (keeps.keeps_state, takes.keeps_state) == (True, False)
    plain = link(source_candidate("geo", TOOL), 3).generation
    assert list(plain.handovers(keeps)) == list(takes.handovers(plain)) == []
    both = KEEPS.format(state="new") + TAKES
    new = link(source_candidate("geo", both, log=log), 2).generation
    ((key, handover),) = new.handovers(keeps)
    assert key is None
    assert log == [], "the transfer is made, not run"
    handover.run()
    assert log == [("old", "1.5")]


def test_a_kind_that_cannot_hand_over_names_the_export():
    class Stuck(Boxes):
        def hand_over(self, old, new):
            raise ValueError(f"from {old.generation} to {new.generation}")

    stuck = Stuck("stuck")
    old, new = (
        link(source_candidate("geo", "@stuck\ndef box(): ...\n", stuck=stuck), number).generation
        for number in (0, 1)
    )
    old.init()
    assert list(new.handovers(old)) == []
    new.init()
    with pytest.raises(IncompatibleError, match=r"stuck geo\.box cannot .* from 0 to 1"):
        list(new.handovers(old))


def test_a_released_generation_drops_all_of_the_plugin_and_stays_a_record():
    leased = link(source_candidate("geo", "class Point: ...\n@tool\ndef f(): return Point\n"))
    generation = leased.generation
    closed = []
    generation._namespace.close = lambda: closed.append("closed")
    assert len(generation.globals_ids()) == 1
    described = generation.described
    del leased
    gc.collect()
    reclaimed = generation.release()
    assert closed == ["closed"]
    assert reclaimed.leaks == ()
    assert generation.exports is NO_EXPORTS
    assert generation.globals_ids() == frozenset()
    assert generation.described == described
    assert str(generation) == "geo#0"
    assert generation.release() == Reclaim(), "there is nothing left to take apart"
