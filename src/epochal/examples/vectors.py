"""Nearest vectors on usearch: `vectors.near($1, 10)` in SQL.

Build it of a whole number that names a row and its vector, a list of numbers:

    db.build_index("vectors.near", "SELECT id, embedding FROM articles")
"""

# /// plugin
# id = "vectors"
# version = "1.1.0"
# dependencies = ["usearch", "numpy", "pyarrow"]
# capabilities = ["index"]
# ///
import json
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from usearch.index import Index

from epochal.kinds import index

FORMAT = 1
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


class Neighbour(NamedTuple):
    id: int
    distance: float


@index
class near:
    """The vectors that are nearest by the cosine of their angle."""

    def __init__(self):
        self.index = None  # as long as nobody knows how long its vectors are

    def build(self, rows):
        """Index every row: its number and its vector."""
        done = 0
        for batch in rows:
            _check(batch.schema)
            if not batch.num_rows:
                continue
            keys, vectors = _keys(batch.column(0), done), _vectors(batch.column(1), done)
            ndim = vectors.shape[1]
            if self.index is None:
                self.index = Index(ndim=ndim, metric="cos", dtype="f32")
            if ndim != self.index.ndim:
                raise ValueError("the vectors are of different lengths")
            self.index.add(keys, vectors)
            done += batch.num_rows

    def persist(self, folder):
        """One file, and what it is."""
        if self.index is not None:
            self.index.save(str(folder / "vectors.usearch"))
        said = {"format": FORMAT, "dimensions": self.index and self.index.ndim}
        (folder / "epochal.json").write_text(json.dumps(said))

    def open(self, folder):
        """Read the file where it lies, a page at a time, as it is searched."""
        said = json.loads((folder / "epochal.json").read_text())
        if said["format"] != FORMAT:
            raise ValueError(f"the index has format {said['format']}; this version reads {FORMAT}")
        if said["dimensions"] is not None:
            self.index = Index.restore(str(folder / "vectors.usearch"), view=True)

    def search(self, vector: list[float], limit: int = 10) -> list[Neighbour]:
        """The rows whose vectors are nearest."""
        if limit < 1:
            raise ValueError(f"limit is {limit}; expected at least 1")
        if self.index is None:
            return []
        if len(vector) != self.index.ndim:
            raise ValueError(f"expected {self.index.ndim} numbers, not {len(vector)}")
        wanted = np.array(vector, dtype=np.float32)
        if not np.isfinite(wanted).all() or not wanted.any():
            raise ValueError(f"{vector} has no direction")
        found = self.index.search(wanted, min(limit, len(self.index)))
        return [Neighbour(int(match.key), float(match.distance)) for match in found]


def _check(schema):
    numbers, vectors = schema.types[:2] if len(schema) > 1 else (None, None)
    if not (numbers and pa.types.is_integer(numbers) and any(is_(vectors) for is_ in _LISTS)):
        raise ValueError(f"expected a whole number and a list of numbers, not {schema.types}")


def _keys(column, done):
    _refuse(pc.is_null(column), column, done, "number")
    _refuse(pc.less(column, 0), column, done, "number")
    return column.to_numpy(zero_copy_only=False).astype(np.uint64)


def _vectors(column, done):
    _refuse(pc.is_null(column), column, done, "vector")
    lengths = pc.list_value_length(column)
    _refuse(pc.equal(lengths, 0), column, done, "vector")
    ndim, *others = pc.unique(lengths).to_pylist()
    if others:
        raise ValueError("the vectors are of different lengths")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused below
        flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    vectors = flat.reshape(len(column), ndim)
    # A null is NaN by now; what has no length has no angle either.
    wrong = ~np.isfinite(vectors).all(axis=1) | ~vectors.any(axis=1)
    _refuse(pa.array(wrong), column, done, "vector")
    return vectors


def _refuse(wrong, column, done, what):
    """Raise if a row is wrong, and say which."""
    if (first := pc.index(wrong, True).as_py()) >= 0:
        raise ValueError(f"row {done + first + 1} has {column[first].as_py()!r} for its {what}")
