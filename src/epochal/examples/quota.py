"""A service: a rate limiter with counts that survive every reload.

`epoch[service]["quota.limiter"].hit("alice")` counts a call, and returns whether it is within the
limit. Configuration: `limit`, the number of calls for each key (default: no limit).
"""

# /// plugin
# id = "quota"
# version = "1.0.0"
# capabilities = ["service"]
# ///
import threading

from epochal.kinds import service

config = {}


def init(ctx):
    limit = ctx.config.get("limit", float("inf"))
    if not isinstance(limit, (int, float)) or isinstance(limit, bool) or limit < 0:
        raise ValueError(f"quota needs a number of calls as `limit`, not {limit!r}")
    config["limit"] = limit


@service
class limiter:
    """Counts calls by key."""

    def __init__(self):
        self.counts = {}
        self.lock = threading.Lock()

    def hit(self, key: str) -> bool:
        """Count one call; return whether it is within the limit."""
        with self.lock:
            count = self.counts[key] = self.counts.get(key, 0) + 1
        return count <= config["limit"]

    def count(self, key: str) -> int:
        """Return the number of calls so far."""
        return self.counts.get(key, 0)

    def export_state(self):
        """Return the state as plain data, since the next version has other classes."""
        return {"format": 1, "counts": self.counts}

    def import_state(self, state, from_version):
        """Take the counts over, from any version that exports this format."""
        if state["format"] != 1:
            raise ValueError(f"counts of version {from_version} have format {state['format']}")
        self.counts = state["counts"]
