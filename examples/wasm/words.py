"""A plugin as a component in Python; docs/wasm.md has the command that builds it."""

from wit_world import WitWorld as World
from wit_world import exports
from wit_world.imports import log


class WitWorld(World):
    """The functions that the manifest declares."""

    def shout(self, text: str) -> str:
        """In capitals."""
        return text.upper() + "!"


class Lifecycle(exports.Lifecycle):
    """What the host calls in each instance."""

    def register(self) -> None:
        """First of all."""
        log.info("words are here")

    def init(self, config: str) -> None:
        """With the configuration, as JSON."""

    def shutdown(self) -> None:
        """After the last call."""
