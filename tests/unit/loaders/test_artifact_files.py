"""An artifact's files as `importlib.resources` reads them."""

import pytest

from epochal.loaders._artifact_files import ArtifactFolder

FILES = {"geo/__init__.py": b"", "geo/data/a.txt": "ä\n".encode(), "geo/data/b.bin": b"\0\r\n"}


@pytest.fixture
def folder():
    return ArtifactFolder(FILES, "geo")


def test_folders_list_their_files_and_folders(folder):
    root = folder.files()
    assert [path.name for path in root.iterdir()] == ["__init__.py", "data"]
    assert (root / "data").is_dir()
    assert not (root / "data").is_file()
    assert sorted(folder.contents()) == ["__init__.py", "data"]


def test_files_are_read_as_bytes_and_as_utf_8(folder):
    data = folder.files().joinpath("data")
    assert (data / "a.txt").read_text() == "ä\n"
    assert (data / "b.bin").read_bytes() == b"\0\r\n"
    with (data / "b.bin").open("rb") as file:
        assert file.read() == b"\0\r\n"
    assert folder.open_resource("__init__.py").read() == b""
    assert folder.is_resource("__init__.py")


def test_a_missing_file_is_named(folder):
    with pytest.raises(FileNotFoundError, match=r"geo/data/c\.txt"):
        folder.files().joinpath("data", "c.txt").read_bytes()
    with pytest.raises(FileNotFoundError):
        folder.resource_path("__init__.py")
