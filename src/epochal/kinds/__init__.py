"""The kinds of things that plugins export, as markers for their authors.

::

    from epochal.kinds import scalar

    @scalar
    def distance(lat1: float, lon1: float, lat2: float, lon2: float) -> float: ...

No engine is needed to import or to check them: a plugin's own tests run without one.

Each kind is one file. Kinds that SQL calls share `signature` (annotations to SQL types, listed in
`sql_types`), `codec` (values of data types) and `arrow`; kinds that keep state share `toolkit`,
which is also for kinds of your own.
"""

from epochal.kinds.aggregate import aggregate
from epochal.kinds.data_type import data_type
from epochal.kinds.hook import Hook, Refusal, Verdict
from epochal.kinds.index import index
from epochal.kinds.job import job
from epochal.kinds.mergeable_state import mergeable_state
from epochal.kinds.prompt import prompt
from epochal.kinds.resource import resource
from epochal.kinds.scalar import scalar
from epochal.kinds.service import service
from epochal.kinds.storage import storage
from epochal.kinds.stream import sink, source
from epochal.kinds.table_function import table_function
from epochal.kinds.tool import tool
from epochal.kinds.window import window

__all__ = [
    "Hook",
    "Refusal",
    "Verdict",
    "aggregate",
    "data_type",
    "index",
    "job",
    "mergeable_state",
    "prompt",
    "resource",
    "scalar",
    "service",
    "sink",
    "source",
    "storage",
    "table_function",
    "tool",
    "window",
]
