"""SQL in parts over a Ray cluster, and epochs that are built before they are needed.

Ray moves the work, DataFusion computes each part, and an epoch's id says with which code: a part
that is retried on another worker, also after a change and after a worker died, runs the same epoch.
There is no shuffle: each part reads one file, and the states of their aggregates are merged here.

Ray's own tasks, actors and Serve deployments take `epoch.remote[kind]["plugin.name"]` as an
argument or in a closure, without anything from here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import ray

from epochal.errors import HostError
from epochal.runtime import Runtime
from epochal.sql import Database
from epochal.sql.function_registry import index_of
from epochal.sql.merging import MergedQuery
from epochal.worker import epochs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike

    from epochal import Epoch

_RETRIES: Final = 10
"""How often Ray runs a part again whose worker died."""


@dataclass(frozen=True, slots=True)
class PartsResult:
    """The answer of a query in parts.

    Attributes:
        table: its rows.
        epoch: the id of the epoch that computed all of them.
        parts: how many parts there were.
        provenance: plugin -> the version and digest that it ran in this epoch.
    """

    table: pa.Table
    epoch: str
    parts: int
    provenance: dict[str, tuple[str, str]]

    def rows(self) -> list[tuple[Any, ...]]:
        """The rows as tuples of Python values."""
        return list(zip(*(column.to_pylist() for column in self.table.columns), strict=True))


def query(
    rt: Runtime,
    *,
    files: Sequence[str | PathLike[str]],
    merge: str | None = None,
    part: str | None = None,
    final: str | None = None,
    epoch: Epoch | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> PartsResult:
    """Run a query over many files on Ray's workers, one part for each file.

    All of it runs in one epoch, which a lease names until the end. A part whose worker dies is run
    again, in the same epoch.

    Args:
        rt: a runtime with a share that the workers reach.
        files: what the table `data` is in each part: paths that the workers reach; see
            `Database.register`.
        merge: a query over the rows of all files, which are the table `data` in it: one SELECT of
            columns and aggregates with WHERE and GROUP BY. Each part answers the states of the
            aggregates, which are merged here.
        part: in the place of `merge`, any SQL over one file; its rows are put together.
        final: SQL over the rows so far, which are the table `parts` in it; None for these.
        epoch: the epoch to run it in; None for the caller's.
        progress: is called with the number of parts that are done, and of all.

    Raises:
        HostError: no files, or Ray was not started, or neither or both of `merge` and `part`.
        NoShareError: the runtime has no share.
        EpochUnavailableError: a worker cannot have the epoch; it names the worker and the reason.
        QueryError: the SQL is invalid, cannot be merged, or failed.
    """
    if (merge is None) == (part is None):
        raise HostError("a query in parts needs either merge= or part=")
    if not files:
        raise HostError("a query in parts needs at least one file")
    if not ray.is_initialized():
        raise HostError("Ray is not started here: call ray.init() first")
    with rt.lease(f"query in {len(files)} parts", epoch=epoch) as lease:
        merged = None if merge is None else MergedQuery(merge, index_of(lease.epoch))
        sql = merged.part if merged is not None else str(part)
        share = rt.cluster.share.url
        left = iter(enumerate(files))
        waiting: dict[Any, int] = {}
        tables: dict[int, pa.Table] = {}
        ahead = _ahead()
        while len(tables) < len(files):
            for n, file in islice(left, max(0, ahead - len(waiting))):
                waiting[_run_part.remote(share, lease.id, sql, os.fspath(file))] = n
            [ready], _ = ray.wait(list(waiting), num_returns=1)
            tables[waiting.pop(ready)] = _got(ready)
            if progress is not None:
                progress(len(tables), len(files))
            if len(tables) % ahead == 0:
                ahead = _ahead()  # of a cluster that grows
        table = pa.concat_tables(tables[n] for n in sorted(tables))
        if merged is not None:
            whole = _over(table, merged.whole(table.schema), rt, lease.epoch)
            table = merged.typed(whole, table.schema)
        if final is not None:
            table = _over(table, final, rt, lease.epoch)
        provenance = {p: (g.version, g.digest) for p, g in lease.generations.items()}
        return PartsResult(table, lease.id, len(files), provenance)


def _ahead() -> int:
    """How many parts Ray is given at a time, so that none of its processors waits for more.

    The others are begun as these are done: after an error or Ctrl-C, none of them runs. Those that
    run are left to end, since `ray.cancel` of a part that ends or dies at that moment aborts this
    process in Ray 2.60: "Tried to complete task that was not pending". See a sibling,
    https://github.com/ray-project/ray/pull/54798.
    """
    return 4 * max(1, int(ray.cluster_resources().get("CPU", 1.0)))


def _over(parts: pa.Table, sql: str, rt: Runtime, epoch: Epoch) -> pa.Table:
    """What a query answers over the rows of all parts."""
    with Database(rt) as db:
        db.register("parts", parts)
        return db.query(sql, epoch=epoch).to_table()


def prepare(rt: Runtime, epoch: Epoch | None = None, *, timeout: float = 60.0) -> tuple[str, ...]:
    """Build an epoch on every node of the cluster, so that no first query waits for it.

    A change can require it, and is refused where a node cannot load the epoch::

        rt.reload("geo", prepare=partial(prepare, rt))

    Args:
        rt: a runtime with a share that the workers reach.
        epoch: the epoch; None for the current one. A stage's is put into the share.
        timeout: seconds for all nodes.

    Returns:
        The workers that have it, `host:pid`, one on each node.

    Raises:
        NoShareError: the runtime has no share.
        EpochUnavailableError: a node cannot have it; it names the worker and the reason.
        TimeoutError: a node did not do it in time.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    share, epoch = rt.cluster.share, rt.snapshot() if epoch is None else epoch
    share.ensure(epoch)
    asked = [
        _build.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(share.url, epoch.id)
        for node in ray.nodes()
        if node["Alive"]
    ]
    return tuple(_got(one, timeout) for one in asked)


def _got(ref: Any, timeout: float | None = None) -> Any:
    """What a task returned; its own error rather than Ray's around it."""
    try:
        return ray.get(ref, timeout=timeout)
    except ray.exceptions.RayTaskError as error:
        failed = error.cause
        if not isinstance(failed, Exception):
            raise
    # Without Ray's error, whose frames lead to the epoch: a change that is refused by this one
    # waits for the epoch's uses as it is rolled back.
    raise failed


@ray.remote(max_retries=_RETRIES)
def _run_part(share: str, epoch: str, sql: str, file: str) -> pa.Table:
    # A process that cannot load it ends, and Ray runs the part again in another.
    here = epochs(share).get_or_exit(epoch)
    # As many threads as Ray gave processors: its other workers have the rest.
    given = ray.get_runtime_context().get_assigned_resources().get("CPU", 1.0)
    # Of a runtime without plugins: the functions are the epoch's.
    with Runtime() as runtime, Database(runtime, partitions=max(1, int(given))) as db:
        db.register("data", file)
        return db.query(sql, epoch=here).to_table()


@ray.remote(max_retries=_RETRIES)
def _build(share: str, epoch: str) -> str:
    here = epochs(share)
    here.get(epoch)
    return here.process
