"""Ray: SQL in parts over a cluster, and epochs that are built before they are needed.

::

    from epochal.ray import prepare, query

    result = query(rt, part="SELECT … FROM data …", final="SELECT … FROM parts …", files=[…])

Ray's tasks, actors and Serve deployments take `epoch.remote[kind]["plugin.name"]` as it is.
"""

from epochal.ray.parts import PartsResult, prepare, query

__all__ = ["PartsResult", "prepare", "query"]
