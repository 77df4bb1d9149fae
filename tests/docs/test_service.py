"""The pages about the service are true: names, examples, the dashboard."""

import asyncio
import json
import re
from pathlib import Path

import httpx
from tests.server.test_service import NAMES

from epochal import Runtime
from epochal.server.api import document

DOCS = Path(__file__).parents[2] / "docs"
pytest_plugins = ["pytester"]
GEO = re.findall(r"```python\n(.*?)```", (DOCS.parent / "README.md").read_text(), re.DOTALL)[1]


def test_the_page_names_every_route():
    page = (DOCS / "service.md").read_text()
    for path in document()["paths"]:
        if path == "/v1/session":  # the page's own
            continue
        assert path.replace("{plugin}", "{id}").removeprefix("/v1/plugins/{id}") in page, path


def test_every_metric_is_listed_and_the_dashboard_uses_no_other():
    page = (DOCS / "observability.md").read_text()
    assert set(re.findall(r"`(epochal_\w+)`", page)) == NAMES
    dashboard = json.loads((DOCS / "grafana.json").read_text())
    asked = " ".join(t["expr"] for panel in dashboard["panels"] for t in panel["targets"])
    metrics = {re.sub(r"_(total|bucket)$", "", name) for name in re.findall(r"epochal_\w+", asked)}
    assert metrics <= NAMES


def test_the_pages_of_asgi_run_as_they_stand(tmp_path, monkeypatch):
    (tmp_path / "geo.py").write_text(GEO)
    monkeypatch.chdir(tmp_path)
    example = re.findall(r"```python\n(.*?)```", (DOCS / "asgi.md").read_text(), re.DOTALL)[0]
    names = {}
    exec(example, names)
    rt = names["rt"]
    assert isinstance(rt, Runtime)

    async def ask():
        transport = httpx.ASGITransport(names["app"])
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/km", params={"lat": 52.52, "lon": 13.4})

    answer = asyncio.run(ask())
    assert round(answer.json()) == 877
    assert answer.headers["epochal-epoch"] == "1"
    rt.close()


def test_the_pages_tests_pass(pytester):
    page = (DOCS / "testing.md").read_text()
    example = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    pytester.makepyfile(example)
    (pytester.path / "geo.py").write_text(GEO)
    pytester.runpytest_subprocess("-q", "-p", "no:frontrun").assert_outcomes(passed=2)
