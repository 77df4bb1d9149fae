"""Statuses and error lines: what a shell and a person see of the command."""

import json
import os
import re
import subprocess
import sys
import traceback

import pytest

from epochal.cli import invocation as entry
from epochal.cli import main
from epochal.errors import UnknownPluginError


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help_shows_every_command_and_what_to_try(arguments, capsys):
    assert main(arguments) == 0
    text = capsys.readouterr().out
    for expected in ("demo", "query", "plan", "check", "new", "epochal new geo"):
        assert expected in text


@pytest.mark.parametrize("command", ["demo", "query", "plan", "check", "new"])
def test_the_help_of_each_command_has_an_example_and_names_json(command, capsys):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "For example:" in text
    assert f"  epochal {command}" in text
    assert "--json" in text


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("epochal 0.")


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["query"], ["query", "SELECT 1", "--format", "xml"], ["check"], ["--nope"]],
)
def test_wrong_arguments_are_one_line_and_status_2(arguments, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error[arguments]: ")
    assert err.count("\n") == 1


def test_an_error_is_one_line_and_status_1(capsys):
    assert main(["query", "SELEC 1"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error[query]: syntax error")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--debug", "query", "SELEC 1"],
        ["query", "--debug", "SELEC 1"],
        ["query", "SELEC 1", "--debug"],
    ],
)
def test_debug_given_anywhere_adds_the_traceback(arguments, capsys):
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert err.splitlines()[-1].startswith("error[query]: syntax error")


def test_words_after_two_dashes_are_not_options():
    assert entry._take_debug(["query", "--", "--debug"]) == (["query", "--", "--debug"], False)


@pytest.mark.parametrize("word", ["link", "error[link]", "LinkError", "`link`:"])
def test_a_code_leads_to_the_cause_and_the_remedy(word, capsys):
    assert main(["explain", word]) == 0
    out = capsys.readouterr().out
    assert out.startswith("link\n\n`LinkError`, HTTP 422. The plugin's code raised")
    assert "Remedy: " in out


def test_explain_knows_every_code_and_names_close_ones(capsys):
    assert main(["explain"]) == 0
    out = capsys.readouterr().out
    for code in ("unknown-plugin", "in-use", "wrong-token", "unexpected", "arguments"):
        assert re.search(rf"^ *{code} +\S", out, re.MULTILINE)
    assert main(["explain", "unkown-plugin"]) == 1
    assert "do you mean unknown-plugin" in capsys.readouterr().err


def test_an_error_shown_in_a_terminal_leads_to_its_explanation(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["query", "SELEC 1"]) == 1
    assert "`epochal explain query` has the cause and the remedy" in capsys.readouterr().err


def test_a_traceback_leads_to_the_explanation_where_the_extra_is_missing(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "epochal.cli.invocation", raising=False)
    monkeypatch.delitem(sys.modules, "epochal.cli.root", raising=False)
    monkeypatch.setitem(sys.modules, "typer", None)
    last = "".join(traceback.format_exception(UnknownPluginError("geo"))).splitlines()[-1]
    assert last.startswith("[unknown-plugin] `epochal explain unknown-plugin` has the cause")
    assert main(["explain", "unknown-plugin"]) == 0
    assert "Load it, or spell its id" in capsys.readouterr().out
    assert main(["explain", "nope"]) == 1
    assert capsys.readouterr().err.startswith("error[host]: no error has the code 'nope'")


def test_with_json_an_error_is_an_object_with_its_code(capsys):
    assert main(["query", "SELEC 1", "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    error = json.loads(err)["error"]
    assert error["code"] == "query"
    assert error["message"].startswith("syntax error")


def test_a_bug_is_one_line_with_a_hint_at_debug(monkeypatch, capsys):
    def broken(arguments):
        raise ZeroDivisionError("oh\nno")

    monkeypatch.setattr(entry, "_invoke", broken)
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == (
        "error[unexpected]: ZeroDivisionError: oh no (--debug shows where)\n"
    )


def test_interruption_is_status_130_without_a_traceback(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "_invoke", interrupted)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_a_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "epochal.cli.invocation", raising=False)
    monkeypatch.delitem(sys.modules, "epochal.cli.root", raising=False)
    monkeypatch.setitem(sys.modules, "typer", None)
    # None in sys.modules gives a ModuleNotFoundError without a traceback of typer's own.
    assert main(["--version"]) == 1
    assert "pip install 'epochal[cli]'" in capsys.readouterr().err


def run(*arguments, **options):
    command = [sys.executable, "-m", "epochal.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, **options)


def test_the_process_leaves_with_the_status_and_no_traceback():
    done = run("query", "SELECT geo.nope(1)")
    assert done.returncode == 1
    assert done.stderr.startswith("error[query]: no function 'geo.nope'")
    assert "Traceback" not in done.stderr


def test_a_closed_pipe_ends_the_command_quietly():
    command = [
        sys.executable,
        "-m",
        "epochal.cli",
        "query",
        "SELECT * FROM generate_series(1, 200000)",
        "--format",
        "csv",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "value\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(50) == 141


def test_a_shell_gets_completions():
    words = {"_EPOCHAL_COMPLETE": "complete_bash", "COMP_WORDS": "epochal ro", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "epochal.cli"],
        env=os.environ | words,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.split() == ["rollback"]


INTERRUPTED_IMPORT = """
import os, signal, sys
from epochal.cli import main

class Interrupting:
    def find_spec(self, name, *_):
        if name == "epochal.cli.root":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
main(["--version"])
"""


def test_an_interrupt_while_the_command_is_imported_is_no_traceback():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 130
    assert done.stderr == "stopped\n"
