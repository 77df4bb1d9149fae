"""The document of an epoch: verified on reading, equal for equal epochs."""

import hashlib
import json

import pytest
from tests.conftest import tool

from epochal.artifact import read_artifact, read_document
from epochal.errors import DocumentError


@pytest.fixture
def document(rt, plugins, package):
    rt.load(plugins.write("geo", "@tool\ndef f(): return 1\n"), config={"at": [1.5, "x"]})
    rt.load(package("units", {"__init__.py": ""}), grants=["scalar"])
    return rt.epoch.document()


def signed(content):
    content.pop("sha256", None)
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return json.dumps({**content, "sha256": hashlib.sha256(text.encode()).hexdigest()})


def test_a_document_says_all_but_the_bytes(rt, document):
    read = read_document(document)
    assert read.id == rt.epoch.id
    geo, units = read.plugins["geo"], read.plugins["units"]
    assert geo.digest == rt.epoch.generation("geo").digest
    assert (geo.root, units.root) == ("geo.py", None)
    assert geo.config == {"at": [1.5, "x"]}
    assert units.grants == {"scalar"}
    assert read_document(document.encode()) == read


def test_equal_epochs_have_equal_documents(rt, plugins):
    first = read_artifact(plugins.write("a", "@tool\ndef f(): return 1\n"))
    second = read_artifact(plugins.write("b", "@tool\ndef f(): return 1\n"))
    rt.change().load(first).load(second).run()
    before = rt.epoch.document()
    rt.remove("a")
    rt.load(first)
    assert list(rt.epoch.generations) == ["b", "a"]
    assert rt.epoch.document() == before


def test_every_flipped_byte_is_found(document):
    for at in range(len(document)):
        damaged = bytearray(document.encode())
        damaged[at] ^= 1
        with pytest.raises(DocumentError):
            read_document(bytes(damaged))


def test_a_document_of_another_epoch_is_refused(document):
    content = json.loads(document)
    content["plugins"]["geo"]["config"] = {"at": 2}
    with pytest.raises(DocumentError, match="says that it is epoch"):
        read_document(signed(content))


def test_a_later_form_is_refused_and_a_later_key_is_passed_over(document):
    content = json.loads(document)
    content["signed_by"] = "somebody"
    content["plugins"]["geo"]["size"] = 7
    assert read_document(signed(content)).plugins["geo"].root == "geo.py"
    content["format"] = 2
    with pytest.raises(DocumentError, match="later version"):
        read_document(signed(content))


def test_a_document_from_before_local_exports_were_listed_is_read(document):
    content = json.loads(document)
    for record in content["plugins"].values():
        del record["local"]
    assert read_document(signed(content)).plugins["geo"].local == ()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "7", "{}", '{"format": null}', '{"format": 1}', signed({"format": 1}), b"\xff\xfe",
     signed({"format": 1, "id": "x", "plugins": {"geo": 7}}), "[" * 100_000],
)  # fmt: skip
def test_other_texts_are_refused(text):
    with pytest.raises(DocumentError):
        read_document(text)


def test_local_exports_are_listed(rt, plugins):
    code = "from epochal.kinds import job, service\n@service\nclass s: pass\n"
    code += "@job(every='1h')\ndef j(): pass\n@tool\ndef f(): pass\n"
    rt.load(plugins.write("web", code))
    assert read_document(rt.epoch.document()).plugins["web"].local == ("job web.j", "service web.s")
    assert rt.epoch[tool]["web.f"]() is None
