"""A manifest is read without running code; one error reports every fault with its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epochal._core.plugin.artifact import Artifact
from epochal._core.plugin.manifest import read_manifest
from epochal.errors import ManifestError


def single(body, head="", tail=""):
    block = "".join(f"# {line}\n" if line else "#\n" for line in body.splitlines())
    return Artifact("geo", {"geo.py": f"{head}# /// plugin\n{block}# ///\n{tail}".encode()})


def package(toml, init=""):
    files = {"__init__.py": init.encode(), "plugin.toml": toml.encode()}
    return Artifact("geo", files, is_package=True)


FULL = """\
id = "geo"
version = "1.2.0"
description = "Distances."
requires = ["units>=1", "base"]
dependencies = ["numpy>=2"]
capabilities = ["scalar", "net:api.example.org"]"""


@pytest.mark.parametrize("artifact", [single(FULL), package(FULL), single(FULL, '"""Doc."""\n')])
def test_everything_is_read(artifact):
    manifest = read_manifest(artifact)
    assert manifest.id == "geo"
    assert str(manifest.version) == "1.2.0"
    assert manifest.description == "Distances."
    assert [str(requirement) for requirement in manifest.requires] == ["units>=1", "base"]
    assert [str(dependency) for dependency in manifest.dependencies] == ["numpy>=2"]
    assert manifest.capabilities == {"scalar", "net:api.example.org"}


def test_missing_keys_have_defaults():
    manifest = read_manifest(single('id = "geo"\nversion = "1"'))
    assert manifest.requires == manifest.dependencies == ()
    assert manifest.capabilities is None, "nothing asked is every kind, and no service"


def test_no_code_runs():
    artifact = single('id = "geo"\nversion = "1"', "raise SystemExit\n", "1 / 0\n")
    assert read_manifest(artifact).id == "geo"


MINIMAL = 'id = "geo"\nversion = "1"\n'
FAULTS = {
    MINIMAL + 'vresion = "2"': ["geo:4", "vresion", "did you mean 'version'"],
    MINIMAL + "zzz = 1": ["zzz", "expected id, version, description"],
    'version = "1"': ["id is missing"],
    'id = "geo"': ["version is missing"],
    'id = "Geo"\nversion = "1"': ["geo:2", "id is 'Geo'", "lower-case"],
    'id = "1geo"\nversion = "1"': ["id is '1geo'"],
    'id = "geo-x"\nversion = "1"': ["id is 'geo-x'"],
    f'id = "{"x" * 65}"\nversion = "1"': ["64 at most"],
    'id = 7\nversion = "1"': ["id is 7", "expected a text in quotes"],
    'id = "geo"\nversion = "one"': ["geo:3", "version is 'one'", '"1.2.0"'],
    'id = "geo"\nversion = 1.0': ["version is 1.0", "text in quotes"],
    MINIMAL + 'requires = "units"': ["geo:4", "requires is 'units'", "a list"],
    MINIMAL + "requires = [1]": ["requires is [1]"],
    MINIMAL + 'requires = ["units>>1"]': ["entry 'units>>1'", '"units>=1"'],
    MINIMAL + 'requires = ["Units"]': ["names 'Units'", "not a plugin id"],
    MINIMAL + 'requires = ["units[x]"]': ["extras"],
    MINIMAL + 'requires = ["geo"]': ["is the plugin itself"],
    MINIMAL + 'requires = ["a>=1", "a<2"]': ["'a' twice"],
    MINIMAL + 'dependencies = ["num py"]': ["entry 'num py'", '"numpy>=2"'],
    MINIMAL + 'capabilities = ["a b"]': ["entry 'a b'", "a kind or `service:name`"],
    MINIMAL + "description = 3": ["description is 3"],
    'id = "geo"\nversion = ': ["geo:2", "not valid TOML"],
}


@pytest.mark.parametrize("body", FAULTS)
def test_a_fault_names_the_place_and_the_expected_value(body):
    with pytest.raises(ManifestError) as caught:
        read_manifest(single(body))
    text = str(caught.value)
    assert all(word in text for word in FAULTS[body]), text


def test_all_faults_are_reported_together():
    body = 'id = "GEO"\nversion = "x"\nrequires = 3\nnonsense = 1'
    with pytest.raises(ManifestError) as caught:
        read_manifest(single(body))
    assert len(caught.value.faults) == 4


def test_a_list_that_is_too_long_and_faults_without_end_are_counted():
    """A manifest of a megabyte, say, must not hold up the watcher of a folder."""
    long = "[" + '"a", ' * 50_000 + "]"
    keys = "".join(f"key_{n} = 1\n" for n in range(1000))
    with pytest.raises(ManifestError) as caught:
        read_manifest(package(f"{MINIMAL}requires = {long}"))
    assert "requires has 50,000 entries; 1,000 at most" in str(caught.value)
    with pytest.raises(ManifestError) as caught:
        read_manifest(package(MINIMAL + keys))
    assert len(caught.value.faults) == 21
    assert caught.value.faults[-1].endswith(": 980 more faults")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = 1\n", ["has no manifest", "expected these four lines"]),
        ('# /// plugin\n# id = "geo"\nx = 1\n', ["geo:1", "not closed"]),
        ("# /// plugin\n", ["not closed"]),
        ("# /// plugin\n# ///\n# /// plugin\n# ///\n", ["more than one manifest"]),
    ],
)
def test_a_missing_open_or_double_block_is_reported(source, words):
    with pytest.raises(ManifestError) as caught:
        read_manifest(Artifact("geo", {"geo.py": source.encode()}))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_package_has_one_manifest_not_two():
    block = '# /// plugin\n# id = "geo"\n# version = "1"\n# ///\n'
    with pytest.raises(ManifestError, match="more than one manifest"):
        read_manifest(package(MINIMAL, block))
    assert read_manifest(Artifact("geo", {"__init__.py": block.encode()}, is_package=True))


def test_a_file_that_is_not_text_is_reported():
    with pytest.raises(ManifestError, match="not UTF-8"):
        read_manifest(Artifact("geo", {"geo.py": b"\xff\xfe\x00"}))


@given(st.text())
def test_any_text_is_read_or_has_faults(text):
    for artifact in (
        single(text.replace("\r", "")),
        package(text),
        Artifact("g", {"g.py": text.encode("utf-8", "surrogatepass")}),
    ):
        try:
            read_manifest(artifact)
        except ManifestError as error:
            assert error.faults  # noqa: PT017  any outcome but this one is fine too


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_any_value_is_read_or_has_faults(value):
    text = repr(value) if not isinstance(value, str) else f"'''{value}'''"
    for key in ("id", "version", "requires", "dependencies", "capabilities", "description"):
        try:
            read_manifest(package(f"{MINIMAL if key not in MINIMAL else ''}{key} = {text}"))
        except ManifestError as error:
            assert error.faults  # noqa: PT017  as above


@pytest.mark.parametrize(
    "body",
    [
        "id = " + "[" * 2000 + "]" * 2000,
        "id = " + "9" * 5000,
        "id = 0x" + "f" * 5000,
        "id" + ".a" * 3000 + " = 1",
        'id = "geo"\nversion = "' + "9" * 5000 + '"',
        MINIMAL + 'requires = ["a>=' + "9" * 5000 + '"]',
        MINIMAL + 'dependencies = ["a; ' + "(" * 900 + '"]',
    ],
    ids=["lists", "number", "hexadecimal", "tables", "version", "requirement", "marker"],
)
def test_a_parsers_error_is_a_fault(body):
    """Parsers recurse and convert: their errors are faults of the text, with its place."""
    with pytest.raises(ManifestError, match="geo") as caught:
        read_manifest(package(body))
    assert len(str(caught.value)) < 2_000
