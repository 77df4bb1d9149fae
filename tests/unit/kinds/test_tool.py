"""Tools: their contracts, what a reload may change of them, and that nothing of them leaks."""

import asyncio
import inspect
from textwrap import dedent

import jsonschema
import pytest

from epochal.errors import ExportError, IncompatibleError, ToolArgumentError, ToolFailedError
from epochal.kinds import prompt, resource, tool
from epochal.tools import breaking, refuse_breaking

HEAD = """\
# /// plugin
# id = "web"
# version = "{version}"
# ///
from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Literal, Union

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from epochal.kinds import prompt, resource, tool

"""

RICH = """
class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Page(BaseModel):
    "A page."
    address: str
    colour: Colour = Colour.RED
    links: list[Page] = []


@dataclass
class Point:
    x: float


class Size(TypedDict):
    wide: int


@tool(title="Search", read_only=True, destructive=False, idempotent=True, timeout=5)
def search(
    query: Annotated[str, Field(description="the words", min_length=1)],
    pages: list[Page],
    point: Point,
    size: Size | None = None,
    which: Union[int, Literal["all"]] = "all",
    title: str = "t",
) -> list[Page]:
    "Find pages."
    return pages


@tool
async def count(n: int) -> int:
    "Count."
    return n


@tool
async def stream(n: int) -> AsyncIterator[str]:
    "Stream."
    for i in range(n):
        yield str(i)


@tool
def nothing() -> None:
    "Do nothing."
"""


@pytest.fixture
def web(tmp_path, rt):
    """Writes and loads or reloads plugin web: `web(code)`."""
    path, versions = tmp_path / "web.py", iter(range(1, 1000))

    def save(code):
        path.write_text(HEAD.format(version=f"{next(versions)}.0") + dedent(code))
        if "web" in rt.epoch.generations:
            return rt.reload("web")
        return rt.load(path)

    return save


def of(rt, name):
    return rt.epoch[tool][f"web.{name}"]


def test_annotations_become_json_schemas(rt, web):
    web(RICH)
    for offered in rt.epoch[tool].values():
        for schema in (offered.input_schema, offered.output_schema):
            if schema is not None:
                jsonschema.Draft202012Validator.check_schema(schema)
                assert schema["type"] == "object"
    search = of(rt, "search")
    properties = search.input_schema["properties"]
    assert properties["query"] == {"description": "the words", "minLength": 1, "type": "string"}
    assert properties["title"] == {"default": "t", "type": "string"}  # a name, not a title
    assert search.input_schema["required"] == ["query", "pages", "point"]
    assert search.input_schema["$defs"]["Page"]["description"] == "A page."
    assert search.output_schema["properties"]["result"]["type"] == "array"
    assert search.facts.hints == {"read_only": True, "destructive": False, "idempotent": True}
    assert (search.facts.title, search.facts.timeout) == ("Search", 5)
    assert of(rt, "nothing").output_schema is None
    assert of(rt, "stream").output_schema["properties"]["result"]["type"] == "array"


def test_arguments_are_checked_by_the_rules_of_json_and_named(rt, web):
    web(RICH)
    search = of(rt, "search")
    page = {"address": "a", "colour": "blue"}
    arguments = search.check({"query": "q", "pages": [page], "point": {"x": 1}})
    assert arguments["pages"][0].colour.name == "BLUE"
    assert search.dump(search(**arguments)) == [{**page, "links": []}]
    with pytest.raises(ToolArgumentError) as caught:
        search.check({"query": "", "pages": [{"address": 1}], "which": "some", "limit": 3})
    text = str(caught.value)
    for part in ("'query'", "'pages[0].address'", "'point' is missing", "'limit' is not an arg"):
        assert part in text
    assert caught.value.schema == search.input_schema
    with pytest.raises(ToolArgumentError):
        search.check("[1]")
    with pytest.raises(ToolArgumentError):
        search.check("{not json")


def test_a_tool_is_called_like_its_function(rt, web):
    web(RICH)
    assert asyncio.run(of(rt, "count")(3)) == 3
    assert inspect.isasyncgen(of(rt, "stream")(1))


def test_a_result_that_breaks_its_promise_is_the_plugins_fault(rt, web):
    web("@tool\ndef f() -> int:\n    'F.'\n    return 'no'")
    with pytest.raises(ToolFailedError, match=r"web\.f returned something else"):
        of(rt, "f").dump(of(rt, "f")())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("@tool\ndef f(x: int): return x", "has no docstring"),
        ("@tool\ndef f(x):\n    'F.'", "argument 'x' needs an annotation"),
        ("@tool\ndef f(*x: int):\n    'F.'", "argument 'x' has no name"),
        ("@tool\ndef f(**x: int):\n    'F.'", "argument 'x' takes any name"),
        ("@tool\ndef f(x: int, /):\n    'F.'", "argument 'x' has no name"),
        ("class C: pass\n@tool\ndef f(a: int, x: C):\n    'F.'", "argument 'x': no JSON Schema"),
        ("@tool\ndef f(a: int, x: Nowhere):\n    'F.'", "Nowhere"),
        ("@tool\ndef f() -> Nowhere:\n    'F.'", "Nowhere"),
        ("class C: pass\n@tool\ndef f() -> C:\n    'F.'", "of its result"),
        ("@tool\ndef f():\n    'F.'\n    yield 1", "is a generator"),
        ("@tool\nclass F:\n    'F.'", "is a class"),
        ("@resource(uri='n://{a}')\ndef f(b: str): 'F.'", "must be the same"),
        ("@resource(uri='n://a')\ndef f(b: str): 'F.'", "must be the same"),
        ("@prompt\nasync def f(b: str):\n    'F.'\n    yield 1", "async generator"),
    ],
)
def test_a_refusal_names_kind_plugin_and_export(rt, web, code, reason):
    with pytest.raises(ExportError) as caught:
        web(code)
    text = str(caught.value)
    assert reason in text
    assert "web.f" in text.lower()
    assert "exported as agent." in text
    assert caught.value.plugin == "web"
    assert rt.epoch.number == 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("tool(timeout=0)", "positive"),
        ("tool(timeout='1')", "a number"),
        ("tool(read_only='yes')", "True, False or None"),
        ("tool(title=3)", "is text"),
        ("tool(retries=3)", "does not know"),
        ("resource()", "is not an address"),
        ("resource(uri='no address')", "is not an address"),
    ],
)
def test_a_wrong_option_is_refused_in_words(options, reason):
    with pytest.raises((TypeError, ValueError), match=reason):
        eval(options, {"tool": tool, "resource": resource})


def signature(parameters, result="str", doc="F."):
    return f"@tool\ndef f({parameters}) -> {result}:\n    '{doc}'\n    return None"


COMPATIBLE = [
    ("a: int", "a: int, b: int = 1"),
    ("a: int", "a: int | str"),
    ("a: int", "a: float"),
    ("a: Literal['x']", "a: Literal['x', 'y']"),
    ("a: Literal['x']", "a: str"),
    ("a: Annotated[int, Field(ge=2)]", "a: Annotated[int, Field(ge=1)]"),
    ("a: int, b: int", "a: int, b: int = 1"),
    ("a: list[int]", "a: list[int | None]"),
    ("a: int", "a: Annotated[int, Field(description='d')]"),
]
BREAKING = [
    ("a: int", "a: int, b: int", "'b' is required"),
    ("a: int, b: int = 1", "a: int", "'b' is gone"),
    ("a: int", "a: str", "'a' is string, not integer"),
    ("a: float", "a: int", "'a' is integer, not number"),
    ("a: int | str", "a: int", "'a' is integer, not string"),
    ("a: Literal['x', 'y']", "a: Literal['x']", 'may not be "y"'),
    ("a: str", "a: Literal['x']", "must be one of"),
    ("a: Annotated[int, Field(ge=1)]", "a: Annotated[int, Field(ge=2)]", "minimum 2"),
    ("a: int", "a: Annotated[int, Field(le=9)]", "maximum 9"),
    ("a: str", "a: Annotated[str, Field(pattern='x')]", "pattern"),
    ("a: list[int]", "a: list[str]", r"'a\[\]' is string"),
    ("a: int = 1", "a: int", "'a' is required"),
    ("a: dict[str, int]", "a: dict[str, str]", "is string"),
]


@pytest.mark.parametrize(("old", "new"), COMPATIBLE)
def test_a_compatible_change_is_accepted_by_a_reload_that_refuses(rt, web, old, new):
    web(signature(old))
    with breaking("refuse"):
        assert web(signature(new)).published


@pytest.mark.parametrize(("old", "new", "reason"), BREAKING)
def test_a_change_that_breaks_callers_is_refused_or_accepted_as_chosen(rt, web, old, new, reason):
    web(signature(old))
    with breaking("refuse"), pytest.raises(IncompatibleError, match=reason) as caught:
        web(signature(new))
    assert "agent.tool web.f" in str(caught.value)
    assert rt.epoch.number == 1
    assert web(signature(new)).published


def test_a_result_that_callers_do_not_know_breaks_them(rt, web):
    web(signature("a: int", "int"))
    for result in ("str", "int | None", "list[int]"):
        with breaking("refuse"), pytest.raises(IncompatibleError, match="its result"):
            web(signature("a: int", result))
    with breaking("refuse"):
        assert web(signature("a: int", "Literal[1, 2]")).published


def test_a_tool_that_goes_breaks_its_callers(rt, web):
    web(signature("a: int") + "\n" + signature("a: int").replace(" f(", " g("))
    with breaking("refuse"), pytest.raises(IncompatibleError, match="the tool is gone"):
        web(signature("a: int"))


def test_a_recursive_model_is_compared_to_its_end(rt, web):
    model = "class P(BaseModel):\n    {field}: int = 0\n    more: list[P] = []\n"
    web(model.format(field="a") + signature("p: P"))
    with breaking("refuse"):
        assert web(model.format(field="a") + signature("p: P, q: int = 1")).published
    with breaking("refuse"), pytest.raises(IncompatibleError, match=r"'p\.a' is string"):
        changed = model.format(field="a").replace("int = 0", "str = ''")
        web(changed + signature("p: P, q: int = 1"))


def test_a_pair_of_types_is_compared_again_in_another_place(rt, web):
    models = "class A(BaseModel):\n    x: int\nclass B(BaseModel):\n    x: {}\n"
    web(models.format("int") + signature("p: A | B, q: A | B"))
    with breaking("refuse"), pytest.raises(IncompatibleError, match=r"'q\.x'"):
        # `p` still takes an A; `q` takes only the B, which is another now.
        web(models.format("str") + signature("p: A | B | dict[str, int], q: B"))


def test_a_host_refuses_breaking_changes_unless_the_reload_accepts_them(rt, web):
    refuse_breaking(rt)
    refuse_breaking(rt)
    web(signature("a: int"))
    with pytest.raises(IncompatibleError, match=r"web\.f: argument 'a' is string"):
        web(signature("a: str"))
    assert web(signature("a: int, b: int = 0")).published
    with breaking("accept"):
        assert web(signature("a: str")).published
    with pytest.raises(IncompatibleError, match="it is gone"):
        web("")
    rt.remove("web")  # a person's decision about the whole plugin


def test_models_of_a_plugin_leave_nothing_behind(rt, web):
    web(RICH)
    for _ in range(5):
        search = of(rt, "search")
        search.dump(search(**search.check({"query": "q", "pages": [], "point": {"x": 1}})))
        with pytest.raises(ToolArgumentError):
            search.check({})
        del search
        report = web(RICH)
        assert report.drained
        assert report.reclaimed, report.leaks


def test_a_running_generator_keeps_its_generation(rt, web):
    web(RICH)
    generator = of(rt, "stream")(2)

    loop = asyncio.new_event_loop()
    try:
        assert loop.run_until_complete(anext(generator)) == "0"
        report = rt.reload("web", drain_timeout=0.0)
        assert not report.drained
        assert loop.run_until_complete(anext(generator)) == "1"
        loop.run_until_complete(generator.aclose())
    finally:
        loop.close()


def test_a_check_of_the_plugin_that_raises_is_the_plugins_fault(rt, web):
    web(
        """
        from pydantic import field_validator

        class Page(BaseModel):
            address: str

            @field_validator("address")
            @classmethod
            def known(cls, value):
                raise RuntimeError("no network")

        @tool
        def f(page: Page):
            "F."
        """
    )
    with pytest.raises(ToolFailedError, match="no network") as caught:
        of(rt, "f").check({"page": {"address": "a"}})
    assert caught.value.__context__ is None


def test_resources_and_prompts_are_offered(rt, web):
    web(
        """
        @resource(uri="notes://{topic}/{number}", mime_type="text/plain")
        def note(topic: str, number: int) -> str:
            "A note."
            return f"{topic} {number}"

        @prompt(title="Review")
        def review(diff: str, tone: str = "kind") -> str:
            "Review."
            return f"{tone}: {diff}"
        """
    )
    note = rt.epoch[resource]["web.note"]
    assert note.facts.match("notes://a%20b/7") == {"topic": "a b", "number": "7"}
    assert note.facts.match("notes://a") is None
    assert note(**note.check(note.facts.match("notes://a%20b/7"))) == "a b 7"
    review = rt.epoch[prompt]["web.review"]
    assert review.facts.required == {"diff"}
    assert review(**review.check({"diff": "d"})) == "kind: d"


def test_the_digest_names_what_a_client_sees_and_no_body(rt, web):
    web(signature("a: int"))
    first = of(rt, "f").facts.digest
    web(signature("a: int") + "  # another body")
    assert of(rt, "f").facts.digest == first
    web(signature("a: int", doc="G."))
    assert of(rt, "f").facts.digest != first
