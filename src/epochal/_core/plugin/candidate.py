"""A candidate: all that determines a generation, known before any of its code runs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from epochal._core.plugin.artifact import Artifact
    from epochal._core.plugin.manifest import Manifest

NO_CONFIG: Final[Mapping[str, Any]] = MappingProxyType({})


def identity_of(digest: str, config: Mapping[str, Any], grants: Iterable[str]) -> str:
    """A plugin's part in an epoch's id: SHA-256 over digest, configuration and grants.

    Args:
        digest: of its artifact.
        config: JSON values.
        grants: capability patterns.
    """
    content = json.dumps([digest, dict(config), sorted(grants)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def epoch_id(identities: Mapping[str, str]) -> str:
    """The id of an epoch: SHA-256 over its plugins' identities.

    Args:
        identities: of each plugin, by id.
    """
    digest = hashlib.sha256()
    for plugin in sorted(identities):
        digest.update(f"{plugin} {identities[plugin]}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One version of a plugin with the configuration and the grants that it would run with.

    Attributes:
        artifact: its bytes.
        manifest: the plugin's own description.
        config: the host's configuration for it: a copy that went through JSON, since an epoch's id
            covers it and a restart reads it from JSON.
        grants: the capability patterns that the host grants it.
        identity: SHA-256 over digest, configuration and grants: the plugin's part in an epoch's id.

    Raises:
        TypeError: JSON cannot hold a configuration value.
    """

    artifact: Artifact
    manifest: Manifest
    config: Mapping[str, Any]
    grants: frozenset[str]
    identity: str = field(init=False)

    def __post_init__(self) -> None:
        try:
            config = json.loads(json.dumps(dict(self.config), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"the config of plugin {self.manifest.id!r} must be JSON values: {error}"
            ) from None
        object.__setattr__(self, "config", MappingProxyType(config))
        object.__setattr__(self, "identity", identity_of(self.artifact.digest, config, self.grants))

    @property
    def plugin(self) -> str:
        """The plugin's id."""
        return self.manifest.id
