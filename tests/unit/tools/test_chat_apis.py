"""The tools of an epoch as chat APIs take them, and calls of what a model chose."""

import json
from types import SimpleNamespace

import pytest

from epochal.tools import anthropic, openai

CODE = """\
# /// plugin
# id = "web"
# version = "{version}"
# ///
import asyncio
from epochal.kinds import tool

@tool
def search(query: str, limit: int = 2) -> list[str]:
    "Find pages."
    return [f"{{query}} {version} {{n}}" for n in range(limit)]

@tool
async def fail(code: int) -> str:
    "Fail."
    raise RuntimeError(f"no {{code}}")

@tool(timeout=0.05)
async def hang() -> None:
    "Hang."
    await asyncio.Event().wait()
"""


@pytest.fixture
def web(tmp_path, rt):
    path = tmp_path / "web.py"

    def save(version="1.0"):
        path.write_text(CODE.format(version=version))
        if "web" in rt.epoch.generations:
            return rt.reload("web", drain_timeout=0.0)
        return rt.load(path)

    save()
    return save


def chosen_by_openai(name, arguments):
    function = SimpleNamespace(name=name, arguments=json.dumps(arguments))
    return SimpleNamespace(id="c1", type="function", function=function)


def test_openai_gets_schemas_and_answers(rt, web):
    offer = openai(rt.epoch)
    assert [entry["function"]["name"] for entry in offer] == ["web-fail", "web-hang", "web-search"]
    json.dumps(offer)
    answer = offer.call(chosen_by_openai("web-search", {"query": "q"}))
    assert answer == {
        "role": "tool",
        "tool_call_id": "c1",
        "content": '["q 1.0 0", "q 1.0 1"]',
    }
    wrong = offer.call(chosen_by_openai("web-search", {"limit": "many"}))
    assert "'query' is missing" in wrong["content"]
    assert "no 3" in offer.call(chosen_by_openai("web-fail", {"code": 3}))["content"]
    assert "0.05 s" in offer.call(chosen_by_openai("web-hang", {}))["content"]
    assert "web-search" in offer.call(chosen_by_openai("web-serch", {}))["content"]


def test_openais_responses_are_flat(rt, web):
    offer = openai(rt.epoch, api="responses", only=["web.search"])
    assert offer[0]["name"] == "web-search"
    call = {
        "type": "function_call",
        "call_id": "c",
        "name": "web-search",
        "arguments": '{"query":"q"}',
    }
    assert offer.call(call)["type"] == "function_call_output"
    with pytest.raises(ValueError, match="api='x'"):
        openai(rt.epoch, api="x")
    with pytest.raises(ValueError, match=r"there is no tool 'web\.x'"):
        openai(rt.epoch, only=["web.x"])


def test_anthropic_gets_schemas_and_answers(rt, web):
    offer = anthropic(rt.epoch)
    assert offer[2]["input_schema"]["required"] == ["query"]
    block = {
        "type": "tool_use",
        "id": "t",
        "name": "web-search",
        "input": {"query": "q", "limit": 1},
    }
    assert offer.call(block) == {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": '["q 1.0 0"]',
    }
    assert offer.call({**block, "input": {}})["is_error"] is True


def test_an_offer_calls_what_it_offered_until_it_is_dropped(rt, web):
    offer = openai(rt.epoch)
    report = web("2.0")
    assert not report.drained
    answer = offer.call(chosen_by_openai("web-search", {"query": "q", "limit": 1}))
    assert "q 1.0 0" in answer["content"]
    answer = openai(rt.epoch).call(chosen_by_openai("web-search", {"query": "q", "limit": 1}))
    assert "q 2.0 0" in answer["content"]
    del offer
    report = web("3.0")
    assert rt.close().drained
