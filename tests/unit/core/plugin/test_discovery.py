"""The plugins of a folder: files and packages with a manifest, and nothing else."""

import pytest

from epochal._core.plugin.discovery import read_folder, sources_in
from epochal.errors import ArtifactError, HostError

HEAD = '# /// plugin\n# id = "{}"\n# version = "1"\n# ///\n'


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b.py").write_text(HEAD.format("b"))
    (tmp_path / "test_b.py").write_text("def test(): pass\n")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "__init__.py").write_text(HEAD.format("a"))
    (tmp_path / "data").mkdir()
    (tmp_path / "notes.txt").write_text("")
    for hidden in (".hidden.py", "__pycache__"):
        (tmp_path / hidden).mkdir()
    return tmp_path


def test_files_and_packages_with_a_manifest_are_plugins_in_order(folder):
    assert [artifact.name for artifact in read_folder(folder)] == ["a", "b"]


def test_sources_need_no_manifest(folder):
    assert [path.name for path in sources_in(folder)] == ["a", "b.py", "test_b.py"]


def test_a_missing_folder_is_refused_by_the_reader_and_empty_for_the_watcher(tmp_path):
    with pytest.raises(HostError, match="is not a folder"):
        read_folder(tmp_path / "nowhere")
    assert sources_in(tmp_path / "nowhere") == []


def test_a_source_that_cannot_be_read_is_reported(folder):
    (folder / "a" / "fast.so").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"fast\.so"):
        read_folder(folder)
