"""Nearest vectors on usearch: `vectors.near($1, 10)` in SQL.

Build it of a whole number that names a row and its vector, a list of numbers:

    db.build_index("vectors.near", "SELECT id, embedding FROM articles")
"""

# /// plugin
# id = "vectors"
# version = "1.0.0"
# dependencies = ["usearch", "numpy", "pyarrow"]
# capabilities = ["index"]
# ///
import json
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
from usearch.index import Index

from epochal.kinds import index

FORMAT = 1


class Neighbour(NamedTuple):
    id: int
    distance: float


@index
class near:
    """The vectors that are nearest by the cosine of their angle."""

    def __init__(self):
        self.index = None

    def build(self, rows):
        """Index every row: its number and its vector."""
        for batch in rows:
            keys = batch.column(0).to_numpy(zero_copy_only=False).astype(np.uint64)
            vectors = batch.column(1)
            if vectors.null_count or batch.column(0).null_count:
                raise ValueError("a row without a number or a vector cannot be indexed")
            if not len(keys):
                continue
            ndim, *others = pc.unique(pc.list_value_length(vectors)).to_pylist()
            if self.index is None:
                self.index = Index(ndim=ndim, metric="cos", dtype="f32")
            if others or ndim != self.index.ndim:
                raise ValueError("the vectors are of different lengths")
            flat = vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
            self.index.add(keys, flat.reshape(len(keys), ndim))
        if self.index is None:
            raise ValueError("there are no rows to index")

    def persist(self, folder):
        """One file, and what it is."""
        self.index.save(str(folder / "vectors.usearch"))
        said = {"format": FORMAT, "dimensions": self.index.ndim}
        (folder / "epochal.json").write_text(json.dumps(said))

    def open(self, folder):
        """Read the file where it lies, a page at a time, as it is searched."""
        said = json.loads((folder / "epochal.json").read_text())
        if said["format"] != FORMAT:
            raise ValueError(f"the index has format {said['format']}; this version reads {FORMAT}")
        self.index = Index.restore(str(folder / "vectors.usearch"), view=True)

    def search(self, vector: list[float], limit: int = 10) -> list[Neighbour]:
        """The rows whose vectors are nearest."""
        if len(vector) != self.index.ndim:
            raise ValueError(f"expected {self.index.ndim} numbers, not {len(vector)}")
        found = self.index.search(np.array(vector, dtype=np.float32), limit)
        return [Neighbour(int(match.key), float(match.distance)) for match in found]
