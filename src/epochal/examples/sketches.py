"""A mergeable state: approximate distinct counts, by HyperLogLog sketches of Apache DataSketches.

    SELECT day, sketches.distinct_state(user) FROM visits GROUP BY day     -- keep a few KiB a day
    SELECT sketches.distinct_merge(sketch) FROM days                       -- and merge any of them

The error is 1.6 % for two in three results (lg_k = 12: datasketches.apache.org, "HLL Sketch").
"""

# /// plugin
# id = "sketches"
# version = "1.0.0"
# dependencies = ["datasketches"]
# capabilities = ["mergeable_state"]
# ///
from datasketches import hll_sketch, hll_union, tgt_hll_type

from epochal.kinds import mergeable_state

_LG_K = 12


@mergeable_state
class distinct:
    """The approximate number of distinct values."""

    parameters = {"sketch": "HLL_8", "lg_k": _LG_K}
    samples = [[(f"user {n}",) for n in range(1000)], [(f"user {n}",) for n in range(900, 2000)]]

    def __init__(self):
        self.union = hll_union(_LG_K)

    def update(self, value: str) -> None:
        """Add a value."""
        self.union.update(value)

    def merge(self, other: "distinct") -> None:
        """Add another sketch."""
        self.union.update(other.union.get_result(tgt_hll_type.HLL_8))

    def evaluate(self) -> float:
        """Return the estimated number of distinct values."""
        return self.union.get_estimate()

    def state(self) -> bytes:
        """Return the sketch in the format of DataSketches, which its other languages read too."""
        return bytes(self.union.get_result(tgt_hll_type.HLL_8).serialize_compact())

    def restore(self, state: bytes) -> None:
        """Add the sketch that `state` returned to this empty one."""
        self.union.update(hll_sketch.deserialize(state))
