"""Full text search on tantivy: `fulltext.text('words', 10)` in SQL.

Build it of a whole number that names a row and any number of texts:

    db.build_index("fulltext.text", "SELECT id, title, body FROM articles")

The query is tantivy's language: `reload AND "old code" -restart`.
"""

# /// plugin
# id = "fulltext"
# version = "1.0.0"
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

import tantivy

from epochal.kinds import index

FORMAT = 1
_HEAP = 64 << 20


class Hit(NamedTuple):
    id: int
    score: float


@index
class text:
    """Texts by their words, best first (BM25)."""

    def __init__(self):
        self.index = self.home = None
        self.columns = []

    def build(self, rows):
        """Index every row: its first column is the number, the others are texts."""
        self.home = tempfile.mkdtemp(prefix="fulltext-")
        weakref.finalize(self, shutil.rmtree, self.home, ignore_errors=True)
        writer = None
        for batch in rows:
            key, *self.columns = batch.schema.names
            if writer is None:
                self.index = tantivy.Index(_schema(self.columns), path=self.home)
                writer = self.index.writer(heap_size=_HEAP, num_threads=1)
            texts = [batch.column(name).to_pylist() for name in self.columns]
            for number, *row in zip(batch.column(key).to_pylist(), *texts, strict=True):
                document = tantivy.Document()
                document.add_integer("id", number)
                for name, value in zip(self.columns, row, strict=True):
                    document.add_text(name, value or "")
                writer.add_document(document)
        if writer is None:
            raise ValueError("there are no rows to index")
        writer.commit()
        writer.wait_merging_threads()
        self.index.reload()

    def persist(self, folder):
        """Its files, which never change, under a second name where the disk has such."""
        for file in Path(self.home).iterdir():
            if file.suffix != ".lock":
                _link(file, folder / file.name)
        (folder / "epochal.json").write_text(
            json.dumps({"format": FORMAT, "columns": self.columns})
        )

    def open(self, folder):
        """Open what `persist` wrote."""
        said = json.loads((folder / "epochal.json").read_text())
        if said["format"] != FORMAT:
            raise ValueError(f"the index has format {said['format']}; this version reads {FORMAT}")
        self.columns = said["columns"]
        self.index = tantivy.Index.open(str(folder))

    def search(self, words: str, limit: int = 10) -> list[Hit]:
        """The rows in which the words are, best first."""
        searcher = self.index.searcher()
        query = self.index.parse_query(words, self.columns)
        found = searcher.search(query, limit).hits
        return [Hit(searcher.doc(address)["id"][0], score) for score, address in found]


def _schema(columns):
    builder = tantivy.SchemaBuilder()
    builder.add_integer_field("id", stored=True)
    for name in columns:
        builder.add_text_field(name, stored=False)
    return builder.build()


def _link(file, to):
    try:
        os.link(file, to)
    except OSError:
        shutil.copy2(file, to)
