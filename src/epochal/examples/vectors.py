"""An index: nearest vectors on usearch, `vectors.near($1, 10)` in SQL.

Build it from a whole number that identifies a row, and its vector, a list of numbers:

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
    """Finds the nearest vectors, by the cosine of their angle."""

    def __init__(self):
        self.index = None  # until the first row gives the length of the vectors

    def build(self, rows):
        """Add every row's vector under its number."""
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
        """Write the index into one file, and its format into another."""
        if self.index is not None:
            self.index.save(str(folder / "vectors.usearch"))
        about = {"format": FORMAT, "dimensions": self.index and self.index.ndim}
        (folder / "epochal.json").write_text(json.dumps(about))

    def open(self, folder):
        """Map the file into memory; searches read it a page at a time."""
        about = json.loads((folder / "epochal.json").read_text())
        if about["format"] != FORMAT:
            raise ValueError(f"the index has format {about['format']}; this version reads {FORMAT}")
        if about["dimensions"] is not None:
            self.index = Index.restore(str(folder / "vectors.usearch"), view=True)

    def search(self, vector: list[float], limit: int = 10) -> list[Neighbour]:
        """Return the rows with the nearest vectors."""
        if limit < 1:
            raise ValueError(f"limit is {limit}; expected at least 1")
        if self.index is None:
            return []
        if len(vector) != self.index.ndim:
            raise ValueError(f"expected {self.index.ndim} numbers, not {len(vector)}")
        wanted = np.array(vector, dtype=np.float32)
        if not np.isfinite(wanted).all() or not wanted.any():
            raise ValueError(f"{vector} has no direction")
        matches = self.index.search(wanted, min(limit, len(self.index)))
        return [Neighbour(int(match.key), float(match.distance)) for match in matches]


def _check(schema):
    numbers, vectors = schema.types[:2] if len(schema) > 1 else (None, None)
    if not (numbers and pa.types.is_integer(numbers) and any(test(vectors) for test in _LISTS)):
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
    with np.errstate(over="ignore"):  # a number too large becomes infinite, and is refused below
        flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    vectors = flat.reshape(len(column), ndim)
    # A null is NaN by now; a vector of length zero has no angle.
    wrong = ~np.isfinite(vectors).all(axis=1) | ~vectors.any(axis=1)
    _refuse(pa.array(wrong), column, done, "vector")
    return vectors


def _refuse(wrong, column, done, part):
    """Raise if a row is wrong, naming the first."""
    if (first := pc.index(wrong, True).as_py()) >= 0:
        raise ValueError(f"row {done + first + 1} has {column[first].as_py()!r} for its {part}")
