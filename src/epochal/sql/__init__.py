"""SQL over plugin functions that are swapped under running queries.

Needs the extra `sql` (`pip install 'epochal[sql]'`): DataFusion is the engine, Arrow the data.
"""

try:
    import datafusion as _datafusion
    import pyarrow as _pyarrow
except ImportError as error:  # pragma: no cover  # the test environment has both
    raise ImportError(
        f"epochal.sql needs the extra 'sql': pip install 'epochal[sql]' ({error})"
    ) from error

from epochal.kinds.arrow import arrow_type
from epochal.sql.database import Database, Prepared
from epochal.sql.provenance import EpochRef, Provenance
from epochal.sql.result import Result
from epochal.sql.types import sql_name, sql_signature

del _datafusion, _pyarrow

__all__ = [
    "Database",
    "EpochRef",
    "Prepared",
    "Provenance",
    "Result",
    "arrow_type",
    "sql_name",
    "sql_signature",
]
