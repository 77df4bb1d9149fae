"""Holders and leaks: each kind has its line."""

import pytest

from epochal.report import Holder, Leak, Straggler


@pytest.mark.parametrize(
    ("holder", "line"),
    [
        (Holder("operation", "q", age_s=1.24), "operation 'q' (1.2 s)"),
        (Straggler("thread", "t", "geo.py:4 in f"), "thread 't' at geo.py:4 in f"),
        (Holder("task", "t"), "task 't'"),
        (Holder("lease", "nightly", path="host.L[0]"), "lease 'nightly' in host.L[0]"),
        (Holder("lease", place="local variable 'x' at …"), "its lease, local variable 'x' at …"),
        (Holder("epoch", "epoch 3", path="host.E"), "epoch 3 in host.E"),
        (Holder("function", "f", path="host.F"), "captured function 'f' in host.F"),
        (Holder("plugin", "weather#2"), "weather#2, which requires it"),
        (Holder("object", path="host.O"), "an object that it opened in host.O"),
        (
            Holder("generator", "rows", "geo.py:4 in rows", "host.G"),
            "generator 'rows' suspended at geo.py:4 in rows in host.G",
        ),
        (
            Holder("frame", place="geo.py:4 in f", path="host.X"),
            "a kept exception's frame at geo.py:4 in f in host.X",
        ),
        (Holder("more", "7"), "and 7 more"),
    ],
)
def test_a_holder_reads_as_its_line(holder, line):
    assert str(holder) == line


@pytest.mark.parametrize(
    ("leak", "line"),
    [
        (Leak("class", "geo.P", path="host.L[0]"), "class geo.P is referred to by host.L[0]"),
        (
            Leak("instance", "geo.P", path="context variable 'v'"),
            "an instance of geo.P is the value of context variable 'v'",
        ),
        (Leak("namespace", "geo", path="x"), "the namespace of module geo is referred to by x"),
        (Leak("thread", "t", "geo.py:4 in f"), "thread 't' at geo.py:4 in f"),
        (Leak("remark", "a sentence"), "a sentence"),
        (Leak("more", "7"), "and 7 more"),
    ],
)
def test_a_leak_reads_as_its_line(leak, line):
    assert str(leak) == line


def test_a_leak_is_renamed_in_name_place_and_path():
    leak = Leak("class", "p__g1.P", "p__g1 in f", "p__g1.X").renamed("p__g1", "p")
    assert leak == Leak("class", "p.P", "p in f", "p.X")
