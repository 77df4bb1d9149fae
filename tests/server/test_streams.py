"""Streams of a service: connected by the command, listed over HTTP and in a terminal."""

import json
import time

from epochal.cli import main
from epochal.jobs import Streams
from epochal.server.job_routes import _position_text

ENDS = """\
# /// plugin
# id = "ends"
# version = "1.0"
# ///
from epochal.kinds import sink, source

@source
class numbers:
    def start(self, position): self.at = position or 0
    def checkpoint(self): return self.at
    def read(self, limit):
        events = [(n, n) for n in range(self.at + 1, min(self.at + limit, 40) + 1)]
        self.at += len(events)
        return events

@sink
class kept:
    def start(self, position): self.at = position
    def checkpoint(self): return self.at
    def write(self, events): self.at = events[-1][0]
"""


def streams_of(served):
    answer = served.http.get("/v1/streams")
    assert answer.status_code == 200
    return answer.json()["streams"]


def wait_for(served, condition):
    for _ in range(2000):
        if condition(found := streams_of(served)):
            return found
        time.sleep(0.005)
    raise AssertionError(found)


def test_streams_are_listed_and_end_with_their_service(start_service, capsys):
    served = start_service()
    served.service.streams.connect("ends.numbers", "ends.kept", batch=10)
    (waiting,) = wait_for(served, lambda flows: flows[0]["waiting"])
    assert waiting["waiting"] == "ends.numbers not active and ends.kept not active"
    assert served.put("ends", ENDS).status_code == 201
    (flow,) = wait_for(served, lambda flows: flows[0]["position"] == "40")
    assert (flow["source"], flow["sink"], flow["events"]) == ("ends.numbers", "ends.kept", 40)
    assert main(["streams", "--server", served.url]) == 0
    assert "ends.numbers -> ends.kept" in capsys.readouterr().out
    assert main(["streams", "--server", served.url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["streams"] == streams_of(served)
    served.stop()
    assert served.service.streams.status() == []
    assert served.ended


def test_a_position_is_shown_without_a_plugins_own_code():
    class Position:
        def __str__(self):
            raise AssertionError

    assert _position_text(["log", 3, None]) == "[log, 3, None]"
    assert _position_text(Position()) == "<Position>"
    assert _position_text(None) is None


def test_a_wrong_option_is_refused_in_words(capsys):
    assert main(["serve", "--stream", "orders"]) == 2
    assert "--stream 'orders' is not of the form PLUGIN.SOURCE=PLUGIN.SINK" in (
        " ".join(capsys.readouterr().err.split())
    )


def test_one_end_is_connected_once(rt):
    with Streams(rt) as streams:
        streams.connect("a.b", "c.d")
        assert len(streams.status()) == 1
