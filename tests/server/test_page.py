"""The live page, in a real browser."""

import os
import shutil
import threading
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright
from tests.server.conftest import ADMIN, GEO
from tests.server.test_streams import ENDS

import epochal.server
from epochal.watch import Watcher

BROWSER = os.environ.get("EPOCHAL_CHROMIUM") or shutil.which("chromium") or shutil.which("chrome")
pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(
        BROWSER is None and not os.environ.get("CI"), reason="no chromium: apt install chromium"
    ),
]
WIDE = {"width": 1120, "height": 900}
CONTRASTS = Path(__file__).with_name("contrasts.js").read_text()
PHONE = {"width": 375, "height": 740}


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Open the page; whatever goes wrong in it fails the test."""
    contexts, faults = [], []

    def open_page(url, *, viewport=WIDE, scheme="light", token=ADMIN, query="", faulty=False):
        context = chromium.new_context(viewport=viewport, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        expect.set_options(timeout=20_000)
        if not faulty:
            page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith(url) or faults.append(asked.url))
        page.goto(f"{url}/#token={token}" if token else f"{url}/#{query}" if query else url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


def confirm(page, button):
    page.get_by_role("button", name=button).click()
    page.locator("#ask-yes").click()


def row(page, plugin="geo"):
    return page.locator(f'tr[data-plugin="{plugin}"]')


def test_the_page_shows_the_active_plugins(served, open_page):
    page = open_page(served.url)
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    expect(page.locator("#epoch-number")).to_have_text("1")
    expect(row(page)).to_contain_text("1.0")
    expect(row(page)).to_contain_text("active")
    assert page.url == f"{served.url}/"  # the token does not stay in the address


def test_a_reload_by_button_shows_in_table_plot_and_log(served, open_page):
    page = open_page(served.url)
    confirm(page, "Reload geo")
    expect(page.locator("#epoch-number")).to_have_text("2")
    expect(row(page).locator('[data-name="generation"]')).to_have_text("1")
    expect(page.locator("#events")).to_contain_text(
        "reload geo 1.0, the same code (epoch 2, by http)"
    )
    expect(page.locator("#plot .published")).not_to_have_count(0)
    expect(page.locator("#notes")).to_contain_text("the old code is shut down")


def test_a_dialog_that_is_not_confirmed_changes_nothing(served, open_page):
    page = open_page(served.url)
    page.get_by_role("button", name="Remove geo").click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Reload geo").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#ask")).not_to_be_visible()
    assert served.service.runtime.epoch.number == 1


def test_a_refused_reload_shows_its_error_and_keeps_the_old_version(
    start_service, tmp_path, open_page
):
    served = start_service()
    path = tmp_path / "geo.py"
    path.write_text(GEO.format(version="1.0"))
    served.service.runtime.load(path)
    page = open_page(served.url)
    path.write_text(GEO.format(version="2.0") + "\nraise OSError('no such sensor')\n")
    confirm(page, "Reload geo")
    expect(page.locator("#notes .failed")).to_contain_text("no such sensor")
    expect(page.locator("#plot .refused")).not_to_have_count(0)
    expect(row(page)).to_contain_text("1.0")
    assert served.query("SELECT geo.version(1)").json()["rows"] == [["1.0"]]


def test_the_page_names_the_holders_of_a_drain(served, open_page):
    inside, go_on = served.events()
    page = open_page(served.url)
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    asking = threading.Thread(target=served.query, args=["SELECT geo.slow(7)"])
    asking.start()
    assert inside.wait(10)
    served.put_geo("2.0", params={"drain_timeout": 0})
    expect(page.locator("#drains")).to_contain_text("SELECT geo.slow(?)")
    go_on.set()
    asking.join(20)
    expect(page.locator("#drains-section")).not_to_be_visible()


def test_rollback_and_remove(start_service, tmp_path, open_page):
    served = start_service(store=tmp_path / "store")
    served.put_geo("1.0")
    served.put_geo("2.0")
    page = open_page(served.url)
    expect(row(page)).to_contain_text("2.0")
    page.get_by_role("button", name="Roll back geo").click()
    expect(page.locator("#rollback-to option")).to_have_count(1)
    page.locator("#ask-yes").click()
    expect(row(page)).to_contain_text("1.0")
    confirm(page, "Remove geo")
    expect(page.locator("#no-plugins")).to_be_visible()


def test_a_change_after_another_users_change_is_refused(served, open_page):
    page = open_page(served.url)
    page.get_by_role("button", name="Reload geo").click()
    served.put_geo("2.0")
    page.locator("#ask-yes").click()
    expect(page.locator("#notes .failed")).to_contain_text("another change was published first")


def test_a_query_shows_rows_and_provenance(served, open_page):
    page = open_page(served.url)
    page.fill("#sql", "SELECT geo.version(1) AS v, 41 + 1 AS answer")
    page.press("#sql", "Control+Enter")
    expect(page.locator("#rows tbody")).to_contain_text("42")
    expect(page.locator("#provenance")).to_contain_text("geo 1.0, generation 0")
    page.fill("#sql", "SELECT nope(1)")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#query-status")).to_contain_text("nope")


def test_an_interval_is_shown_in_words(served, open_page):
    page = open_page(served.url)
    page.fill("#sql", "SELECT interval '1 month 2 days 3.5 seconds', interval '0 days', NULL")
    page.press("#sql", "Control+Enter")
    expect(page.locator("#rows td")).to_have_text(
        ["1 month 2 days 3.5 seconds", "0 seconds", "null"]
    )


def test_jobs_and_streams_are_shown_and_move_without_a_change(start_service, open_page):
    served = start_service()
    served.service.streams.connect("ends.numbers", "ends.kept")
    page = open_page(served.url)
    streams = page.locator("#streams tbody")
    expect(streams).to_contain_text("waits: ends.numbers not active and ends.kept not active")
    tick = "from epochal.kinds import job\n\n@job(every='1h')\ndef tick(): pass\n"
    assert served.put("ends", ENDS + tick).status_code == 201
    expect(streams.locator("td")).to_have_text(["ends.numbers → ends.kept", "moves", "40", "40"])
    page.get_by_role("button", name="Run ends.tick").click()
    expect(page.locator("#notes")).to_contain_text("ends.tick is queued")
    page.locator("#sql").focus()  # a row that has the focus stays as it is
    expect(page.locator("#jobs tbody td.n").first).to_have_text("1")


def test_foreign_text_is_never_markup(served, open_page):
    page = open_page(served.url)
    page.fill("#sql", "SELECT '<img src=x onerror=alert(1)>' AS \"<b>bold</b>\"")
    page.press("#sql", "Control+Enter")
    expect(page.locator("#rows tbody")).to_contain_text("<img src=x")
    assert page.locator("#rows img, #rows b").count() == 0


def test_a_change_without_the_token_asks_for_it(served, open_page):
    page = open_page(served.url, token=None)
    expect(page.locator("#sign")).to_have_text("Sign in")
    confirm(page, "Reload geo")
    page.fill("#token", "a wrong one")
    page.press("#token", "Enter")
    expect(page.locator("#token-error")).to_contain_text("not the admin token")
    page.fill("#token", ADMIN)
    page.press("#token", "Enter")
    expect(page.locator("#epoch-number")).to_have_text("2")
    expect(page.locator("#sign")).to_have_text("Sign out")


def test_the_event_log_is_filtered(served, open_page):
    page = open_page(served.url)
    expect(page.locator("#events li")).to_have_count(1)
    page.select_option("#level", "debug")
    expect(page.locator("#events")).to_contain_text("LINKED -> INITIALIZED")
    page.fill("#filter", "nothing has this text")
    expect(page.locator("#events li")).to_have_count(0)


def test_the_page_reconnects_after_a_restart(start_service, tmp_path, open_page):
    served = start_service(store=tmp_path / "store")
    served.put_geo("1.0")
    page = open_page(served.url, faulty=True)
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    port = int(served.url.rpartition(":")[2])
    served.stop()
    expect(page.locator("#link-text")).to_have_text("reconnecting")
    again = start_service(store=tmp_path / "store", port=port)
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    again.put_geo("2.0")
    expect(row(page)).to_contain_text("2.0")
    # The session was made of the token, which is the same.
    confirm(page, "Reload geo")
    expect(row(page).locator('[data-name="generation"]')).to_have_text("2")


def test_every_control_works_by_keyboard(served, open_page):
    page = open_page(served.url)
    expect(row(page)).to_be_visible()
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.action") == "Reload geo":
            break
    page.keyboard.press("Enter")
    expect(page.locator("#ask")).to_be_visible()
    page.keyboard.press("Tab")  # from the configuration to Cancel
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#epoch-number")).to_have_text("2")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_has_contrast(served, open_page, scheme):
    served.put("web", TOOLS.format(version="1.0"))
    page = open_page(served.url, viewport=PHONE, scheme=scheme)
    page.locator('[data-tool="web.search"] summary').first.click()
    expect(row(page)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    faint = page.evaluate(CONTRASTS)
    assert min(ratio for ratio, _ in faint) >= 4.5, sorted(faint)[:5]


def test_many_plugins_are_filtered_sorted_and_folded(start_service, tmp_path, open_page):
    served = start_service()
    code = '# /// plugin\n# id = "p{0}"\n# version = "1.{0}"\n# ///\n'
    for number in range(60):
        (tmp_path / f"p{number}.py").write_text(code.format(number))
    served.service.runtime.load_folder(tmp_path)
    page = open_page(served.url)
    rows = page.locator("#plugins tbody tr")
    expect(rows).to_have_count(25)
    page.get_by_role("button", name="Show all 60").click()
    expect(rows).to_have_count(60)
    page.get_by_role("button", name="version", exact=True).click()
    page.get_by_role("button", name="version", exact=True).click()
    expect(rows.first).to_contain_text("p59")
    page.locator("#plugin-filter").fill("p7")
    expect(rows).to_have_count(1)


def test_a_refused_save_marks_its_row_until_it_is_mended(start_service, tmp_path, open_page):
    served = start_service()
    path = tmp_path / "geo.py"
    path.write_text(GEO.format(version="1.0"))
    with Watcher(served.service.runtime, tmp_path, load=True, settle_s=0.05, scan_s=0.1):
        page = open_page(served.url)
        expect(row(page)).to_contain_text("1.0")
        path.write_text(GEO.format(version="1.1") + "\n1/0\n")
        expect(row(page)).to_contain_text("the last save was refused")
        expect(row(page)).to_contain_text("ZeroDivisionError")
        expect(page.locator("#events li.error")).to_have_count(1)  # one bad save is one error
        path.write_text(GEO.format(version="1.1"))
        expect(row(page)).to_contain_text("1.1")
        expect(row(page)).not_to_contain_text("refused")


def test_history_shows_what_changed(start_service, tmp_path, open_page):
    served = start_service(store=tmp_path / "store")
    served.put_geo("1.0")
    served.put_geo("2.0", params={"reason": "new radius"})
    page = open_page(served.url)
    page.get_by_role("button", name="Show", exact=True).click()
    first = page.locator("#history li").first
    expect(first).to_contain_text("epoch 2 reload geo 1.0 → 2.0")
    expect(first).to_contain_text("http: new radius")
    page.get_by_role("button", name="Diff of geo, generations 0 and 1").click()
    expect(first.locator(".add").filter(has_text='# version = "2.0"')).to_have_count(1)


def test_a_query_is_in_the_address_and_its_rows_can_be_saved(served, open_page):
    page = open_page(served.url)
    page.locator("#sql").fill("SELECT geo.version(1) AS v, 'a,\"b' AS t")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#rows td").first).to_have_text("1.0")
    with page.expect_download() as saved:
        page.get_by_role("button", name="CSV").click()
    assert Path(saved.value.path()).read_text() == 'v,t\n1.0,"a,""b"\n'
    again = open_page(served.url, token=None, query=page.url.partition("#")[2])
    expect(again.locator("#sql")).to_have_value("SELECT geo.version(1) AS v, 'a,\"b' AS t")
    expect(again.locator("#answer")).to_be_hidden()  # an address runs nothing by itself


def test_a_plugin_is_loaded_and_configured_on_the_page(start_service, tmp_path, open_page):
    served = start_service()
    path = tmp_path / "geo.py"
    code = "\ndef init(ctx):\n    global unit\n    unit = ctx.config['unit']\n"
    path.write_text(GEO.format(version="1.0") + code)
    page = open_page(served.url)
    expect(page.locator("#first-steps")).to_contain_text(f"--server {served.url}")
    page.get_by_role("button", name="Load …").click()
    page.locator("#ask input[type=file]").set_input_files(path)
    page.locator("#config").fill('{"unit": "km é"}')
    page.locator("#ask-yes").click()
    expect(row(page)).to_contain_text("1.0")
    assert served.service.runtime.generation("geo").module.unit == "km é"


TOOLS = """\
# /// plugin
# id = "web"
# version = "{version}"
# ///
import asyncio
from typing import Annotated, Literal
from pydantic import BaseModel, Field
from epochal.kinds import tool
from epochal.kinds.tool_call import progress

class Page(BaseModel):
    title: str

STOPPED = []

@tool
def search(
    query: Annotated[str, Field(description="what to look for")],
    limit: Annotated[int, Field(le=2**60)] = 10,
    mode: Literal["fast", "slow"] | None = None,
    page: Page | None = None,
) -> dict:
    "Find pages."
    return {{"query": query, "limit": limit, "mode": mode, "page": page}}

@tool(destructive=True)
def drop(table: str) -> str:
    "Drop a table."
    STOPPED.append(table)
    return "dropped " + table

@tool
async def wait() -> None:
    "Wait for ever."
    progress(1, 4, "begun")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        STOPPED.append("wait")
        raise
"""


@pytest.fixture
def tools_page(start_service, open_page):
    """Load plugin web, and open the page at one of its tools."""

    def tools_page(tool, *, opened=True, **options):
        served = start_service()
        assert served.put("web", TOOLS.format(version="1.0")).status_code == 201
        card = open_page(served.url, **options).locator(f'[data-tool="web.{tool}"]')
        if opened:
            card.locator("summary").first.click()
        return served, card

    return tools_page


def test_a_tool_is_called_by_its_form_which_shows_each_change(tools_page):
    served, card = tools_page("search")
    call = card.get_by_role("button", name="Call web.search")
    answer, status = card.locator("> pre"), card.locator("form [role=status]")
    card.get_by_label("query string · what to look for").fill('the "first"')
    card.get_by_label("limit integer, default 10").fill("9007199254740993")
    card.get_by_label("mode").select_option("slow")
    card.get_by_label("page").fill('{"title": 1}')
    call.click()
    expect(answer).to_contain_text("'page.title': input should be a valid string, not 1")
    expect(status).to_contain_text("refused, epoch 1")
    card.get_by_label("page").fill('{"title": ')
    call.click()
    expect(status).to_contain_text("page is not valid JSON")
    card.get_by_label("page").fill('{"title": "<b>"}')
    call.click()
    expect(answer).to_have_text(
        '{"query": "the \\"first\\"", "limit": 9007199254740993, "mode": "slow", '
        '"page": {"title": "<b>"}}'
    )
    digest = served.service.runtime.generation("web").digest[:8]
    expect(status).to_contain_text(f"answered by web 1.0, generation 0 ({digest}), epoch 1, in")
    card.get_by_text("Schemas").click()
    expect(card.get_by_label("Arguments of web.search")).to_contain_text('"maximum"')

    news = card.locator(".news")
    code = TOOLS.format(version="1.1")
    served.put("web", code)
    expect(news).to_have_text("web was reloaded, 1.0 → 1.1: the tool's schemas are the same.")
    code = code.replace("mode: L", "way: L").replace('"mode": mode, ', "").replace("1.1", "2.0")
    assert served.put("web", code).status_code == 200
    expect(news).to_have_text("web was reloaded, 1.1 → 2.0: mode is gone, way is new.")
    expect(card.get_by_label("query")).to_have_value('the "first"')
    card.get_by_label("limit").fill("many")
    call.click()
    expect(answer).to_contain_text("'limit': input should be a valid integer")
    served.admin.delete("/v1/plugins/web")
    expect(news).to_have_text("The tool is gone.")
    expect(call).to_be_disabled()


def test_a_destructive_tool_is_confirmed_and_needs_the_admin_token(tools_page):
    served, card = tools_page("drop", token=None)
    page = card.page
    done = served.service.runtime.generation("web").module.STOPPED
    card.get_by_label("table").fill("orders")
    call = card.get_by_role("button", name="Call web.drop")
    call.click()
    page.keyboard.press("Escape")
    call.click()
    page.locator("#ask-yes").click()
    expect(page.locator("#token-dialog")).to_be_visible()
    assert done == []
    page.fill("#token", ADMIN)
    page.press("#token", "Enter")
    expect(card.locator("> pre")).to_have_text("dropped orders")
    assert done == ["orders"]


def test_a_tool_shows_its_progress_and_can_be_stopped(tools_page):
    served, card = tools_page("wait")
    card.get_by_role("button", name="Call web.wait").click()
    status = card.locator("form [role=status]")
    expect(status).to_have_text("begun · 1 of 4")
    card.get_by_role("button", name="Stop").click()
    expect(status).to_have_text("stopped")
    expect(card.get_by_role("button", name="Call web.wait")).to_be_enabled()
    assert served.admin.delete("/v1/plugins/web").json()["drained"]


def test_tools_without_the_library_for_clients_say_which_extra(tools_page, monkeypatch):
    def missing():
        raise ImportError("no mcp")

    monkeypatch.setattr("epochal.server.mcp_mount._import", missing)
    _, card = tools_page("search", opened=False)
    expect(card.page.locator("#tools-hint")).to_contain_text("pip install 'epochal[mcp]'")
    expect(card.page.get_by_text("live", exact=True)).to_be_visible()


def test_the_page_is_small_and_lies_below_any_path(start_service, open_page):
    sizes = {
        file.name: file.stat().st_size
        for file in Path(epochal.server.__file__).with_name("static").iterdir()
    }
    for_tools = sum(sizes.pop(name) for name in ("tools.js", "tool_form.js", "mcp.js"))
    assert (sum(sizes.values()) <= 52_000, for_tools <= 13_000) == (True, True)
    served = start_service(root_path="/sql")
    served.put_geo("1.0")
    page = open_page(f"{served.url}/sql")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    loaded = page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
    assert not [name for name in loaded if "tool" in name or "mcp" in name]
