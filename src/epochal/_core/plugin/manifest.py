"""A manifest: a plugin's own description, which can be read without running its code.

In a single file it is a comment block in the form of inline script metadata (the Python packaging
specification that grew from PEP 723), of type `plugin`::

    # /// plugin
    # id = "geo"
    # version = "1.2.0"
    # requires = ["units>=1"]            # other plugins
    # dependencies = ["numpy>=2"]        # distributions that must be installed
    # capabilities = ["scalar", "net:api.example.org"]
    # ///

In a package it is a `plugin.toml` beside `__init__.py` with the same keys (a block in `__init__.py`
does as well), and one more: `vendored = "_vendor"` names the folder of the distributions that the
plugin carries with it, as `pip install --target` fills it; each can be imported under its own name.
A plugin that cannot be there twice, since it has a port or a name in a registry that refuses a
second, says `handover = "stop-first"`: its active version is shut down before a new one starts.
``config = "Settings"`` names the class that the host's configuration must fit (see `settings`).

A WebAssembly plugin has the same keys, in the custom section `epochal.plugin` of its `.wasm` file
or in the `plugin.toml` of its folder, and its exports with their types (see `declared_exports`).

All faults are reported together, each in a line that names the place and the expected value.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from packaging.version import InvalidVersion, Version

from epochal._core.plugin.artifact import PACKAGE_MANIFEST, shown, wasm_modules
from epochal._core.plugin.capabilities import is_capability
from epochal.errors import ArtifactError, ManifestError, format_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from packaging.requirements import Requirement as Distribution
    from packaging.specifiers import SpecifierSet

    from epochal._core.plugin.artifact import Artifact
    from epochal._core.plugin.declared_exports import DeclaredExport

_KEYS: Final = (
    "id",
    "version",
    "description",
    "requires",
    "dependencies",
    "capabilities",
    "vendored",
    "handover",
    "config",
    "exports",
    "stateful",
)
_OF_PYTHON: Final = ("dependencies", "vendored", "config")
_OF_WASM: Final = ("exports", "stateful")
_ID: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_CURLY_QUOTES: Final = re.compile("[\u2018\u2019\u201c\u201d\u201e]")
_OPENING: Final = re.compile(r"^# /// plugin[ \t]*$")
_CLOSING: Final = "# ///"
_STOP_FIRST: Final = "stop-first"
_HANDOVERS: Final = ("side-by-side", _STOP_FIRST)
_MAX_SHOWN: Final = 200
_MAX_REQUIREMENT: Final = 1_000
_MAX_ENTRIES: Final = 1_000
"""In a list; any real one has a few dozens, and each is compared with the others."""
_MAX_FAULTS: Final = 20
"""Further ones are counted, not listed."""
_NO_SECTION: Final = (
    ": has no manifest; write one to a .toml file and put it in with "
    "`epochal wasm embed MODULE.wasm MANIFEST.toml`, or put it beside the module as plugin.toml"
)
_NEARLY_OPENING: Final = re.compile(r"\s*#+\s*/{2,}\s*plug\w*\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Requirement:
    """Another plugin that a plugin requires, and the acceptable versions."""

    plugin: str
    specifier: SpecifierSet

    def __str__(self) -> str:
        return f"{self.plugin}{self.specifier}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A plugin's own description.

    Attributes:
        id: its name, and the first part of its exports' names (`geo.distance`).
        version: the plugin's version.
        description: one line for people; empty if there is none.
        requires: other plugins.
        dependencies: distributions that must be installed.
        capabilities: exactly those that it asks for; None for the default (every kind, no service).
        vendored: the folder of the distributions that it carries with it; empty if there is none.
        stops_first: whether its active version is shut down before a new one comes up
            (`handover = "stop-first"`), rather than after it.
        config: the name of the class in its root module that its configuration must fit; empty if
            there is none.
        exports: those that it declares, since its code has no annotations.
        stateful: whether its code keeps state between calls, and so runs in one instance.
    """

    id: str
    version: Version
    description: str = ""
    requires: tuple[Requirement, ...] = ()
    dependencies: tuple[Distribution, ...] = ()
    capabilities: frozenset[str] | None = None
    vendored: str = ""
    stops_first: bool = False
    config: str = ""
    exports: tuple[DeclaredExport, ...] = ()
    stateful: bool = False


def is_plugin_id(text: str) -> bool:
    """Whether a text can be the id of a plugin."""
    return _ID.fullmatch(text) is not None


def read_manifest(artifact: Artifact) -> Manifest:
    """Read and check a plugin's manifest; none of its code runs.

    Raises:
        ManifestError: the manifest has faults; the error lists them all.
    """
    reader = _Reader(artifact)
    try:
        return reader.read()
    except ManifestError:
        raise
    except Exception as error:  # noqa: BLE001  the text is foreign, and so is the parser
        # It may run out of stack, or refuse a number of 5,000 digits.
        fault = f"{reader.place}: the manifest cannot be read: {format_error(error)}"
        raise ManifestError([fault]) from None


def _close_id(text: str) -> str:
    close = re.sub(r"\W+", "_", text.strip().lower()).strip("_")
    return f", such as {close!r}" if is_plugin_id(close) else ""


def has_manifest(artifact: Artifact) -> bool:
    """Whether an artifact has a manifest, correct or not: whether it is meant as a plugin."""
    if artifact.is_package and PACKAGE_MANIFEST in artifact.files:
        return True
    if artifact.language == "wasm":
        return _has_section(artifact.files[artifact.root])
    text = artifact.files[artifact.root].decode("utf-8-sig", errors="replace")
    return any(_OPENING.match(line) for line in text.splitlines())


def _has_section(content: bytes) -> bool:
    from epochal._core.plugin.wasm_sections import MANIFEST_SECTION, embedded_manifests

    try:
        return bool(embedded_manifests(content))
    except ArtifactError:  # damaged, perhaps half written: whether it is meant is not known
        return MANIFEST_SECTION.encode() in content


@dataclass(frozen=True, slots=True)
class _Block:
    """The text of a manifest and its place."""

    place: str
    text: str
    first_line: int

    def line_of(self, key: str) -> int:
        for number, line in enumerate(self.text.splitlines(), self.first_line):
            if re.match(rf"""\s*["']?{re.escape(key)}["']?\s*=""", line):
                return number
        return self.first_line


class _Reader:
    """Reads one manifest and gathers its faults."""

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact
        self._faults: list[str] = []
        self._unlisted = 0
        self.place: Final = shown(artifact.origin or artifact.name)
        self._block = _Block(self.place, "", 1)
        self._table: dict[str, Any] = {}

    def read(self) -> Manifest:
        self._block = block = self._find()
        self._table = table = self._parse(block)
        for key in table:
            if key not in _KEYS:
                is_listed = len(self._faults) < _MAX_FAULTS
                close = get_close_matches(key, _KEYS, 1) if is_listed else ()
                hint = f"did you mean {close[0]!r}?" if close else f"expected {', '.join(_KEYS)}"
                self._fault(key, f"is not a key of a manifest; {hint}")
        self._check_language()
        for key in ("id", "version"):
            if key not in table:
                self._faults.append(f"{block.place}:{block.first_line}: {key} is missing")
        plugin = self._id()
        manifest = Manifest(
            plugin or "",
            self._version(),
            self._text("description"),
            tuple(self._requires(plugin)),
            tuple(self._each("dependencies", self._distribution)),
            self._capabilities(),
            self._vendored(plugin),
            self._stops_first(),
            self._config(),
            tuple(self._exports()),
            self._stateful(),
        )
        if self._unlisted:
            self._faults.append(f"{block.place}: {self._unlisted:,} more faults")
        if self._faults:
            raise ManifestError(self._faults, plugin=plugin)
        return manifest

    # --- finding it --------------------------------------------------------------------------

    def _find(self) -> _Block:
        root, package = self._artifact.root, self._artifact.is_package
        place = f"{self.place}/{root}" if package else self.place
        is_wasm = self._artifact.language == "wasm"
        blocks = list(
            self._sections(place) if is_wasm else self._blocks(place, self._decoded(root))
        )
        if package and PACKAGE_MANIFEST in self._artifact.files:
            toml = _Block(f"{self.place}/{PACKAGE_MANIFEST}", self._decoded(PACKAGE_MANIFEST), 1)
            blocks.append(toml)
        if self._faults:
            raise ManifestError(self._faults)
        if not blocks:
            absent = _NO_SECTION if is_wasm else self._absent(self._decoded(root))
            raise ManifestError([f"{place}{absent}"])
        if len(blocks) > 1:
            places = " and ".join(f"{block.place}:{block.first_line}" for block in blocks)
            raise ManifestError([f"{places}: more than one manifest; expected one"])
        return blocks[0]

    def _sections(self, place: str) -> Iterator[_Block]:
        """The manifests in the custom sections of a WebAssembly module."""
        from epochal._core.plugin.wasm_sections import MANIFEST_SECTION, embedded_manifests

        modules = wasm_modules(self._artifact.files)
        if len(modules) > 1:
            self._faults.append(f"{self.place}: has several modules, {', '.join(modules)}")
        content = self._artifact.files[self._artifact.root]
        try:
            sections = embedded_manifests(content)
        except ArtifactError as error:
            self._faults.append(f"{place}: {error}")
            return
        for section in sections:
            try:
                text = section.decode()
            except UnicodeDecodeError as error:
                self._faults.append(f"{place}: its {MANIFEST_SECTION} is not UTF-8 text: {error}")
                continue
            yield _Block(f"{place}[{MANIFEST_SECTION}]", text, 1)

    def _absent(self, source: str) -> str:
        for number, line in enumerate(source.splitlines(), 1):
            if _NEARLY_OPENING.fullmatch(line):
                return f":{number}: {line!r} begins no manifest; expected the line `# /// plugin`"
        name = self._artifact.name
        plugin = name if is_plugin_id(name) else "name"
        if self._artifact.is_package:
            where = f'a file plugin.toml beside it with `id = "{plugin}"` and `version = "1.0"`'
        else:
            where = (
                f'these four lines at its top: `# /// plugin`, `# id = "{plugin}"`, '
                '`# version = "1.0"` and `# ///`'
            )
        return f": has no manifest; expected {where}"

    def _decoded(self, name: str) -> str:
        try:
            return self._artifact.files[name].decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self._faults.append(f"{self.place}: {name} is not UTF-8 text: {error}")
            return ""

    def _blocks(self, place: str, source: str) -> Iterator[_Block]:
        lines = iter(enumerate(source.splitlines(), 1))
        for opened, line in lines:
            if not _OPENING.match(line):
                continue
            content: list[str] = []
            for number, inner in lines:
                if inner.rstrip() == _CLOSING:
                    yield _Block(place, "\n".join(content), opened + 1)
                    break
                if inner != "#" and not inner.startswith("# "):
                    self._unclosed(place, opened, number, inner)
                    break
                content.append(inner[2:])
            else:
                self._unclosed(place, opened)

    def _unclosed(self, place: str, line: int, number: int = 0, inner: str = "") -> None:
        if inner.startswith("#"):
            wrong = f"`#` and {inner[1]!r}" if inner[1] != "\t" else "`#` and a tab"
            self._faults.append(
                f"{place}:{number}: a line of the manifest begins with {wrong}; expected `#` and a "
                "space"
            )
            return
        self._faults.append(
            f"{place}:{line}: the manifest block is not closed; expected a line `{_CLOSING}` after "
            "lines that begin with `# `"
        )

    def _parse(self, block: _Block) -> dict[str, Any]:
        try:
            return tomllib.loads(block.text)
        except tomllib.TOMLDecodeError as error:
            text = re.sub(
                r"at line (\d+)",
                lambda m: f"at line {int(m[1]) + block.first_line - 1}",
                str(error),
            )
            hint = ""
            if _CURLY_QUOTES.search(block.text):
                hint = "; write straight quotes"
            elif "Invalid value" in text:
                hint = "; a text stands in quotes"
            raise ManifestError(
                [f"{block.place}:{block.first_line}: not valid TOML: {text}{hint}"]
            ) from None

    # --- checking it -------------------------------------------------------------------------

    def _fault(self, key: str, problem: str) -> None:
        if len(self._faults) >= _MAX_FAULTS:
            self._unlisted += 1
            return
        self._faults.append(f"{self._block.place}:{self._block.line_of(key)}: {key} {problem}")

    def _text(self, key: str) -> str:
        value = self._table.get(key, "")
        if isinstance(value, str):
            return value
        self._fault(key, f"is {_shown(value)}; expected a text in quotes")
        return ""

    def _id(self) -> str | None:
        plugin = self._text("id")
        if is_plugin_id(plugin):
            return plugin
        if isinstance(self._table.get("id"), str):
            self._fault(
                "id",
                f"is {plugin!r}; expected a lower-case letter, then lower-case letters, digits and "
                f"underscores, 64 at most{_close_id(plugin)}",
            )
        return None

    def _version(self) -> Version:
        text = self._text("version")
        try:
            return Version(text)
        except InvalidVersion:
            if isinstance(self._table.get("version"), str):
                self._fault("version", f'is {text!r}; expected a version such as "1.2.0"')
            return Version("0")

    def _each(
        self,
        key: str,
        read: Callable[[str], tuple[Any, str | None]],
    ) -> Iterator[Any]:
        """The entries of a list of texts; `read` returns a value, or a fault in words."""
        values = self._table.get(key, [])
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            self._fault(key, f"is {_shown(values)}; expected a list of texts in quotes")
            return
        if len(values) > _MAX_ENTRIES:
            self._fault(key, f"has {len(values):,} entries; {_MAX_ENTRIES:,} at most")
            return
        for value in values:
            # Versions in it are compared later, where a number of 5,000 digits would raise.
            if len(value) > _MAX_REQUIREMENT:
                self._fault(key, f"entry {_shown(value)} is longer than {_MAX_REQUIREMENT:,}")
                continue
            result, fault = read(value)
            if values.count(value) > 1:
                fault = "is listed more than once"
            if fault is None:
                yield result
            else:
                self._fault(key, f"entry {value!r} {fault}")

    def _requires(self, plugin: str | None) -> Iterator[Requirement]:
        seen: set[str] = set()
        for requirement in self._each("requires", _plugin_requirement):
            if requirement.plugin == plugin:
                self._fault("requires", f"entry {plugin!r} is the plugin itself")
            elif requirement.plugin in seen:
                self._fault("requires", f"names {requirement.plugin!r} twice; join its conditions")
            seen.add(requirement.plugin)
            yield requirement

    @staticmethod
    def _distribution(text: str) -> tuple[Distribution | None, str | None]:
        parsed = _parse_requirement(text)
        if parsed is None:
            return None, 'is not a requirement; expected one such as "numpy>=2"'
        return parsed, None

    def _capabilities(self) -> frozenset[str] | None:
        if "capabilities" not in self._table:
            return None
        return frozenset(self._each("capabilities", _capability))

    def _stops_first(self) -> bool:
        handover = self._text("handover")
        if handover not in ("", *_HANDOVERS):
            expected = " or ".join(map(repr, _HANDOVERS))
            self._fault("handover", f"is {handover!r}; expected {expected}")
        return handover == _STOP_FIRST

    def _config(self) -> str:
        name = self._text("config")
        if name and not name.isidentifier():
            self._fault("config", f'is {name!r}; expected the name of a class, such as "Settings"')
        return name

    def _check_language(self) -> None:
        is_wasm = self._artifact.language == "wasm"
        for key in _OF_PYTHON if is_wasm else _OF_WASM:
            if key in self._table:
                has = "a WebAssembly" if is_wasm else "a Python"
                self._fault(key, f"is not a key of {has} plugin's manifest")
        if is_wasm and "exports" not in self._table:
            self._faults.append(
                f"{self._block.place}:{self._block.first_line}: exports is missing; expected a "
                'table such as [exports.scalar] with `name = "(a: float64) -> float64"`'
            )

    def _exports(self) -> Iterator[DeclaredExport]:
        if "exports" in self._table:
            from epochal._core.plugin.declared_exports import read_declared

            yield from read_declared(self._table["exports"], self._fault)

    def _stateful(self) -> bool:
        value = self._table.get("stateful", False)
        if not isinstance(value, bool):
            self._fault("stateful", f"is {_shown(value)}; expected true or false")
        return value is True

    def _vendored(self, plugin: str | None) -> str:
        folder = self._text("vendored")
        if not folder:
            return ""
        if not all(part.isidentifier() for part in folder.split("/")):
            self._fault("vendored", f'is {folder!r}; expected a folder such as "_vendor"')
        elif not any(path.startswith(f"{folder}/") for path in self._artifact.files):
            self._fault("vendored", f"is {folder!r}, but the plugin has no such folder")
        elif {f"{folder}/{plugin}.py", f"{folder}/{plugin}/__init__.py"} & set(
            self._artifact.files
        ):
            self._fault(
                "vendored",
                f"is {folder!r}, which holds {plugin!r}, the plugin's own id: an import of that "
                "name means the plugin; give the plugin another id",
            )
        return folder


def _shown(value: object) -> str:
    """A value of a wrong type, in short."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of 5,000 digits; a table 1,000 deep
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _parse_requirement(text: str) -> Distribution | None:
    # Its parser is a fifth of what a host would import with a runtime, and is for manifests that
    # require something.
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _plugin_requirement(text: str) -> tuple[Requirement | None, str | None]:
    expected = 'expected a plugin and its versions, such as "units>=1"'
    parsed = _parse_requirement(text)
    if parsed is None:
        return None, f"is not a requirement; {expected}"
    if parsed.extras or parsed.marker or parsed.url:
        return None, f"has extras, a marker or an address, which plugins do not have; {expected}"
    if not is_plugin_id(parsed.name):
        return None, f"names {parsed.name!r}, which is not a plugin id; {expected}"
    return Requirement(parsed.name, parsed.specifier), None


def _capability(text: str) -> tuple[str, str | None]:
    fault = (
        None if is_capability(text) else "is not a capability; expected a kind or `service:name`"
    )
    return text, fault
