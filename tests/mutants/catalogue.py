"""The breakages: which guarantee, where, what is changed, and the test that must fail then."""

from __future__ import annotations

from dataclasses import dataclass

RUNTIME = "tests/integration/test_runtime.py::"
MEMORY = "tests/integration/test_memory.py::"
RESOURCES = "tests/integration/test_resources.py::"
HOLDERS = "tests/integration/test_holders.py::"
LIFECYCLE = "tests/unit/test_lifecycle.py::"
CARRIED = "tests/integration/test_carried.py::"
PROMETHEUS = "tests/integration/test_prometheus.py::"
CARRY = "tests/unit/test_carry.py::"
BUGS = "tests/bugs/"
MODEL = "tests/property/test_model.py::test_the_runtime_is_its_model"
SOAK = "tests/soak/test_soak.py::test_operations_see_nothing_of_the_changes"
SERVICE = "tests/integration/test_service.py::"
JOBS = "tests/integration/test_jobs.py::"
STREAMS = "tests/integration/test_streams.py::"
INDEX = "tests/integration/test_index.py::"
STORAGE = "tests/integration/test_storage.py::"
AGREES = "tests/integration/test_storage_agrees.py::"
TYPES = "tests/integration/test_data_types.py::"
CHANGES = "tests/server/test_changes.py::"
GATE = "tests/unit/test_gate.py::"
SECURITY = "tests/server/test_security.py::"
QUERIES = "tests/server/test_queries.py::"
CONNECTIONS = "tests/server/test_connections.py::"
DEPTH = "tests/unit/sql/test_depth.py::"
ASGI = "tests/integration/test_asgi.py::"
COMPILER = "tests/unit/loaders/test_compiler.py::"
STORE = "tests/integration/test_store.py::"
STORE_FAULTS = "tests/integration/test_store_faults.py::"
STORE_UNIT = "tests/unit/store/test_store.py::"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One guarantee taken out.

    Attributes:
        promise: which one, as `docs/guarantees.md` numbers it.
        broken: what is broken, in words.
        file: where, below `src/epochal`.
        old: the text that keeps the promise; it occurs once.
        new: what stands there instead.
        test: the test that must fail.
    """

    promise: str
    broken: str
    file: str
    old: str
    new: str
    test: str


MUTANTS = (
    Mutant(
        "E1",
        "a change of several plugins is published one plugin at a time",
        "_core/change.py",
        "        self._site.publish(epoch)\n",
        "        step = base\n"
        "        for one in self._stage.staged.values():\n"
        "            gone = [g for g in retired if g.plugin == one.generation.plugin]\n"
        "            step = step.successor(gone, [one])\n"
        "            self._site.publish(step)\n"
        "            __import__('time').sleep(0.001)\n"
        "        self._site.publish(epoch)\n",
        RUNTIME + "test_e1_a_change_of_several_plugins_is_seen_at_once",
    ),
    Mutant(
        "E1",
        "an epoch is altered instead of followed by another",
        "_core/epoch.py",
        "        return nxt\n",
        "        dict.update(self, nxt)\n        return nxt\n",
        RUNTIME + "test_e1_an_operation_sees_one_epoch_from_first_line_to_last",
    ),
    Mutant(
        "E2, flaw 6",
        "the old exports go before the new ones are in",
        "_core/change.py",
        "        self._site.publish(epoch)\n",
        "        self._site.publish(base.successor(retired, ()))\n"
        "        __import__('time').sleep(0.001)\n"
        "        self._site.publish(epoch)\n",
        RUNTIME + "test_e2_a_name_that_both_versions_have_is_never_missing",
    ),
    Mutant(
        "E3",
        "dependents of a reloaded plugin keep the old generation's exports",
        "_core/plan.py",
        "    affected = _closure([*staged, *removed], requiring)",
        "    affected = {*staged, *removed}",
        RUNTIME + "test_e3_a_reload_relinks_dependents_in_the_same_change",
    ),
    Mutant(
        "E3",
        "what a dependent borrowed is never taken back",
        "_core/retire.py",
        "        generation.give_back()\n",
        "",
        RUNTIME + "test_e3_what_was_required_is_given_back_even_by_a_dependent_that_leaks",
    ),
    Mutant(
        "E4, flaws 5 and 8",
        "a generation is shut down without waiting for its last lease",
        "_core/retire.py",
        "        if not leaver.waiter.is_satisfied:\n            return False\n",
        "",
        RUNTIME + "test_e4_an_epoch_held_in_a_variable_holds_everything_in_it",
    ),
    Mutant(
        "E4, flaw 8",
        "a drain that outlasts its timeout ends in a shutdown of what is in use",
        "_core/retire.py",
        "                self._tell_timeout(self._patience.waited)\n",
        "                self._tell_timeout(self._patience.waited)\n"
        "                for leaver in list(self._pending):\n"
        "                    self._finish(leaver)\n",
        RUNTIME + "test_e4_a_drain_that_times_out_shuts_nothing_down_and_goes_on",
    ),
    Mutant(
        "E4",
        "shutdown runs once for each look",
        "_core/retire.py",
        "        self._remove(leaver)\n\n    def _remove",
        "        generation.shutdown(initialized=initialized)\n"
        "        self._remove(leaver)\n\n    def _remove",
        RUNTIME + "test_e4_shutdown_runs_once_and_never_without_init",
    ),
    Mutant(
        "E4",
        "threads that an export started on its own helper are not looked for",
        "_core/retire.py",
        "        return not leaver.stragglers\n",
        "        return True\n",
        RUNTIME + "test_stragglers_count_as_in_use_and_are_named",
    ),
    Mutant(
        "E5, flaw 7",
        "the old version is taken out before the new one has linked",
        "_core/staging.py",
        '        self._foreign("link", generation, generation.link, take_over)\n',
        "        if (old := self.base.generations.get(generation.plugin)) is not None:\n"
        "            old.lifecycle.set(LifecycleState.DRAINING)\n"
        '        self._foreign("link", generation, generation.link, take_over)\n',
        RUNTIME + "test_e5_a_version_that_fails_leaves_everything_as_it_was",
    ),
    Mutant(
        "E5",
        "what a failed change staged is not torn down",
        "_core/change.py",
        "        begun = list(reversed(self._stage.begun))\n",
        "        begun = []\n",
        RUNTIME + "test_e5_what_was_staged_is_shut_down_and_its_resources_closed",
    ),
    Mutant(
        "E5",
        "plugin code that blocks is waited for without a limit",
        "_core/phase.py",
        "        watch = watchdog.watch(left, ",
        "        watch = watchdog.watch(None, ",
        RUNTIME + "test_e5_plugin_code_that_blocks_ends_the_change_and_its_thread_is_named",
    ),
    Mutant(
        "E6",
        "the old epoch dies, and runs finalizers, in the middle of publishing",
        "_core/change.py",
        "        self._site.publish(epoch)\n",
        "        numbers, base, self._stage.base = base.number, None, None\n"
        "        self._site.publish(epoch)\n"
        "        base = type('Old', (), {'number': numbers})\n",
        RUNTIME + "test_e6_no_foreign_code_runs_while_an_epoch_is_published",
    ),
    Mutant(
        "E7",
        "memory is left to the collector",
        "_core/reclaim.py",
        "        return Reclaim(shells=_take_apart(graph), undone=tuple(undone))\n",
        "        return Reclaim()\n",
        MEMORY + "test_functions_and_globals_are_gone_at_once_though_nobody_collects",
    ),
    Mutant(
        "E7",
        "a leak is not named",
        "_core/reclaim.py",
        "    return Reclaim(leaks, undone=tuple(undone))\n",
        "    return Reclaim()\n",
        MEMORY + "test_what_keeps_a_generation_is_named_by_its_path",
    ),
    Mutant(
        "E7",
        "code is taken apart though somebody holds it",
        "_core/reclaim.py",
        "        if graph.is_closed():\n            break\n",
        "        if True:\n            owned.clear()\n"
        "            return Reclaim(shells=_take_apart(graph))\n",
        MEMORY + "test_what_leaks_keeps_working_for_whoever_holds_it",
    ),
    Mutant(
        "E7",
        "what the plugin only imported is taken apart with it",
        "_core/graph.py",
        "            if self._open[position] and position not in alive:\n",
        "            if self._open[position]:\n",
        MEMORY + "test_what_a_plugin_only_imported_is_not_taken_apart_with_it",
    ),
    Mutant(
        "E7",
        "a look at sys.modules keeps other generations in memory",
        "_core/footprint.py",
        'if type(name) is str and "__g" in name and _PRIVATE.match(name):',
        "if False:",
        RESOURCES + "test_a_look_at_the_process_keeps_no_generation_in_memory",
    ),
    Mutant(
        "E5",
        "what a failed change left in the process stays there",
        "_core/footprint.py",
        "        while self._entries:\n",
        "        while False:\n",
        RESOURCES + "test_what_a_failed_change_left_is_taken_out_too",
    ),
    Mutant(
        "resources",
        "after a closer that blocks the others are forgotten",
        "_core/retire.py",
        "            lambda late: self._resume(leaver, late, self._finish_shutdown),\n",
        "            lambda late: self._resume(leaver, late, self._remove),\n",
        RESOURCES + "test_after_a_shutdown_that_blocks_the_rest_is_closed_all_the_same",
    ),
    Mutant(
        "E7",
        "globals are cleared before finalizers run",
        "_core/reclaim.py",
        "        place.drop_data(lambda value: id(value) in leading)\n",
        "        place.names.clear() if type(place.names) is dict else None\n",
        MEMORY + "test_finalizers_run_while_the_code_that_they_use_is_there",
    ),
    Mutant(
        "E7",
        "a generation stays in the process-wide tables",
        "loaders/_namespace.py",
        "        _tables.leave(self.root_name, self._files)\n",
        "",
        RUNTIME + "test_e7_nothing_of_a_generation_stays_in_process_wide_tables",
    ),
    Mutant(
        "flaw 1",
        "advance is load-then-store",
        "_core/lifecycle.py",
        "        with self._lock:\n"
        "            self.state = LifecycleState(min(self.state + 1, LifecycleState.REMOVED))\n"
        "            return self.state\n",
        "        state = LifecycleState(min(self.state + 1, LifecycleState.REMOVED))\n"
        "        __import__('time').sleep(0)\n"
        "        self.state = state\n"
        "        return state\n",
        LIFECYCLE + "test_concurrent_advances_take_distinct_steps",
    ),
    Mutant(
        "flaw 2",
        "begin_drain is check-then-act",
        "_core/lifecycle.py",
        "        with self._lock:\n"
        "            moved = self.state is source\n"
        "            if moved:\n"
        "                self.state = target\n"
        "            return moved\n",
        "        moved = self.state is source\n"
        "        __import__('time').sleep(0)\n"
        "        if moved:\n"
        "            self.state = target\n"
        "        return moved\n",
        LIFECYCLE + "test_exactly_one_of_many_begin_drains_wins",
    ),
    Mutant(
        "flaw 3",
        "the wait polls",
        "_core/lease.py",
        "        return max(0.0, until - monotonic())\n",
        "        return min(0.01, max(0.0, until - monotonic()))\n",
        LIFECYCLE + "test_the_wait_does_not_poll",
    ),
    Mutant(
        "flaw 3",
        "a release wakes nobody",
        "_core/lease.py",
        "                waiter.wake.put(now)\n",
        "                pass\n",
        LIFECYCLE + "test_the_wait_is_woken_by_the_release_itself",
    ),
    Mutant(
        "flaw 4",
        "finalize goes to REMOVED from any state",
        "_core/lifecycle.py",
        "            done = old is LifecycleState.DRAINING and (force or not in_use)\n",
        "            done = force or not in_use\n",
        LIFECYCLE + "test_finalize_from_active_is_refused_even_by_force",
    ),
    Mutant(
        "flaw 4",
        "finalize goes to REMOVED with operations in flight",
        "_core/lifecycle.py",
        "            done = old is LifecycleState.DRAINING and (force or not in_use)\n",
        "            done = old is LifecycleState.DRAINING\n",
        LIFECYCLE + "test_finalize_is_refused_while_in_use_unless_forced",
    ),
    Mutant(
        "flaw 5",
        "what is called does not hold what is counted",
        "_core/carry.py",
        "    twin.__dict__[LEASE] = lease\n",
        "",
        CARRY + "test_an_export_called_where_it_is_looked_up_is_held_while_it_runs",
    ),
    Mutant(
        "flaw 9",
        "init is never called",
        "_core/generation.py",
        '            self._call(self._root, "init", self._context)\n',
        "            pass\n",
        RUNTIME + "test_e4_shutdown_runs_once_and_never_without_init",
    ),
    Mutant(
        "holders",
        "looking keeps other threads' variables alive (before Python 3.13)",
        "_core/referrers.py",
        "        snapshot.clear()\n",
        "        pass\n",
        HOLDERS + "test_looking_does_not_prolong_the_life_of_other_threads_variables",
    ),
    Mutant(
        "holders",
        "an error keeps the caller's variables until a collection",
        "_core/blame.py",
        "                frame.clear()\n",
        "                pass\n",
        RUNTIME + "test_an_error_that_is_dropped_lets_the_callers_variables_go_at_once",
    ),
    Mutant(
        "E8",
        "an epoch is published before the store has it",
        "_core/change.py",
        "        del base\n        if self._site.journal is not None:\n",
        "        del base\n"
        "        self._site.publish(self._next)\n"
        "        if self._site.journal is not None:\n",
        STORE + "test_e8_nothing_is_published_before_the_store_has_it",
    ),
    Mutant(
        "E5, E8",
        "an error of the store holds what its change staged",
        "_core/change.py",
        "        self._stage.clear()\n        self._next = None\n        retirement.run()\n",
        "        self._stage.clear()\n        retirement.run()\n",
        STORE + "test_e5_a_journal_that_fails_holds_nothing_of_what_it_refused",
    ),
    Mutant(
        "E8",
        "an artifact is not checked when it is read",
        "store/artifacts.py",
        "        if hashlib.sha256(content).hexdigest() != name:\n",
        "        if not name:\n",
        STORE_FAULTS + "test_e8_a_damaged_artifact_is_named_and_never_run",
    ),
    Mutant(
        "E8",
        "a transaction names artifacts whose names a power cut would lose",
        "store/artifacts.py",
        "            sync_folder(self._folder)\n",
        "",
        STORE_UNIT + "test_bytes_then_names_then_the_transaction",
    ),
    Mutant(
        "E8",
        "a commit is not on the disk when it returns",
        "store/database.py",
        '"PRAGMA synchronous = FULL"',
        '"PRAGMA synchronous = NORMAL"',
        STORE_UNIT + "test_bytes_then_names_then_the_transaction",
    ),
    Mutant(
        "E8",
        "closing a runtime is committed as a removal of everything",
        "runtime.py",
        "begin_last(replace(self._site, journal=None), wishes",
        "begin_last(self._site, wishes",
        STORE + "test_e8_a_restart_serves_the_last_committed_epoch_whatever_happened_to_the_folder",
    ),
    Mutant(
        "E8",
        "a restart forgets the numbers that it gave out",
        "store/rows.py",
        "    write_numbers(db, numbers)\n\n\ndef write_numbers",
        "\n\ndef write_numbers",
        STORE + "test_generation_numbers_go_on_and_never_repeat",
    ),
    Mutant(
        "E8",
        "a journal that lost its end is taken for whole",
        "store/store.py",
        "head if head is not None and head > rows.last_epoch(db) else None",
        "None",
        STORE_FAULTS + "test_a_journal_that_lost_its_end_is_noticed",
    ),
    Mutant(
        "E8",
        "artifacts are collected while they are in use",
        "store/artifacts.py",
        "in {*referred, *self._used()}:",
        "in {*referred}:",
        STORE_UNIT + "test_what_the_history_refers_to_or_somebody_uses_is_never_collected",
    ),
    Mutant(
        "E8",
        "two runtimes have one store",
        "store/lock.py",
        '"BEGIN EXCLUSIVE"',
        '"BEGIN"',
        STORE + "test_one_store_serves_one_runtime_and_the_error_names_the_holder",
    ),
    Mutant(
        "own copies",
        "what a plugin carries is looked for among what is installed",
        "loaders/_namespace.py",
        "        if vendored:\n            folder =",
        "        if not vendored:\n            folder =",
        CARRIED + "test_each_generation_has_its_own_copy_however_it_asks",
    ),
    Mutant(
        "own copies",
        "`import a.b` of what it carries binds the plugin",
        "loaders/_imports.py",
        '            return builtins.__import__(own(name.partition(".")[0]) or name, '
        'fromlist=("__name__",))\n',
        "            return module\n",
        CARRIED + "test_each_generation_has_its_own_copy_however_it_asks",
    ),
    Mutant(
        "resources",
        "what two generations replaced one after the other stays the first one's",
        "_core/footprint.py",
        "                        later.old = put.old\n",
        "                        pass\n",
        RESOURCES + "test_what_generations_replaced_one_after_another_is_as_before_the_first",
    ),
    Mutant(
        "resources",
        "what was replaced in a call is deleted instead of given back",
        "_core/footprint.py",
        "yield self.entry(key, self._original.get(key, _ABSENT), value)",
        "yield self.entry(key, _ABSENT, value)",
        RESOURCES + "test_what_it_replaced_in_a_call_is_given_back_not_taken_away",
    ),
    Mutant(
        "resources",
        "a metric that both generations have begins at 0 again",
        "loaders/_prometheus.py",
        "                collector.__dict__ = vars(old.standing)\n",
        "                pass\n",
        PROMETHEUS + "test_both_generations_count_in_the_same_metrics_and_nothing_is_lost",
    ),
    Mutant(
        "E5",
        "a metric whose place a failed change took does not get it back",
        "loaders/_prometheus.py",
        "            self._registry.register(metric.displaced.standing)\n",
        "            pass\n",
        PROMETHEUS + "test_a_change_that_fails_leaves_the_metrics_as_they_were",
    ),
    Mutant(
        "E7",
        "a class in a hint is looked for through the whole heap",
        "_core/reclaim.py",
        "(_empty_typing, _empty_caches, _pause, _collect)",
        "(_empty_caches, _empty_typing, _pause, _collect)",
        CARRIED
        + "test_a_plugin_with_hints_of_its_own_is_reclaimed_without_a_look_through_the_heap",
    ),
    Mutant(
        "holders",
        "an error of a change that cannot be read keeps the runtime's frame, and so the epoch",
        "_core/blame.py",
        '    "epochal.runtime",\n',
        "",
        BUGS + "test_kept_error_holds_epoch.py::test_an_error_that_is_kept_holds_no_epoch",
    ),
    Mutant(
        "E3, model",
        "dependents of a reloaded plugin keep the old generation's exports",
        "_core/plan.py",
        "    affected = _closure([*staged, *removed], requiring)",
        "    affected = {*staged, *removed}",
        MODEL,
    ),
    Mutant(
        "E4, model",
        "a generation is shut down without waiting for its last lease",
        "_core/retire.py",
        "        if not leaver.waiter.is_satisfied:\n            return False\n",
        "",
        MODEL,
    ),
    Mutant(
        "E5, model",
        "a change that is given up leaves what it staged",
        "_core/change.py",
        "        begun = list(reversed(self._stage.begun))\n",
        "        begun = [] if self._phases._cancelled else list(reversed(self._stage.begun))\n",
        MODEL,
    ),
    Mutant(
        "E4, soak",
        "a generation is shut down without waiting for its last lease",
        "_core/retire.py",
        "        if not leaver.waiter.is_satisfied:\n            return False\n",
        "",
        SOAK,
    ),
    Mutant(
        "services",
        "state is exported while calls are inside",
        "_core/gate.py",
        "        if not any(gate._visits for gate in self._gates):",
        "        if True:",
        SERVICE + "test_a_call_that_is_inside_ends_before_the_state_is_exported",
    ),
    Mutant(
        "services",
        "a call through an older epoch goes to the instance that it was captured with",
        "kinds/gate.py",
        "        return side if side is not None and not gate.is_moving_here() else self\n",
        "        return self\n",
        SERVICE + "test_a_call_through_an_older_epoch_goes_where_the_state_is",
    ),
    Mutant(
        "services",
        "a call that is waited for waits at another gate of the same closing",
        "_core/gate.py",
        "            if visit is not None and visit.gate in self._gates:\n",
        "            if visit is not None and visit.gate is self._gates[0]:\n",
        SERVICE + "test_a_call_on_its_way_to_a_service_holds_up_no_change_of_that",
    ),
    Mutant(
        "services",
        "who takes a state over waits at the gate that the change has closed",
        "_core/gate.py",
        "            if self.is_mover():\n                return True\n",
        "",
        SERVICE + "test_whoever_takes_a_state_over_finds_that_of_what_it_requires",
    ),
    Mutant(
        "services",
        "who takes a state over is sent to the old generation of what it requires",
        "kinds/gate.py",
        "        return side if side is not None and not gate.is_moving_here() else self\n",
        "        return side if side is not None else self\n",
        SERVICE + "test_whoever_takes_a_state_over_finds_that_of_what_it_requires",
    ),
    Mutant(
        "services",
        "a hand-over that fails leaves the gate closed",
        "_core/change.py",
        "        self._closing.open()\n        self._moves.clear()\n",
        "        self._moves.clear()\n",
        SERVICE + "test_what_raises_in_a_hand_over_rolls_the_change_back",
    ),
    Mutant(
        "services",
        "a call that was interrupted as it began is inside for ever",
        "_core/gate.py",
        "    mark.gate._visits.pop(id(mark), None)  # noqa: SLF001  the same room\n",
        "",
        GATE + "test_a_visit_that_is_dropped_has_left",
    ),
    Mutant(
        "services",
        "who waits as the gate is opened is not woken",
        "_core/gate.py",
        "        if not self.is_over:\n            opened.wait()\n",
        "        opened.wait()\n",
        GATE + "test_a_wait_that_begins_as_it_opens_ends",
    ),
    Mutant(
        "services",
        "a plain call blocks the loop in which one that is waited for goes on",
        "_core/gate.py",
        "(self._comes_from_inside(outer) or self._would_block_inside(visit))",
        "self._comes_from_inside(outer)",
        GATE + "test_a_loop_is_not_blocked_under_a_call_that_goes_on_in_it",
    ),
    Mutant(
        "services",
        "what init does to a required service goes to one that has no state yet",
        "kinds/gate.py",
        "        new.gate = old.gate\n",
        "",
        SERVICE + "test_what_init_does_to_a_required_service_moves_along",
    ),
    Mutant(
        "services",
        "calls that were held up for too long are told so by a change that went through",
        "_core/change.py",
        "        if limit is not None and perf_counter() - started > limit:\n",
        "        if False:\n",
        SERVICE + "test_a_hand_over_that_is_given_up_at_any_point_leaves_no_gate_closed",
    ),
    Mutant(
        "jobs",
        "a reload begins every schedule anew",
        "jobs/runner.py",
        "        if line is not None and line.schedule == schedule:\n",
        "        if line is not None and line.generation == generation:\n",
        JOBS + "test_reloads_move_no_schedule_so_no_tick_is_lost_or_doubled",
    ),
    Mutant(
        "jobs",
        "a tick keeps no operation, so a drain does not see it",
        "jobs/runner.py",
        "                if function is not None:\n                    _run(function)\n",
        "                pass\n            if function is not None:\n"
        "                _run(getattr(function, '__wrapped__', function))\n",
        JOBS + "test_a_tick_under_way_ends_on_the_old_code_and_holds_the_drain",
    ),
    Mutant(
        "jobs",
        "a breaker never opens",
        "jobs/breaker.py",
        "self.failures >= patience.after:",
        "False:",
        JOBS + "test_failures_back_off_open_the_breaker_and_a_trial_closes_it",
    ),
    Mutant(
        "jobs",
        "positions are forgotten at the end",
        "jobs/positions.py",
        '        if self._path is not None:\n            self._run("INSERT',
        '        if False:\n            self._run("INSERT',
        JOBS + "test_a_one_shot_that_ran_does_not_run_after_a_restart",
    ),
    Mutant(
        "jobs",
        "the first time of a schedule is not kept",
        "jobs/runner.py",
        "would begin anew each time.\n            self._keep(line, line.due)\n",
        "would begin anew each time.\n",
        JOBS + "test_a_process_that_ends_before_the_first_tick_does_not_put_it_off",
    ),
    Mutant(
        "streams",
        "a hand-over does not wait for the batch under way",
        "_core/gate.py",
        "        if not any(gate._visits for gate in self._gates):",
        "        if True:",
        STREAMS + "test_the_batch_under_way_ends_before_the_position_moves",
    ),
    Mutant(
        "streams",
        "after a failure the source goes on where it was",
        "jobs/streams.py",
        "        self._restart = True\n",
        "",
        STREAMS + "test_a_step_that_fails_is_tried_again_and_nothing_is_lost",
    ),
    Mutant(
        "streams",
        "a reload leaves an open breaker to its rest",
        "jobs/streams.py",
        "                flow.forgive()\n",
        "                pass\n",
        STREAMS + "test_a_reload_closes_the_breaker_at_once",
    ),
    Mutant(
        "indexes",
        "what is persisted is not opened by the new version",
        "kinds/index.py",
        "        new.target.open(built.place.path)\n",
        "",
        INDEX + "test_a_reload_opens_what_was_built_and_builds_nothing",
    ),
    Mutant(
        "indexes",
        "a change while an index is being built is let through",
        "kinds/index.py",
        "        if self._old.building.locked():\n",
        "        if False:\n",
        INDEX + "test_a_search_goes_on_in_the_old_object_while_another_is_built",
    ),
    Mutant(
        "indexes",
        "a build is written over the one before",
        "kinds/builds.py",
        "_in(home, Path(tempfile.mkdtemp(prefix=_PREFIX, dir=home)).name)",
        "_in(home, '.')",
        INDEX + "test_no_build_writes_over_another_and_the_one_before_goes",
    ),
    Mutant(
        "indexes",
        "a build goes while somebody searches it",
        "kinds/index.py",
        "search.place = built.place  #",
        "pass  #",
        INDEX + "test_no_build_writes_over_another_and_the_one_before_goes",
    ),
    Mutant(
        "storage",
        "a limit is told although a filter was not understood",
        "sql/pushdown.py",
        "scan.fetch() if is_whole else None",
        "scan.fetch()",
        STORAGE + "test_what_a_query_needs_reaches_the_scan",
    ),
    Mutant(
        "storage",
        "two scans are told what one of them needs",
        "sql/pushdown.py",
        "found[name].also(needs) if name in found else needs",
        "needs",
        STORAGE + "test_two_scans_of_one_table_are_told_what_they_have_in_common",
    ),
    Mutant(
        "storage",
        "two scans have a limit in common though not their filters",
        "sql/pushdown.py",
        "        if is_same and self.limit",
        "        if self.limit",
        AGREES + "test_every_query_has_the_engines_answer",
    ),
    Mutant(
        "storage",
        "the scans of subqueries in expressions are not counted",
        "sql/pushdown.py",
        "    if len(scans) != len(_SCAN.findall(plan.display_indent())):\n",
        "    if False:\n",
        AGREES + "test_every_query_has_the_engines_answer",
    ),
    Mutant(
        "storage",
        "filters are left to the table",
        "sql/planning.py",
        "keep_filters(context, one) for",
        "one for",
        AGREES + "test_every_filter_means_what_it_means_to_the_engine",
    ),
    Mutant(
        "storage",
        "a table function is called each time that the query is planned",
        "sql/execution.py",
        "found: T | None = self._made.get(key)",
        "found: T | None = None",
        STORAGE + "test_a_table_function_is_called_once_for_each_mention",
    ),
    Mutant(
        "data types",
        "what the old version stored is not read by the new one",
        "kinds/data_type.py",
        "            if again != stored:\n",
        "            if False:\n",
        TYPES + "test_a_difference_in_what_is_read_is_spelled_out",
    ),
    Mutant(
        "mergeable state",
        "states of the old version are not restored by the new one",
        "kinds/mergeable_state.py",
        "        _compare_states(old.target, new.target)\n",
        "        _compare_states(new.target, new.target)\n",
        TYPES + "test_a_version_that_makes_something_else_of_a_state_is_refused",
    ),
    Mutant(
        "If-Match",
        "the epoch that was seen is looked for before the change's turn, not in it",
        "runtime.py",
        "            if not _is_seen(epoch.id, seen):\n",
        "            if False:\n",
        CHANGES + "test_of_many_who_saw_one_epoch_one_changes_it",
    ),
    Mutant(
        "the service",
        "a page of another origin may change plugins",
        "server/security.py",
        "if any(not self._access.is_own(origin) for origin in origins):",
        "if False:",
        SECURITY + "test_a_foreign_origin_is_refused_whatever_the_token",
    ),
    Mutant(
        "the service",
        "the page's cookie is enough to change plugins",
        "server/security.py",
        "        return Right.CHANGE if keyed and own_origin else Right.READ\n",
        "        return Right.CHANGE\n",
        SECURITY + "test_the_pages_session_needs_cookie_key_and_origin",
    ),
    Mutant(
        "the service",
        "an archive is as large as it says",
        "server/uploads.py",
        "        if left < 0 or len(files) >= MAX_FILES:\n",
        "        if False:\n",
        SECURITY + "test_a_bomb_is_refused_by_what_it_unpacks_to",
    ),
    Mutant(
        "the service",
        "a query goes on when its client has gone",
        "server/sending.py",
        "            await asyncio.wait([sending, gone], return_when=asyncio.FIRST_COMPLETED)\n",
        "            await asyncio.wait([sending])\n",
        QUERIES + "test_a_query_ends_with_its_client",
    ),
    Mutant(
        "the service",
        "a client that does not read its answer holds the query for ever",
        "server/sending.py",
        "timeout_at(self._deadline):\n                await _send_body",
        "timeout_at(None):\n                await _send_body",
        QUERIES + "test_a_client_that_does_not_read_holds_nothing",
    ),
    Mutant(
        "the service",
        "an answer waits for the acknowledgement of its head",
        "server/run.py",
        "socket.SOCK_STREAM, socket.IPPROTO_TCP)",
        "socket.SOCK_STREAM)",
        "tests/server/test_listening.py::"
        "test_an_answer_in_two_parts_does_not_wait_for_an_acknowledgement",
    ),
    Mutant(
        "the service",
        "an answer has as many bytes as its rows have",
        "server/pieces.py",
        "            if self._left < 0:\n",
        "            if False:\n",
        QUERIES + "test_a_limit_of_bytes_cuts_off_and_says_so",
    ),
    Mutant(
        "the service",
        "a reload takes what was active when it was asked for",
        "server/plugins.py",
        "    change.request(Wanted(Verb.RELOAD, plugin, anew=True))\n",
        "    change.reload(plugin, service.runtime.generation(plugin).candidate.artifact)\n",
        CHANGES + "test_a_reload_takes_what_is_active_in_its_turn",
    ),
    Mutant(
        "the service",
        "idle connections make no room",
        "server/connection.py",
        "        longest.transport.abort()\n",
        "        return False\n",
        CONNECTIONS + "test_idle_connections_make_room_the_longest_idle_first",
    ),
    Mutant(
        "the service",
        "a connection waits for a head for ever",
        "server/connection.py",
        "            self._late = self.loop.call_later(HEAD_S, self._head_is_late)\n",
        "            pass\n",
        CONNECTIONS + "test_a_head_that_does_not_end_is_answered_and_closed",
    ),
    Mutant(
        "the service",
        "requests that were sent ahead hide that the client left",
        "server/connection.py",
        "            self.flow.resume_reading()  # or",
        "            pass  # or",
        CONNECTIONS + "test_requests_behind_one_do_not_hide_that_the_client_left",
    ),
    Mutant(
        "the service",
        "who the stop cuts off is told nothing",
        "server/stopping.py",
        '            if scope["type"] != "http" or not self._service.stopping:\n',
        "            if True:\n",
        "tests/server/test_service.py::test_a_query_that_outlasts_the_stop_is_told_so",
    ),
    Mutant(
        "the service",
        "it is ready though plugins hold every thread of the engine",
        "server/workers.py",
        "        return await asyncio.to_thread(_inside, service.runtime)\n",
        "        return ()\n",
        "tests/server/test_service.py::"
        "test_functions_that_hold_every_thread_of_the_engine_are_told",
    ),
    Mutant(
        "SQL",
        "a text is as deep as it likes",
        "sql/depth.py",
        "        if depth > DEEPEST:\n",
        "        if depth > 1_000 * DEEPEST:\n",
        DEPTH + "test_a_deep_text_is_refused",
    ),
    Mutant(
        "SQL",
        "everybody waits to be planned",
        "sql/crew.py",
        "            if self._taken >= self._most + self._waiting:\n",
        "            if False:\n",
        DEPTH + "test_who_comes_when_all_plan_and_enough_wait_is_told_so_at_once",
    ),
    Mutant(
        "SQL",
        "dates and times go through Python's",
        "sql/plain.py",
        "    (pa.types.is_timestamp, _moments),\n",
        "",
        "tests/unit/sql/test_plain.py::test_what_python_has_no_date_for_is_told",
    ),
    Mutant(
        "the service",
        "a connection is closed under a client that has not sent all yet",
        "server/lingering.py",
        "            if is_end and not is_read:\n",
        "            if False:\n",
        "tests/server/test_unread_bodies.py::test_a_refusal_within_a_chunked_body_is_seen",
    ),
    Mutant(
        "requests",
        "a request reads the current epoch whenever it looks something up",
        "asgi.py",
        '{**scope.get("state", {}), "epoch": operation}',
        '{**scope.get("state", {}), "epoch": type("Now", (), {"__getitem__": '
        "lambda _, kind: self._runtime.epoch[kind]})()}",
        ASGI + "test_requests_beside_reloads_see_no_mix",
    ),
    Mutant(
        "compiling aside",
        "code that is kept bears the name of the generation that it was first compiled for",
        "loaders/_compiler.py",
        "        _imp._fix_co_filename(code, file)  # type: ignore[attr-defined]  # noqa: SLF001\n",
        "",
        COMPILER + "test_code_bears_the_name_that_it_was_asked_for_also_inside",
    ),
)
