"""Every block of code in docs/ runs, and prints what its page says.

* A python block with `title="name.py"` is a file; one without is run, in one namespace a page.
* `text` after a python block is exactly what that block printed, or what the file prints that is
  run as a program.
* `console` blocks have commands, `$ epochal …` or `$ python …`, and lines that must be in the
  output, in this order; `...` stands for anything.
* toml, json, ini, yaml, dockerfile, nginx and sh blocks are configuration; test_deployment.py
  reads those of its page.
* Blocks without a language are pictures, and outputs that differ from run to run.

A page may begin where another one ends: `given` has the files and names that it takes from there.
"""

import contextlib
import importlib.util
import io
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from epochal import Runtime, errors
from epochal.cli import main
from epochal.sql import Database

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "```" in page.read_text())
GEO, HOST = re.findall(
    r"```python\n(# \w+\.py\n.*?)```", (DOCS.parent / "README.md").read_text(), re.DOTALL
)[1:]
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^ *```.*?^ *```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
CONFIGURATION = {"toml", "json", "ini", "yaml", "dockerfile", "nginx", "sh", "sql"}


def blocks(page):
    return BLOCK.findall(page.read_text())


@contextlib.contextmanager
def printed():
    """The standard output of the block, as lines."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        yield out


def run_command(command, folder):
    """The output of a command of a console block."""
    program, *arguments = shlex.split(command)
    with printed() as out:
        if program == "epochal":
            status = main(arguments)
            assert status in (0, 1), (command, out.getvalue())
        else:
            assert program == "python", command
            with contextlib.ExitStack() as stack:
                argv, sys.argv = sys.argv, arguments
                stack.callback(setattr, sys, "argv", argv)
                runpy.run_path(str(folder / arguments[0]), run_name="__main__")
    return out.getvalue()


def assert_shows(shown, output, where):
    """Each line of a console block is in the output, in order."""
    position = 0
    for line in shown:
        pattern = r".*?".join(map(re.escape, line.split("...")))
        found = re.compile(pattern, re.DOTALL).search(output, position)
        assert found, f"{where}: {line!r} is not in\n{output[position:]}"
        position = found.end()


def given(page, folder):
    """The files and names that a page takes from another one, or from its reader's program."""
    if page in ("asgi", "store", "testing"):
        (folder / "geo.py").write_text(GEO)
        (folder / "geo_next.py").write_text(GEO.replace("1.0.0", "1.1.0"))
    if page == "watch":
        (folder / "plugins").mkdir()
        (folder / "plugins/geo.py").write_text(GEO)
        return {"serve": lambda: None}
    if page == "observability":
        rt = Runtime()
        return {"rt": rt, "db": Database(rt), "sql": "SELECT 1"}
    return {}


def run_file(name, folder):
    """The output of a file that is run as a program."""
    with printed() as out:
        runpy.run_path(str(folder / name), run_name="__main__")
    return out.getvalue()


def forget_modules(folder, *names):
    """Have files of the page be imported anew: a later block may write them again."""
    for name, module in [*sys.modules.items()]:
        if name in names or str(folder) in str(getattr(module, "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_runs_and_prints_what_it_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names = {"__name__": "__page__", **given(page.stem, tmp_path)}
    program, output, where = None, None, page.name
    try:
        for language, title, text in blocks(page):
            if title:
                (tmp_path / title).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / title).write_text(text)
                if title.endswith(".py"):
                    compile(text, title, "exec")
                    program, output = title, None
                    forget_modules(tmp_path, Path(title).stem, Path(title).parts[0])
            elif language == "python":
                with printed() as out:
                    exec(compile(text, f"<{page.name}>", "exec"), names)
                output = out.getvalue()
            elif language == "text":
                assert (run_file(program, tmp_path) if output is None else output) == text, where
            elif language == "console":
                for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                    command, *shown = part.splitlines()
                    shown = [line for line in shown if line.strip() not in ("", "...")]
                    assert_shows(shown, run_command(command, tmp_path), command)
            else:
                assert language in CONFIGURATION, (where, language)
    finally:
        closings = [names.get(name) for name in ("stop", "db", "here", "rt")]
        names.clear()  # exports among them would keep a plugin in use
        for closing in filter(None, closings):
            getattr(closing, "close", closing)()
        forget_modules(tmp_path)


def test_no_page_is_left_out():
    assert len(PAGES) >= 30
    assert sum(len(blocks(page)) for page in PAGES) >= 120


def test_links_lead_to_pages_and_headings():
    """As `make docs` checks them, for the pages that are in the repository."""
    made = set(generated().PAGES)
    seen = 0
    for page in DOCS.rglob("*.md"):
        prose = CODE.sub("", page.read_text())
        for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", prose):
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if file.is_relative_to(DOCS) and str(file.relative_to(DOCS)) in made:
                continue
            assert file.exists(), (page, target)
            if anchor and file.suffix == ".md":
                assert anchor in anchors(file), (page, target)
            seen += 1
    assert seen > 100


def anchors(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    made = re.findall(r"^::: ([\w.]+)", text, re.MULTILINE)  # by mkdocstrings
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\s-]", "", h).strip().lower().replace(" ", "-") for h in headings}
    slugs |= set(made)
    return slugs | set(re.findall(r'id="([^"]+)"', text)) | set(re.findall(r"\{#([\w-]+)\}", text))


def generated():
    """The module that makes pages of the program."""
    spec = importlib.util.spec_from_file_location("docs_generated", DOCS / "generated.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_made_pages_have_every_command_request_and_event():
    from epochal.cli.root import app
    from epochal.events import ChangeCommitted
    from epochal.server.api import document

    pages = {address: make() for address, make in generated().PAGES.items()}
    commands = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert len(commands) > 8
    for command in commands:
        assert f"## epochal {command}" in pages["reference/cli.md"]
    assert (
        "`--drain-timeout`" in pages["reference/cli.md"] or "`--wait`" in pages["reference/cli.md"]
    )
    for path in document()["paths"]:
        assert f" {path}\n" in pages["reference/http.md"]
    assert f"### {ChangeCommitted.__name__}" in pages["reference/events.md"]


def test_every_error_has_its_cause_and_remedy_at_its_code():
    page = (DOCS / "reference/errors.md").read_text()
    sections = dict(re.findall(r"^### ([\w-]+)\n\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    seen = 0
    for cls in classes:
        if issubclass(cls, errors.EpochalError) and cls is not errors.EpochalError:
            section = sections[cls.code]
            assert section.startswith(f"`{cls.__name__}`, HTTP {status_of_class(cls)}. "), cls
            assert re.search(r"\*\*Remedy\.\*\* \S.{10,}", section), cls
            seen += 1
    assert seen == len(sections) > 40


def status_of_class(cls):
    from epochal.server.problem_details import STATUSES

    return next(STATUSES[base] for base in cls.__mro__ if base in STATUSES)


def test_every_code_of_http_is_on_the_page():
    page = (DOCS / "reference/errors.md").read_text()
    server = DOCS.parent / "src/epochal/server"
    sources = " ".join(path.read_text() for path in server.glob("*.py"))
    codes = set(re.findall(r"Problem\(\s*\d+,\s*\"([\w-]+)\"", sources))
    assert len(codes) > 8
    for code in codes:
        assert f'id="{code}"' in page or f"### {code}\n" in page, code


@pytest.mark.parametrize(
    "taught",
    ["ctx.config", "init(", "ctx.spawn", "plugin.toml", "dependencies =", "vectorized"],
)
def test_what_an_author_must_know_is_on_a_page_for_authors(taught):
    pages = [*(DOCS / "tutorial").glob("*.md"), *(DOCS / "guides").glob("*.md")]
    assert any(taught in page.read_text() for page in pages)
