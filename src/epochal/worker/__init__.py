"""A worker's side: any process runs any epoch, from its id.

::

    from epochal.worker import epochs

    epoch = epochs("s3://bucket/epochs").get(epoch_id)      # built here, or there already
    epoch[scalar]["geo.distance"](lat1, lon1, lat2, lon2)

An object of `epoch.remote[kind]["plugin.name"]`, called in whatever process, does that by itself.
"""

from epochal._core.generation.epoch import EpochSource, RemoteTables
from epochal.worker.process_epochs import ProcessEpochs
from epochal.worker.remote_exports import RemoteExport, epochs

__all__ = ["EpochSource", "ProcessEpochs", "RemoteExport", "RemoteTables", "epochs"]
