"""A report prints as one line that a person reads."""

import re

from epochal.report import Cutover, Swap, Version


def version(text, generation, digest="0"):
    return Version("geo", generation, text, digest * 64)


def test_each_change_of_a_plugin_has_its_words(rt, plugins):
    assert re.fullmatch(
        r"epoch 1 in \d+\.\d ms: geo 1\.0 loaded", str(rt.load(plugins.write("geo", "")))
    )
    plugins.write("geo", "", version="1.1")
    planned = rt.change(dry_run=True).reload("geo").run()
    assert re.fullmatch(r"dry run, nothing changed, in \S+ ms: geo 1\.0 -> 1\.1", str(planned))
    assert re.fullmatch(r"epoch 2 in \S+ ms: geo 1\.0 -> 1\.1", str(rt.reload("geo")))
    assert re.fullmatch(r"epoch 3 in \S+ ms: geo 1\.1 linked again", str(rt.reload("geo")))
    assert re.fullmatch(r"epoch 4 in \S+ ms: geo removed", str(rt.remove("geo")))


def test_a_version_in_use_is_named_with_its_holder_in_the_line(rt, plugins):
    rt.load(plugins.write("geo", ""))
    plugins.write("geo", "", version="1.1")
    with rt.operation("order 17"):
        line = str(rt.reload("geo", drain_timeout=0))
    assert "geo 1.0 -> 1.1, geo#0 is still in use (operation 'order 17'" in line
    assert "\n" not in line


def test_a_leak_is_named_in_the_line():
    swap = Swap("geo", version("1.0", 0), version("1.1", 1, "1"), reclaimed=False)
    assert str(swap) == "geo 1.0 -> 1.1, geo#0 is still in memory"
    assert "geo#0 is still in memory" in str(Cutover(1, True, 1, 2, swaps=(swap,)))


def test_several_plugins_share_the_line_and_none_says_so():
    swaps = (Swap("geo", None, version("1.0", 0)), Swap("units", version("2", 0), None))
    assert str(Cutover(1, True, 0, 1, swaps=swaps)) == (
        "epoch 1 in 0.0 ms: geo 1.0 loaded; units removed"
    )
    assert str(Cutover(1, True, 0, 0)) == "epoch 0 in 0.0 ms: no plugin changed"
