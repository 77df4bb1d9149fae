"""Ray: SQL in parts over a cluster, and epochs that are built before they are needed.

::

    from epochal.ray import prepare, query

    result = query(rt, merge="SELECT origin, geo.mean(delay) FROM data GROUP BY origin", files=[…])

Ray's tasks, actors and Serve deployments take `epoch.remote[kind]["plugin.name"]` as it is.
"""

from epochal.ray.parts import PartsResult, prepare, query

__all__ = ["PartsResult", "prepare", "query"]
