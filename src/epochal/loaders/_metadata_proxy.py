"""`importlib.metadata` for a plugin that carries distributions, which are found there.

A carried distribution asks for its own version, or for the entry points by which its parts find one
another (`markdown.extensions`). Both are in the `.dist-info` folder beside its packages, and an
entry point of it loads the plugin's own copy. An installed distribution of the same name is hidden;
all others are found as ever.
"""

from __future__ import annotations

import functools
import re
from importlib import metadata
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from epochal.loaders._module_proxies import ModuleProxy

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import ModuleType


class MetadataProxy(ModuleProxy):
    """`importlib.metadata` for one generation, with the distributions in one of its folders.

    `load` imports a module by the name that it has inside the plugin.
    """

    def __init__(
        self, files: Mapping[str, bytes], folder: str, load: Callable[[str], ModuleType]
    ) -> None:
        super().__init__(metadata)
        self._carried: Final = {
            _normal(info.removesuffix(_INFO).partition("-")[0]): _Carried(
                files, f"{folder}/{info}", load
            )
            for info in _infos(files, folder)
        }

    def distribution(self, distribution_name: str) -> metadata.Distribution:
        """As `importlib.metadata.distribution`, for this generation."""
        carried = self._carried.get(_normal(distribution_name))
        return carried or metadata.distribution(distribution_name)

    def distributions(self, **params: Any) -> Iterator[metadata.Distribution]:
        """As `importlib.metadata.distributions`, for this generation."""
        yield from self._carried.values()
        for installed in metadata.distributions(**params):
            if _normal(installed.metadata["Name"] or "") not in self._carried:
                yield installed

    def entry_points(self, **params: Any) -> metadata.EntryPoints:
        """As `importlib.metadata.entry_points`, for this generation."""
        points = (point for each in self.distributions() for point in each.entry_points)
        return metadata.EntryPoints(points).select(**params)

    def __getattr__(self, name: str) -> Any:
        if name not in _OF_ONE_DISTRIBUTION:
            return super().__getattr__(name)

        def of_distribution(distribution_name: str) -> Any:
            return getattr(self.distribution(distribution_name), name)

        return functools.wraps(getattr(metadata, name))(of_distribution)


class _Carried(metadata.Distribution):
    """A distribution inside an artifact."""

    def __init__(
        self, files: Mapping[str, bytes], info: str, load: Callable[[str], ModuleType]
    ) -> None:
        self._files: Final = files
        self._info: Final = info
        self._load: Final = load

    def read_text(self, filename: str) -> str | None:
        """A file of its `.dist-info`; None if there is none of that name."""
        content = self._files.get(f"{self._info}/{filename}")
        return content.decode() if content is not None else None

    def locate_file(self, path: str | os.PathLike[str]) -> Any:
        """The path of one of its files in the artifact."""
        return PurePosixPath(self._info).parent / path

    @property
    def entry_points(self) -> metadata.EntryPoints:
        """Its entry points; they load the plugin's own copy."""
        points = super().entry_points
        return metadata.EntryPoints(_OwnEntryPoint(point, self, self._load) for point in points)


class _OwnEntryPoint(metadata.EntryPoint):
    """An entry point of a carried distribution."""

    def __init__(
        self,
        point: metadata.EntryPoint,
        dist: metadata.Distribution,
        load: Callable[[str], ModuleType],
    ) -> None:
        super().__init__(point.name, point.value, point.group)
        vars(self).update(dist=dist, _load=load)  # entry points refuse assignment

    def load(self) -> Any:
        """Import the carried module and return the object that the entry point names."""
        names = filter(None, (self.attr or "").split("."))
        return functools.reduce(getattr, names, vars(self)["_load"](self.module))


_OF_ONE_DISTRIBUTION: Final = frozenset({"version", "metadata", "requires", "files"})
_INFO: Final = ".dist-info"


def _infos(files: Iterable[str], folder: str) -> set[str]:
    prefix = f"{folder}/"
    tops = {path[len(prefix) :].partition("/")[0] for path in files if path.startswith(prefix)}
    return {top for top in tops if folder and top.endswith(_INFO)}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
