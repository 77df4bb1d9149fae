"""The functions of an epoch in a session of Spark.

::

    from epochal.spark import register

    with rt.lease("nightly") as epoch:                 # of a runtime with a share
        register(spark, epoch)
        spark.sql("SELECT origin, `geo.mean`(`geo.f`(delay)) FROM flights GROUP BY origin")

Scalars become Arrow functions and aggregates become grouped ones, under their full names, which
Spark's SQL wants in backticks. Spark sends a function as its name and its epoch's id, and its
Python workers build the epoch when they are first called. So every task of a query runs the epoch
that was registered when the query was planned, also when it is run again.

The classic session plans a query in `spark.sql(…)`; after that, another epoch may be registered. A
session of Connect plans it when its rows are asked for, so another epoch would reach data frames
that were made before: there, each epoch needs a session of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import pyarrow as pa

from epochal.errors import HostError
from epochal.sql.remote_functions import RemoteAggregate, RemoteScalar, remote_functions

try:
    from pyspark.sql.functions import udf
    from pyspark.sql.pandas.functions import arrow_udf
    from pyspark.sql.pandas.types import from_arrow_type
except ImportError as error:
    raise ImportError(
        f"epochal.spark needs the extra 'spark': pip install 'epochal[spark]' ({error})"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable

    from epochal import Epoch

# What `register` has put into each session: the epoch's id, and the names.
_registered: Final[WeakKeyDictionary[Any, tuple[str, frozenset[str]]]] = WeakKeyDictionary()


def register(session: Any, epoch: Epoch) -> tuple[str, ...]:
    """Put the scalars and the aggregates of an epoch into a session of Spark.

    Functions of the epoch before that this one does not have are dropped. Functions of plugins that
    belong to one process (see `LocalExportError`) are left out.

    Args:
        session: a `SparkSession`, classic or Connect.
        epoch: the epoch, of a runtime with a share that Spark's workers reach.

    Returns:
        The names, which SQL wants in backticks.

    Raises:
        NoShareError: the epoch's runtime has no share.
        HostError: Spark has no such type; or the session is one of Connect, and has another epoch.
    """
    before, names = _registered.get(session, ("", frozenset()))
    if before and before != epoch.id and _is_connect(session):
        raise HostError(
            f"this session of Spark Connect has epoch {before[:12]}, and plans data frames when "
            "they are run: register another epoch in a session of its own"
        )
    found = {function.export.name: _made(function) for function in remote_functions(epoch)}
    for name in names - found.keys():
        session.sql(f"DROP TEMPORARY FUNCTION IF EXISTS `{name}`")
    for name, function in found.items():
        session.udf.register(name, function)
    _registered[session] = epoch.id, frozenset(found)
    return tuple(found)


def _is_connect(session: Any) -> bool:
    return ".connect." in type(session).__module__


def _made(function: RemoteScalar | RemoteAggregate) -> Any:
    """A function of Spark's, which its workers call with Arrow columns."""
    here = function.function()
    try:
        kind = from_arrow_type(here.returns)
    except Exception as error:
        raise HostError(f"Spark has no type for the results of {here.usage}: {error}") from error
    if not here.parameters.kinds:
        return udf(_value(function), kind)  # Spark passes Arrow columns of parameters alone
    is_scalar = isinstance(function, RemoteScalar)
    call: Any = _columns(function) if is_scalar else _value(function)
    # Spark reads from these which of the two it is.
    call.__annotations__ = {"columns": pa.Array, "return": pa.Array if is_scalar else object}
    make: Any = arrow_udf  # its overloads miss this use
    return make(call, kind)


# Spark sends a function that was made in another as its code, so nothing of this module's is
# imported by its workers but what the function has.


def _columns(function: RemoteScalar | RemoteAggregate) -> Callable[..., Any]:
    def call(*columns: Any) -> Any:
        return function(*columns)

    return call


def _value(function: RemoteScalar | RemoteAggregate) -> Callable[..., Any]:
    def call(*columns: Any) -> Any:
        found = function(*columns)
        return (found if isinstance(function, RemoteAggregate) else found[0]).as_py()

    return call
