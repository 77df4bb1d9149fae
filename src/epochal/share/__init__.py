"""The share: what processes need to run one another's epochs, on any storage that fsspec reaches.

::

    rt = Runtime(share="s3://bucket/epochs")       # or a folder that all of them mount
    with rt.lease("nightly") as epoch: ...

`Share` has the plugins' bytes and the epochs' documents, each under its digest; `Cluster` says
which processes hold what. A process of the other side uses `epochal.worker`.
"""

from epochal.share.cluster import Cluster, Hold
from epochal.share.heartbeat import ClusterLease, LeaseRecord, Presence
from epochal.share.share import Collected, Share

__all__ = ["Cluster", "ClusterLease", "Collected", "Hold", "LeaseRecord", "Presence", "Share"]
