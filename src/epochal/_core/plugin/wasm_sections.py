"""The outer form of a WebAssembly binary: its sections, of which none is run or compiled here.

A binary is a header of eight bytes and a list of sections, each an id, a length and a payload
(WebAssembly Core Specification, "Binary Format", "Modules"); a component has the same form under
another header. A section of id 0 is a *custom* one: it begins with a name, and the code does not
depend on it. A plugin's manifest is the text of the custom section `epochal.plugin`.

The bytes are foreign: each length is checked before it is followed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from epochal.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterator

MANIFEST_SECTION: Final = "epochal.plugin"
"""The name of the custom section that has a plugin's manifest."""

MAGIC: Final = b"\0asm"
_MODULE: Final = MAGIC + b"\1\0\0\0"
_COMPONENT: Final = MAGIC + b"\x0d\0\1\0"
_LABEL: Final = MANIFEST_SECTION.encode()
_CUSTOM: Final = 0
_MOST_BYTES_OF_NUMBER: Final = 5
"""A length is at most 32 bits, in groups of seven."""


def is_component(content: bytes) -> bool:
    """Whether a binary is a component, rather than a core module."""
    return content[: len(_COMPONENT)] == _COMPONENT


def embedded_manifests(content: bytes) -> list[bytes]:
    """The manifests in a WebAssembly binary; a plugin has one. Runs nothing of it.

    Raises:
        ArtifactError: the binary is damaged, or is none.
    """
    customs = [_named(content, at, end) for _, kind, at, end in _sections(content) if not kind]
    return [payload for name, payload in customs if name == _LABEL]


def embed_manifest(content: bytes, manifest: bytes) -> bytes:
    """Make a plugin of a WebAssembly binary and a manifest: put the one into the other.

    Args:
        content: a module, or a component. A manifest that it has is replaced.
        manifest: TOML text, with the keys that docs/wasm.md lists. It is not checked here.

    Returns:
        The bytes of the plugin's `.wasm` file.

    Raises:
        ArtifactError: the binary is damaged, or is none.
    """
    kept = bytearray(content[: len(_MODULE)])
    for start, kind, at, end in _sections(content):
        if kind != _CUSTOM or _named(content, at, end)[0] != _LABEL:
            kept += content[start:end]
    body = _encoded(len(_LABEL)) + _LABEL + manifest
    return bytes(kept + bytes((_CUSTOM,)) + _encoded(len(body)) + body)


def _sections(content: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Each section: its begin, its id, and the bounds of its payload."""
    if content[: len(_MODULE)] not in (_MODULE, _COMPONENT):
        raise ArtifactError(_no_binary(content))
    at = len(_MODULE)
    while at < len(content):
        start, number = at, content[at]
        length, at = _number(content, at + 1, len(content))
        if length > len(content) - at:
            raise _damaged(f"its section at byte {start} claims {length:,} bytes, beyond its end")
        yield start, number, at, at + length
        at += length


def _named(content: bytes, at: int, end: int) -> tuple[bytes, bytes]:
    length, name_at = _number(content, at, end)
    if length > end - name_at:
        raise _damaged(f"the name of its section at byte {at} is longer than the section")
    return content[name_at : name_at + length], content[name_at + length : end]


def _number(content: bytes, at: int, end: int) -> tuple[int, int]:
    """Read an unsigned LEB128 number; returns it and the position after it."""
    value = 0
    for position in range(_MOST_BYTES_OF_NUMBER):
        if at + position >= end:
            break
        byte = content[at + position]
        value |= (byte & 0x7F) << (7 * position)
        if not byte & 0x80:
            if value >= 1 << 32:
                break
            return value, at + position + 1
    raise _damaged(f"the number at byte {at} is cut off or too large")


def _encoded(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*encoded, number))


def _no_binary(content: bytes) -> str:
    expected = "expected \\0asm and version 1, or a component"
    if content[:1] == b"(":
        return f"is WebAssembly text, not a binary: assemble it first (wat2wasm); {expected}"
    return f"is not a WebAssembly binary: it begins with {bytes(content[:8])!r}; {expected}"


def _damaged(fault: str) -> ArtifactError:
    return ArtifactError(f"is not a valid WebAssembly binary: {fault}")
