"""A search refers to what it has found: a drain that ends meanwhile does not call that a use."""

import threading
from dataclasses import dataclass

from tests.conftest import tool

from epochal._core.introspect import referrers


@dataclass(eq=False)
class Searching:
    thread: int
    objects: list


def test_what_another_threads_search_has_found_is_not_in_use(rt, plugins, monkeypatch):
    path = plugins.write("geo", "@tool\ndef f(): return 1")
    rt.load(path)
    found, go_on = threading.Event(), threading.Event()

    def search():
        searching = Searching(threading.get_ident(), [rt.epoch[tool]["geo.f"]])
        referrers.SEARCHES.add(searching)
        found.set()
        go_on.wait(30)
        del searching

    thread = threading.Thread(target=search)
    thread.start()
    assert found.wait(30)

    def let_it_end(_):
        go_on.set()
        thread.join(30)

    monkeypatch.setattr(referrers, "sleep", let_it_end)
    cut = rt.reload("geo", path, drain_timeout=0.0)
    go_on.set()
    assert cut.drained, cut.holders
