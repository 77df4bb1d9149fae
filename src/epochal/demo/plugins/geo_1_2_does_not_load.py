# /// plugin
# id = "geo"
# version = "1.2.0"
# description = "Does not load: it imports what is not installed"
# requires = ["units>=1"]
# capabilities = ["scalar"]
# ///
"""A release that went wrong: its code cannot be executed, so it must change nothing."""

import geodesics_of_tomorrow  # type: ignore[import-not-found]  # the fault of this release

from epochal.kinds import scalar

distance = scalar(geodesics_of_tomorrow.distance)
