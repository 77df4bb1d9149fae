"""An artifact is exactly the plugin's bytes, read once."""

import hashlib
import os
import re
import shutil
import subprocess

import pytest

from epochal._core.plugin.artifact import Artifact, read_artifact
from epochal.errors import ArtifactError


def write(root, files):
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def test_a_files_digest_is_what_sha256sum_prints(tmp_path):
    path = write(tmp_path, {"geo.py": b"x = 1\n"}) / "geo.py"
    artifact = read_artifact(path)
    assert artifact.digest == hashlib.sha256(b"x = 1\n").hexdigest()
    assert (artifact.name, artifact.is_package, artifact.root) == ("geo", False, "geo.py")
    assert artifact.origin == path


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="compares with that command")
def test_a_packages_digest_is_that_of_the_sorted_listing(tmp_path):
    root = write(tmp_path / "geo", {"__init__.py": b"", "b.py": b"b", "a/x.txt": b"x"})
    listing = subprocess.run(
        "find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum",
        shell=True,
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert read_artifact(root).digest == listing.split()[0]


def test_the_digest_does_not_depend_on_the_order_of_files():
    files = {"__init__.py": b"1", "a.py": b"2"}
    backwards = dict(reversed(files.items()))
    assert (
        Artifact("g", files, is_package=True).digest
        == Artifact("g", backwards, is_package=True).digest
    )


def test_another_byte_or_name_has_another_digest():
    digests = {
        Artifact("g", files, is_package=True).digest
        for files in (
            {"__init__.py": b"", "a": b"1"},
            {"__init__.py": b"", "b": b"1"},
            {"__init__.py": b"1", "a": b""},
            {"__init__.py": b"", "a": b"1", "c": b""},
        )
    }
    assert len(digests) == 4


def test_caches_and_hidden_files_are_left_out(tmp_path):
    files = {
        "__init__.py": b"",
        "__pycache__/x.cpython-311.pyc": b"",
        "old.pyc": b"",
        ".git/config": b"",
        ".hidden.py": b"",
        "data/x.txt": b"",
    }
    assert set(read_artifact(write(tmp_path / "geo", files)).files) == {"__init__.py", "data/x.txt"}


def test_a_change_of_the_folder_does_not_change_the_artifact(tmp_path):
    root = write(tmp_path / "geo", {"__init__.py": b"first"})
    artifact = read_artifact(root)
    write(root, {"__init__.py": b"second"})
    assert artifact.files["__init__.py"] == b"first"
    with pytest.raises(TypeError):
        artifact.files["__init__.py"] = b""


@pytest.mark.parametrize("name", ["fast.cpython-311-x86_64-linux-gnu.so", "fast.pyd", "a/b.dylib"])
def test_a_compiled_extension_is_refused_by_name(tmp_path, name):
    root = write(tmp_path / "geo", {"__init__.py": b"", name: b""})
    with pytest.raises(ArtifactError, match=r"extension .*no process can unload") as caught:
        read_artifact(root)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.py", "No such file"),
        ("readme.txt", "expected a .py or .wasm file"),
        ("empty", "__init__"),
    ],
)
def test_a_path_that_is_not_a_plugin_is_refused(tmp_path, name, words):
    (tmp_path / "readme.txt").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match=words):
        read_artifact(tmp_path / name)


def test_circular_links_are_not_followed(tmp_path):
    root = write(tmp_path / "geo", {"__init__.py": b""})
    for name in "abc":  # three links in each: 3^40 paths, if they were followed
        (root / name).symlink_to(root, target_is_directory=True)
    assert set(read_artifact(root).files) == {"__init__.py"}


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads everything")
def test_an_unreadable_file_is_refused(tmp_path):
    path = write(tmp_path, {"geo.py": b""}) / "geo.py"
    path.chmod(0)
    with pytest.raises(ArtifactError, match="Permission"):
        read_artifact(path)


def test_odd_names_are_kept(tmp_path):
    root = write(tmp_path / "geo", {"__init__.py": b"", "daten/größe 1.txt": b"x"})
    assert "daten/größe 1.txt" in read_artifact(root).files


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "zero.py").symlink_to("/dev/zero")
    root = write(tmp_path / "geo", {"__init__.py": b""})
    os.mkfifo(root / "pipe")
    for path in (tmp_path / "pipe.py", tmp_path / "zero.py", root):
        with pytest.raises(ArtifactError, match="not a regular file"):
            read_artifact(path)


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path, monkeypatch):
    root = write(tmp_path / "geo", {"__init__.py": b"", "inner/a.py": b""})
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("inner"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refusing)
    with pytest.raises(ArtifactError, match=r"inner cannot be read: Permission denied"):
        read_artifact(root)


def test_a_file_is_read_up_to_the_limit_of_a_plugin(tmp_path):
    path = tmp_path / "geo.py"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(ArtifactError, match="too large"):
        read_artifact(path)


def test_a_name_that_is_not_text_is_refused_and_shown(tmp_path):
    root = write(tmp_path / "geo", {"__init__.py": b""})
    (root / "\udcff.txt").touch()  # the byte 0xFF
    (root / "two\nlines").touch()
    (tmp_path / "\udcff.py").touch()
    for path in (root, tmp_path / "\udcff.py"):
        with pytest.raises(ArtifactError, match="not printable text") as caught:
            read_artifact(path)
        str(caught.value).encode()


def test_a_relative_path_that_leads_nowhere_says_where_it_begins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ArtifactError,
        match=re.escape(
            f"nope.py cannot be read: No such file or directory (the path begins at {tmp_path})"
        ),
    ):
        read_artifact("nope.py")
