"""The scenarios: each tests one effect of a code swap on running work.

A scenario's docstring is its text on the page: the situation, and the meaning of a failure for a
host of such a system.
"""

from __future__ import annotations

import asyncio
import atexit
import copyreg
import gc
import logging
import threading
import time
import warnings
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from conformance.plugin import UsedAfterShutdownError, describe, remembered, source
from conformance.running import (
    Observations,
    none_wrong,
    run_during,
    summary,
    swapping,
    total,
    two_calls,
    two_calls_in_a_task,
)
from conformance.system import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.size import Size
    from conformance.system import System

_PROMPT_S: Final = 3.0


def two_calls_in_threads(system: System, size: Size) -> Outcome:
    """Four threads call two functions of a plugin, a millisecond apart, while it is swapped.

    A failure is an answer computed half by one version and half by another, or an error.
    """
    system.load({"geo": source("geo", 1)})
    counts = total(run_during(system, two_calls, swapping(system, size.swaps, "geo"), 4))
    return Outcome(none_wrong(counts), summary(counts))


def two_calls_in_tasks(system: System, size: Size) -> Outcome:
    """The two calls run in asyncio tasks, and another thread swaps the plugin."""
    system.load({"geo": source("geo", 1)})
    observations = Observations()

    async def main() -> None:
        stop = asyncio.Event()

        async def run() -> None:
            while not stop.is_set():
                await two_calls_in_a_task(system, observations)

        tasks = [asyncio.create_task(run()) for _ in range(size.tasks)]
        await asyncio.to_thread(swapping(system, size.swaps, "geo"))
        stop.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    return Outcome(none_wrong(observations.counts), summary(observations.counts))


def a_call_in_flight_ends_on_its_version(system: System, size: Size) -> Outcome:
    """A function is swapped while it runs. It reads its module's names before and after the swap.

    A failure is a function that continues with another version's globals, or that is shut down
    while it runs.
    """
    system.load({"geo": source("geo", 1)})
    entered, leave = threading.Event(), threading.Event()

    def call() -> tuple[int, ...]:
        with system.begin() as look:
            answer: tuple[int, ...] = look("geo", "around")(entered, leave)
            return answer

    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(call)
        entered.wait(_PROMPT_S)
        swap = pool.submit(system.swap, {"geo": source("geo", 2)})
        wait([swap], _PROMPT_S)  # some systems wait for the call, which is released below
        leave.set()
        try:
            answer = running.result(20)
        except UsedAfterShutdownError:
            return Outcome(False, "shut down while it ran")
        swap.result(20)
    return Outcome(set(answer) == {1}, f"began on version 1, saw {', '.join(map(str, answer))}")


def a_failed_load_leaves_the_old_version_whole(system: System, size: Size) -> Outcome:
    """A new version raises half way through its code.

    A failure is an old version that is gone, or that has names of the new one.
    """
    system.load({"geo": source("geo", 1)})
    broken = source("geo", 2).replace("def helper():", "raise ValueError\n\ndef helper():")
    try:
        system.swap({"geo": broken})
    except Exception:  # noqa: BLE001  any error is right; the old version is checked below
        pass
    else:
        return Outcome(False, "the failure was not reported")
    try:
        with system.begin() as look:
            answer = look("geo", "a")(), look("geo", "shape")().version()
    except Exception as error:  # noqa: BLE001  reported
        return Outcome(False, f"the old version raises {type(error).__name__}")
    text = f"afterwards a function returns {answer[0]}, a class {answer[1]}"
    return Outcome(answer == (1, 1), text)


def two_plugins_change_together(system: System, size: Size) -> Outcome:
    """Two plugins are swapped together, and operations call both.

    A failure is an operation that sees one of them changed, and the other not yet.
    """
    system.load({"geo": source("geo", 1), "tax": source("tax", 1)})

    def both(system: System, observations: Observations) -> None:
        try:
            with system.begin() as look:
                observations.note_pair(look("geo", "a")(), look("tax", "a")())
        except Exception as error:  # noqa: BLE001  counted
            observations.note(error)
        observations.counts["operations"] += 1

    counts = total(run_during(system, both, swapping(system, size.swaps, "geo", "tax"), 3))
    return Outcome(none_wrong(counts), summary(counts))


def a_name_is_always_there(system: System, size: Size) -> Outcome:
    """Threads keep looking up a function that every version has.

    A failure is an instant at which it cannot be found or called.
    """
    system.load({"geo": source("geo", 1)})

    def look_up(system: System, observations: Observations) -> None:
        try:
            with system.begin() as look:
                look("geo", "a")()
        except Exception as error:  # noqa: BLE001  counted
            observations.note(error)
        observations.counts["operations"] += 1

    counts = total(run_during(system, look_up, swapping(system, size.swaps, "geo"), 3))
    return Outcome(none_wrong(counts), summary(counts))


def no_operation_sees_an_outdated_version(system: System, size: Size) -> Outcome:
    """Readers note the newest version with a completed swap, then call.

    They count the age of each answer: 0 is the noted version, -1 a newer one. A failure is an older
    one.
    """
    system.load({"geo": source("geo", 1)})
    newest = [1]
    ages: Counter[int] = Counter()

    def read(system: System, observations: Observations) -> None:
        floor = newest[0]
        try:
            with system.begin() as look:
                age = floor - look("geo", "a")()
        except Exception as error:  # noqa: BLE001  counted
            observations.note(error)
        else:
            observations.counts[f"age {max(age, -1)}"] += 1

    def change() -> None:
        for version in range(2, size.swaps + 2):
            system.swap({"geo": source("geo", version)})
            newest[0] = version
            time.sleep(0.001)

    counts = total(run_during(system, read, change, 3))
    ages.update({n: counts[f"age {n}"] for n in range(-1, size.swaps)})
    old = sum(n for age, n in ages.items() if age > 0)
    wrong = counts["failed"] + counts["missing"] + counts["used after shutdown"]
    listed = ", ".join(f"{n:,} of age {age}" for age, n in sorted(ages.items()) if n)
    return Outcome(not old and not wrong, f"{listed}; {wrong} failed")


def a_stored_function_stays_whole(system: System, size: Size) -> Outcome:
    """An operation stores a function, and calls it after the swap.

    A failure is a stored function that runs after its version was shut down, or with the globals of
    another version. (A shutdown may have closed resources that the function needs.)
    """
    system.load({"geo": source("geo", 1)})
    with system.begin() as look:
        stored = look("geo", "a")
    system.swap({"geo": source("geo", 2)})
    try:
        answer = stored()
    except UsedAfterShutdownError:
        return Outcome(False, "shut down while it could still be called")
    return Outcome(answer == 1, f"stored from version 1, it returns {answer}")


def many_holders_do_not_delay_a_swap(system: System, size: Size) -> Outcome:
    """A thousand operations are under way when the plugin is swapped; then all of them continue.

    A failure is a swap that waits for them, or an operation that continues with another version.
    """
    system.load({"geo": source("geo", 1)})
    with ExitStack() as stack:
        looks = [stack.enter_context(system.begin()) for _ in range(size.holders)]
        before = Counter(look("geo", "a")() for look in looks)
        started = time.perf_counter()
        system.swap({"geo": source("geo", 2)})
        took = time.perf_counter() - started
        observations = Observations()
        after: Counter[int] = Counter()
        for look in looks:
            try:
                after[look("geo", "a")()] += 1
            except Exception as error:  # noqa: BLE001  counted
                observations.note(error)
    text = f"{after[1]:,} of {before[1]:,} continued with their version; the swap took {took:.1f} s"
    return Outcome(after == before and took < 2 * _PROMPT_S, text)


def a_swap_names_its_holders(system: Any, size: Size) -> Outcome:
    """An operation never ends. The swap returns all the same, and names the operation.

    A failure is a swap that hangs, or that does not report what keeps the old version alive.
    """
    system.load({"geo": source("geo", 1)})
    operation = system.begin()
    operation.__enter__()
    system.swap({"geo": source("geo", 2)})
    holders = system.holders()

    def ask() -> object:
        with system.begin() as look:
            return look("geo", "a")()

    with ThreadPoolExecutor(1) as pool:  # another thread: here, all belongs to the operation
        serves = pool.submit(ask).result()
    operation.__exit__(None, None, None)
    return Outcome(serves == 2 and bool(holders), holders[0] if holders else "no holder was named")


def concurrent_reloads_end_on_one_version(system: System, size: Size) -> Outcome:
    """Eight threads request a hundred swaps at once.

    A failure is an error, or a plugin with functions of different versions afterwards.
    """
    system.load({"geo": source("geo", 1)})
    errors: Counter[str] = Counter()

    def swap(version: int) -> None:
        try:
            system.swap({"geo": source("geo", version)})
        except Exception as error:  # noqa: BLE001  counted
            errors[type(error).__name__] += 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(swap, range(2, size.reloads + 2)))
    try:
        with system.begin() as look:
            answers = {look("geo", "a")(), look("geo", "b")(), look("geo", "shape")().version()}
    except Exception as error:  # noqa: BLE001  reported
        return Outcome(False, f"afterwards it raises {type(error).__name__}")
    text = ", ".join(f"{n} {name}" for name, n in errors.items()) or "no errors"
    return Outcome(not errors and len(answers) == 1, f"{text}; {len(answers)} version(s) left")


def a_save_of_equal_length_takes_effect(system: System, size: Size) -> Outcome:
    """A version of equal length is saved and swapped in at once, over and over.

    A failure is old code that serves after the swap: bytecode caches are keyed by a file's time, in
    whole seconds, and its length. (The other scenarios run without bytecode caches.)
    """
    system.load({"geo": source("geo", 1)})
    stale = 0
    for version in range(2, size.saves + 2):
        system.swap({"geo": source("geo", version)})
        stale += _answer(system) != version
    return Outcome(not stale, f"{stale} of {size.saves} saves did not take effect")


def _answer(system: System) -> int:
    with system.begin() as look:
        answer: int = look("geo", "a")()
        return answer


def an_object_keeps_its_class(system: System, size: Size) -> Outcome:
    """An object made before the swap is used after it.

    A failure is an object that runs with another version's globals.
    """
    system.load({"geo": source("geo", 1)})
    with system.begin() as look:
        old = look("geo", "shape")()
        system.swap({"geo": source("geo", 2)})
        answer = old.version()
    with system.begin() as look:
        new = look("geo", "shape")()
    text = f"made by version 1, it returns {answer}; a new one is of another class"
    return Outcome(answer == 1 and type(new) is not type(old), text)


_AMBIENT = """
import atexit, logging, threading, warnings
STOP = threading.Event()

def clean():
    pass

class Handler(logging.Handler):
    def emit(self, record):
        pass

atexit.register(clean)
logging.getLogger().addHandler(Handler())
warnings.filterwarnings("ignore", "conformance {version}")

def poll():
    while not STOP.wait(0.05):
        pass

threading.Thread(target=poll, name="conformance-{version}", daemon=True).start()
timer = threading.Timer(3600, clean)
timer.daemon = True
timer.start()
import copyreg
from conformance.plugin import describe, remembered
copyreg.pickle(Shape, lambda shape: (Shape, ()))
describe.register(Shape, lambda shape: "a shape")
remembered(Shape)
"""


def old_versions_leave_nothing_in_the_process(system: System, size: Size) -> Outcome:
    """Each version adds objects to tables of the process and the host.

    It adds a log handler, a thread, a timer, a warnings filter, an exit hook, a pickler of its
    class, and its class in a host's `singledispatch` and `lru_cache`.

    A failure is a table that still has objects of old versions after ten swaps.
    """
    before = _ambient()
    for version in range(1, 12):
        text = {"geo": source("geo", version, _AMBIENT.format(version=version))}
        if version == 1:
            system.load(text)
        else:
            system.swap(text)
    left = _ambient() - before
    for _ in range(100):  # a stopped thread or timer takes a moment to end
        if all(n <= 1 for n in left.values()):
            break
        time.sleep(0.05)
        left = _ambient() - before
    text = ", ".join(f"{n} {name}" for name, n in sorted(left.items()))
    return Outcome(all(n <= 1 for n in left.values()), f"after ten swaps: {text}")


def _ambient() -> Counter[str]:
    threads = [t for t in threading.enumerate() if not t.name.startswith(("epochal", "Main"))]
    timers = sum(isinstance(thread, threading.Timer) for thread in threads)
    return Counter(
        {
            "log handlers": len(logging.getLogger().handlers),
            "exit hooks": atexit._ncallbacks(),  # type: ignore[attr-defined]  # noqa: SLF001
            "picklers": len(copyreg.dispatch_table),
            "singledispatch entries": len(describe.registry),
            "lru_cache entries": remembered.cache_info().currsize,
            "warnings filters": sum("conformance" in str(f[1]) for f in warnings.filters),
            "threads": len(threads) - timers,
            "timers": timers,
        }
    )


def memory_comes_back(system: System, size: Size) -> Outcome:
    """A plugin is swapped two thousand times, and no operation holds an old version.

    A failure is an old version's class that is still alive after a collection.
    """
    system.load({"geo": source("geo", 1)})
    refs: list[weakref.ref[Any]] = []
    for version in range(2, size.memory_swaps + 2):
        refs.append(_class_of(system))
        system.swap({"geo": source("geo", version)})
    gc.collect()
    alive = sum(ref() is not None for ref in refs)
    return Outcome(not alive, f"{alive:,} of {len(refs):,} old classes are still alive")


def _class_of(system: System) -> weakref.ref[Any]:
    with system.begin() as look:
        return weakref.ref(type(look("geo", "shape")()))


def a_swap_during_close_returns(system: System, size: Size) -> Outcome:
    """A swap is requested while the system is being closed.

    A failure is a swap or a close that hangs; the swap may be refused.
    """
    system.load({"geo": source("geo", 1)})
    with ThreadPoolExecutor(2) as pool:
        swaps = pool.submit(lambda: [_tried(system, n) for n in range(2, 12)])
        closing = pool.submit(system.close)
        ended = not wait([swaps, closing], 20.0).not_done
    return Outcome(ended, "both returned" if ended else "one of the two hangs")


def _tried(system: System, version: int) -> bool:
    try:
        system.swap({"geo": source("geo", version)})
    except Exception:  # noqa: BLE001  a refusal is allowed
        return False
    return True


SCENARIOS: Final[dict[str, Callable[[Any, Size], Outcome]]] = {
    scenario.__name__: scenario
    for scenario in (
        two_calls_in_threads,
        two_calls_in_tasks,
        a_call_in_flight_ends_on_its_version,
        a_failed_load_leaves_the_old_version_whole,
        two_plugins_change_together,
        a_name_is_always_there,
        no_operation_sees_an_outdated_version,
        a_stored_function_stays_whole,
        many_holders_do_not_delay_a_swap,
        a_swap_names_its_holders,
        concurrent_reloads_end_on_one_version,
        a_save_of_equal_length_takes_effect,
        an_object_keeps_its_class,
        old_versions_leave_nothing_in_the_process,
        memory_comes_back,
        a_swap_during_close_returns,
    )
}
