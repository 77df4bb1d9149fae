"""A change's last event came after its answer, so a subscription that ended then missed it.

Found by the test of the spans, on a machine with four times as much to do as it has processors.
"""

import threading

from epochal.events import ChangeFinished, EventStream


def test_the_last_event_is_emitted_before_the_caller_has_its_answer(rt, plugins, monkeypatch):
    rt.load(plugins.write("geo", ""))
    emitting, go_on, answered = threading.Event(), threading.Event(), threading.Event()
    emit = EventStream.emit

    def held(self, event):
        if isinstance(event, ChangeFinished):
            emitting.set()
            assert go_on.wait(30)
        emit(self, event)

    monkeypatch.setattr(EventStream, "emit", held)
    received = []
    end = rt.events.subscribe(received.append)

    def reload():
        rt.reload("geo")
        answered.set()

    caller = threading.Thread(target=reload)
    caller.start()
    assert emitting.wait(30)
    assert not answered.wait(0.3)
    go_on.set()
    caller.join(30)
    end()
    assert isinstance(received[-1], ChangeFinished)
