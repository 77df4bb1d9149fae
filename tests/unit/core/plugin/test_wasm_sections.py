"""A binary's sections are read to their ends and no further; a manifest goes in and comes out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wasm_modules import SAME, module

from epochal.artifact import Artifact, embed_manifest, embedded_manifests, read_manifest
from epochal.errors import ArtifactError, ManifestError

HEAD = b"\0asm\1\0\0\0"


@pytest.mark.parametrize("size", [0, 1, 127, 128, 300, 70_000])
def test_a_manifest_comes_out_as_it_went_in(size):
    manifest = b"x" * size
    made = embed_manifest(module(SAME), manifest)
    assert embedded_manifests(made) == [manifest]
    assert made.startswith(module(SAME))


def test_another_manifest_takes_the_place_of_the_first():
    first = embed_manifest(module(SAME), b"a" * 200)
    assert embed_manifest(first, b"b") == embed_manifest(module(SAME), b"b")


def test_sections_of_other_names_are_kept():
    other = HEAD + b"\0\5\4name"
    assert embed_manifest(other, b"") == other + b"\0\x0f\x0eepochal.plugin"


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tail):
    content = HEAD + tail
    try:
        sections = embedded_manifests(content)
    except ArtifactError:
        return
    assert sum(map(len, sections)) <= len(tail)


@given(st.data())
def test_a_plugin_cut_off_anywhere_is_refused_as_a_manifest(data):
    content = embed_manifest(module(SAME), b'id = "geo"\nversion = "1"\n')
    cut = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(ManifestError):
        read_manifest(Artifact("geo", {"geo.wasm": content[:cut]}))
