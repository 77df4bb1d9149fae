"""Tools of agents: what clients are notified of, what a stale call gets, what keeps a plugin."""

from tests.mutants.mutant import Mutant, delete, replace

MCP = "tests/unit/mcp/test_attachment.py::"
RUN = "tests/unit/tools/test_tool_run.py::"
KIND = "tests/unit/kinds/test_tool.py::"

MUTANTS = (
    Mutant(
        "tools.bodies-announce-nothing",
        "tools",
        "clients are notified of every change, and drop the caches of their prompts",
        module="epochal.mcp.attachment",
        where="Attachment.check",
        at="assign 1 / value",
        edit=replace("tuple(now)"),
        shape="05baed",
        test=MCP + "test_a_visible_change_is_announced_once_and_a_body_alone_never",
    ),
    Mutant(
        "tools.clients-get-what-they-saw",
        "tools",
        "a call by the old schema reaches the new version, which refuses it",
        module="epochal.mcp.superseded",
        where="Superseded.replace",
        at="if 1 / test",
        edit=replace("False"),
        shape="c8b3ec",
        test=MCP + "test_a_client_that_ignores_notifications_is_answered_by_what_it_saw",
    ),
    Mutant(
        "tools.old-versions-go-in-time",
        "tools",
        "a version that a change superseded is held for as long as the server runs",
        module="epochal.mcp.attachment",
        where="Attachment._let_go_later",
        at="for 0",
        edit=delete(),
        shape="58466c",
        test=MCP + "test_an_old_version_answers_for_a_bounded_time",
    ),
    Mutant(
        "tools.errors-keep-no-plugin",
        "tools",
        "the error of a tool has a frame that keeps the tool in use",
        module="epochal.tools.tool_run",
        where="run",
        at="delete 0",
        edit=delete(),
        shape="5fd25f",
        test=RUN + "test_errors_carry_no_frames_of_the_plugin",
    ),
    Mutant(
        "tools.breaking-is-refused",
        "tools",
        "a reload that refuses breaking changes lets them through",
        module="epochal.kinds.tool",
        where="ToolKind.compare",
        at="if 0 / test",
        edit=replace("False"),
        shape="7ffd7d",
        test=KIND + "test_a_change_that_breaks_callers_is_refused_or_accepted_as_chosen",
    ),
)
