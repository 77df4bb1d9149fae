"""The plugin `example`, a component; `python build_example.py` makes example.wasm of it.

The build makes `wit_world` of example.wit.
"""

from wit_world import WitWorld as World
from wit_world import exports


class WitWorld(World):
    """The functions that example.toml declares."""

    def greet(self, name: str) -> str:
        """A greeting."""
        return f"Hello, {name}!"


class Lifecycle(exports.Lifecycle):
    """The functions that the host calls in each instance."""

    def register(self) -> None:
        """First of all."""

    def init(self, config: str) -> None:
        """With the configuration, as JSON."""

    def shutdown(self) -> None:
        """After the last call."""
