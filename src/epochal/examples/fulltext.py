"""An index: full text search on tantivy, `fulltext.text('words', 10)` in SQL.

Build it from a whole number that identifies a row, and any number of texts:

    db.build_index("fulltext.text", "SELECT id, title, body FROM articles")

Queries are written in tantivy's query language: `reload AND "old code" -restart`.
"""

# /// plugin
# id = "fulltext"
# version = "1.1.0"
# dependencies = ["tantivy", "pyarrow"]
# capabilities = ["index"]
# ///
import json
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import tantivy

from epochal.kinds import index

FORMAT = 1
_HEAP = 64 << 20
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


class Hit(NamedTuple):
    id: int
    score: float


@index
class text:
    """Finds rows by the words of their texts, best first (BM25)."""

    def __init__(self):
        self.index = self.home = None
        self.columns = []

    def build(self, rows):
        """Index every row: its first column is the number, the others are texts."""
        self.home = Path(tempfile.mkdtemp(prefix="fulltext-"))
        weakref.finalize(self, _remove, self.home, os.getpid())
        writer, done = None, 0
        for batch in rows:
            if writer is None:
                self.columns = _columns(batch.schema)
                self.index = tantivy.Index(_schema(self.columns), path=str(self.home))
                writer = self.index.writer(heap_size=_HEAP, num_threads=1)
            numbers, *texts = (column.to_pylist() for column in batch.columns)
            for number, *row in zip(numbers, *texts, strict=True):
                done += 1
                if number is None or number >= 2**63:
                    raise ValueError(f"row {done} has {number!r} for its number")
                document = tantivy.Document()
                document.add_integer("id", number)
                for name, value in zip(self.columns, row, strict=True):
                    document.add_text(name, value or "")
                writer.add_document(document)
        if writer is None:
            raise ValueError("there is not even an empty batch, which would name the columns")
        writer.commit()
        writer.wait_merging_threads()
        self.index.reload()

    def persist(self, folder):
        """Link the index's files, which never change; copy them where links are not possible."""
        for file in self.home.iterdir():
            if file.suffix != ".lock":
                _link(file, folder / file.name)
        (folder / "epochal.json").write_text(
            json.dumps({"format": FORMAT, "columns": self.columns})
        )

    def open(self, folder):
        """Open the files that `persist` wrote, in place."""
        about = json.loads((folder / "epochal.json").read_text())
        if about["format"] != FORMAT:
            raise ValueError(f"the index has format {about['format']}; this version reads {FORMAT}")
        self.columns = about["columns"]
        self.index = tantivy.Index.open(str(folder))
        self.home = folder

    def search(self, words: str, limit: int = 10) -> list[Hit]:
        """Return the rows that contain the words, best first."""
        if limit < 1:
            raise ValueError(f"limit is {limit}; expected at least 1")
        searcher = self.index.searcher()
        limit = min(limit, searcher.num_docs)  # tantivy allocates room for `limit` hits
        if not limit or not self.columns:
            return []
        query = self.index.parse_query(words, self.columns)
        hits = searcher.search(query, limit).hits
        return [Hit(searcher.doc(address)["id"][0], score) for score, address in hits]


def _columns(schema):
    """Return the names of the text columns; refuse names at which tantivy panics."""
    if not pa.types.is_integer(schema.types[0]):
        raise ValueError(f"column {schema.names[0]!r} is {schema.types[0]}; expected whole numbers")
    names = schema.names[1:]
    for name, kind in zip(names, schema.types[1:], strict=True):
        if not any(is_text(kind) for is_text in _TEXTS):
            raise ValueError(f"column {name!r} is {kind}; expected texts")
        if name in ("", "id") or name[0] == "-" or names.count(name) > 1:
            raise ValueError(f"column {name!r} cannot be a field: name it by a word (`AS title`)")
    return names


def _schema(columns):
    builder = tantivy.SchemaBuilder()
    builder.add_integer_field("id", stored=True)
    for name in columns:
        builder.add_text_field(name, stored=False)
    return builder.build()


def _remove(home, pid):
    if os.getpid() == pid:  # a fork copies this finalizer, but the files are its parent's
        shutil.rmtree(home, ignore_errors=True)


def _link(file, to):
    try:
        os.link(file, to)
    except OSError:
        shutil.copy2(file, to)
