"""The plugins' tools in a server of the official SDK, beside the server's own.

The handlers of the server are wrapped: a list is the server's own followed by the plugins', a call
goes to the plugins if the name is theirs. A middleware knows the sessions. All that is kept of a
plugin is in its epoch; what clients saw is kept as plain data.

A list is made and checked once for each epoch and protocol version, and then sent as it was; that
is possible where the server has no list of its own, which may change at any time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from weakref import ref

import mcp_types as types
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from epochal.mcp.announcer import Announcer, connection_of
from epochal.mcp.answers import SEEN, Answers, SeenTools
from epochal.mcp.authoring_tools import AuthoringTools
from epochal.mcp.call_reports import LOG_LEVEL
from epochal.mcp.catalogue import FRESH, catalogue_of, prompt_entry, resource_entry, tool_entry
from epochal.mcp.superseded import Superseded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp.server.lowlevel import Server
    from mcp.server.mcpserver import MCPServer
    from mcp.server.subscriptions import SubscriptionBus

    from epochal import Epoch, Generation
    from epochal.authoring import Authoring
    from epochal.mcp.answers import Refuse
    from epochal.mcp.catalogue import Catalogue
    from epochal.mcp.superseded import Stale
    from epochal.runtime import Runtime

    Context = ServerRequestContext[Any, Any]
    Handler = Callable[[Context, Any], Awaitable[Any]]
    Json = dict[str, Any]

HOLD_S: Final = 60.0
_NOT_FOUND: Final = -32002


def attach(
    server: Server[Any] | MCPServer[Any],
    rt: Runtime,
    *,
    stale: Stale = "keep",
    hold: float = HOLD_S,
    timeout: float | None = None,
    separator: str = ".",
    bus: SubscriptionBus | None = None,
    authoring: Authoring | None = None,
    refuse: Refuse | None = None,
) -> Attachment:
    """Offer the tools, resources and prompts of a runtime's plugins to a server's clients.

    Call it before the server runs. The server's own tools stay, and win over a plugin's of the same
    name.

    Args:
        server: of the official SDK: the low-level `Server`, or `MCPServer` (once `FastMCP`).
        rt: the runtime.
        stale: what becomes of a call by a client that saw a version which the current one breaks:
            `"keep"` has the old version answer, for a time; `"error"` answers with the new schema.
        hold: seconds for which an old version answers after the change.
        timeout: seconds that a call may take, where the tool has no limit of its own.
        separator: stands for the dot in names that clients see; some hosts allow none.
        bus: on which the server's own `subscriptions/listen` handler listens, if it has one that is
            not the SDK's.
        authoring: grants clients the tools `tools.propose`, `tools.publish` and `tools.rollback`,
            with which an agent writes plugins; None for no such tools. Ended with the attachment.
        refuse: is called with the SDK's context of a request and the facts of the tool that it
            calls; returns why it may not, which the model reads, or None if it may.

    Returns:
        Keep it for as long as the server runs; `close` ends it.

    Raises:
        ValueError: an option is not known.
    """
    superseded = Superseded(rt, stale, hold)
    return Attachment(_lowlevel(server), rt, superseded, timeout, separator, bus, authoring, refuse)


class Attachment:
    """The plugins of a runtime in a server; made by `attach`.

    It takes part in the runtime's changes (`epochal.runtime.Participant`); ``_lists`` and
    ``_forget`` belong to the change that has the turn.

    Attributes:
        announced: how often clients were notified, by list; counted by the change.
    """

    def __init__(
        self,
        server: Server[Any],
        rt: Runtime,
        superseded: Superseded,
        timeout: float | None,
        separator: str,
        bus: SubscriptionBus | None,
        authoring: Authoring | None,
        refuse: Refuse | None,
    ) -> None:
        if separator not in (".", "-", "_", "__"):
            raise ValueError(
                f"separator={separator!r} is not known; expected '.', '-', '_' or '__'"
            )
        self._rt: Final = rt
        self._superseded: Final = superseded
        self._separator: Final = separator
        self._authoring: Final = None if authoring is None else AuthoringTools(authoring)
        self._answers: Final = Answers(rt, superseded, timeout, refuse)
        self._announcer: Final = Announcer(server, bus)
        self._lists: tuple[str, ...] = ()
        self._forget: Callable[[], None] | None = None
        self._is_open = True
        self.announced: Final[dict[str, int]] = {"tools": 0, "resources": 0, "prompts": 0}
        self._has_own_lists = "tools/list" in _handlers(server)
        server.middleware.append(self._announcer)
        if not self._has_own_lists:
            server.middleware.append(self._send_kept_page)
        self._install(server)
        rt.join(self)

    def close(self) -> None:
        """Let old versions go, and announce nothing any more. Idempotent."""
        self._is_open = False
        self._announcer.close()
        self._superseded.close()
        if self._authoring is not None:
            self._authoring.close()

    # --- requests --------------------------------------------------------------------------

    def _install(self, server: Server[Any]) -> None:
        own, add = _handlers(server), server.add_request_handler
        for method, key, entries in (
            ("tools/list", "tools", self._tool_entries),
            ("resources/list", "resources", _resource_entries),
            ("resources/templates/list", "resourceTemplates", _template_entries),
            ("prompts/list", "prompts", self._prompt_entries),
        ):
            handler = _Lister(self, own.get(method), key, entries)
            add(method, types.PaginatedRequestParams, handler)
        for method, params, first in (
            ("tools/call", types.CallToolRequestParams, self._call_tool),
            ("resources/read", types.ReadResourceRequestParams, self._read_resource),
            ("prompts/get", types.GetPromptRequestParams, self._get_prompt),
        ):
            add(method, params, _else(first, own.get(method)))
        if "logging/setLevel" not in own:
            add("logging/setLevel", types.SetLevelRequestParams, _set_level)

    def catalogue(self) -> Catalogue:
        """What clients see of the current epoch."""
        return catalogue_of(self._rt.epoch)

    def _shown(self, name: str) -> str:
        return name.replace(".", self._separator, 1)

    def _full(self, name: str) -> str:
        """The full name of a tool that a client names."""
        if "." in name or (self._separator not in name and "-" not in name):
            return name
        there = self.catalogue().tools
        for full in there:
            if name in (self._shown(full), full.replace(".", "-", 1)):
                return full
        return name.replace("-", ".", 1) if "-" in name else name.replace(self._separator, ".", 1)

    def _tool_entries(self, catalogue: Catalogue) -> list[Json]:
        own = [] if self._authoring is None else self._authoring.entries(self._shown)
        taken = {entry["name"] for entry in own}
        entries = [tool_entry(facts, self._shown(n)) for n, facts in catalogue.tools.items()]
        return [*own, *(entry for entry in entries if entry["name"] not in taken)]

    def _prompt_entries(self, catalogue: Catalogue) -> list[Json]:
        return [prompt_entry(facts, self._shown(n)) for n, facts in catalogue.prompts.items()]

    def note_seen(self, ctx: Context, catalogue: Catalogue) -> None:
        """Note that a session has been given the tools of a catalogue."""
        seen = {name: facts.digest for name, facts in catalogue.tools.items()}
        connection_of(ctx).state[SEEN] = SeenTools(seen)

    async def _send_kept_page(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """A middleware: a list as it was sent before, for the same epoch and protocol version."""
        if not ctx.method.endswith("/list") or (ctx.params or {}).get("cursor") is not None:
            return await call_next(ctx)
        catalogue = self.catalogue()
        # Several attachments of one runtime share the catalogue, and differ in what they show.
        form = f"{self._separator} {self._authoring is not None}"
        key = (ctx.method, ctx.protocol_version, form)
        page = catalogue.pages.get(key)
        if page is None:
            result = await call_next(ctx)
            # Another epoch may have been published meanwhile: the page says which one it is of.
            if (
                isinstance(result, dict)
                and result.get("_meta", {}).get("epochal", {}).get("id") == catalogue.id
            ):
                catalogue.pages[key] = result
            return result
        if ctx.method == "tools/list":
            self.note_seen(ctx, catalogue)
        return page

    async def _call_tool(self, ctx: Context, params: types.CallToolRequestParams) -> Any:
        name = self._full(params.name)
        if self._authoring is not None and self._authoring.has(name):
            return await self._authoring.call(ctx, name, params.arguments or {})
        if self._has_own_lists and not (
            name in self.catalogue().tools or self._superseded.was_there(name)
        ):
            return None
        return await self._answers.call_tool(ctx, name, params.arguments or {})

    async def _read_resource(self, ctx: Context, params: types.ReadResourceRequestParams) -> Any:
        return await self._answers.read_resource(ctx, str(params.uri))

    async def _get_prompt(self, ctx: Context, params: types.GetPromptRequestParams) -> Any:
        name = params.name
        if "." not in name:
            shown = {self._shown(full): full for full in self.catalogue().prompts}
            name = shown.get(name, name)
        return await self._answers.get_prompt(ctx, name, params.arguments or {})

    # --- changes ---------------------------------------------------------------------------

    def check(self, epoch: Epoch, newcomers: Sequence[Generation]) -> Sequence[Generation]:
        """Find out what clients would see of a change; see `Participant`."""
        if not self._is_open:
            return ()
        now, after = catalogue_of(self._rt.epoch).digests, catalogue_of(epoch).digests
        self._lists = tuple(name for name in now if now[name] != after[name])
        if "tools" in self._lists:
            is_seen = self._announcer.has_clients
            self._forget = self._superseded.replace(self._rt.epoch, epoch, is_seen=is_seen)
        return ()

    def prepare(self, generation: Generation) -> None:
        """Nothing: no newcomer is to be prepared."""

    def finish(self, *, published: bool) -> Sequence[Callable[[], object]]:
        """Announce what is published; see `Participant`."""
        lists, self._lists = self._lists, ()
        forget, self._forget = self._forget, None
        if not published:
            if forget is not None:
                forget()
            return ()
        if not lists:
            return ()
        for name in lists:
            self.announced[name] += 1
        # From here, and not with the calls below: these wait for nothing but the next change's
        # turn, and so does a client.
        self._announcer.announce(lists)
        return (self._let_go_later,)

    def _let_go_later(self) -> None:
        loop = self._announcer.loop
        for held in self._superseded.held_versions():
            if loop is None or loop.is_closed():
                self._superseded.let_go(held)
            else:
                left = max(0.0, self._superseded.hold - held.operation.age)
                let_go = self._superseded.let_go_of
                loop.call_soon_threadsafe(loop.call_later, left, let_go, ref(held))


class _Lister:
    """A list of the server's own followed by the plugins'."""

    def __init__(
        self,
        attachment: Attachment,
        own: Handler | None,
        key: str,
        entries: Callable[[Catalogue], list[Json]],
    ) -> None:
        self._attachment: Final = attachment
        self._own: Final = own
        self._key: Final = key
        self._entries: Final = entries

    async def __call__(self, ctx: Context, params: Any) -> Any:
        """The list."""
        page: Json = {}
        if self._own is not None:
            result = await self._own(ctx, params)
            page = result if isinstance(result, dict) else _dumped(result)
        if page.get("nextCursor") is not None:  # the plugins' are on the last page
            return page
        catalogue = self._attachment.catalogue()
        own = page.get(self._key, [])
        taken = {entry["name"] for entry in own}
        entries = [entry for entry in self._entries(catalogue) if entry["name"] not in taken]
        if self._key == "tools":
            self._attachment.note_seen(ctx, catalogue)
        meta = {**page.get("_meta", {}), **catalogue.meta}
        return {**FRESH, **page, self._key: [*own, *entries], "_meta": meta}


def _resource_entries(catalogue: Catalogue) -> list[Json]:
    return [resource_entry(one) for one in catalogue.resources.values() if not one.arguments]


def _template_entries(catalogue: Catalogue) -> list[Json]:
    return [resource_entry(one) for one in catalogue.resources.values() if one.arguments]


def _else(first: Handler, own: Handler | None) -> Handler:
    """A handler of the plugins', and for what is not theirs the server's own."""

    async def handle(ctx: Context, params: Any) -> Any:
        result = await first(ctx, params)
        if result is not None:
            return result
        if own is not None:
            return await own(ctx, params)
        wanted = getattr(params, "uri", None) or getattr(params, "name", "")
        code = _NOT_FOUND if hasattr(params, "uri") else INVALID_PARAMS
        raise MCPError(code, f"there is no {wanted}")

    return handle


async def _set_level(ctx: Context, params: types.SetLevelRequestParams) -> types.EmptyResult:
    connection_of(ctx).state[LOG_LEVEL] = params.level
    return types.EmptyResult()


def _handlers(server: Server[Any]) -> dict[str, Handler]:
    methods = (
        *("tools/list", "tools/call", "resources/list", "resources/templates/list"),
        *("resources/read", "prompts/list", "prompts/get", "logging/setLevel"),
    )
    entries = {method: server.get_request_handler(method) for method in methods}
    return {method: entry.handler for method, entry in entries.items() if entry is not None}


def _dumped(result: Any) -> Json:
    page: Json = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    return page


def _lowlevel(server: Any) -> Server[Any]:
    """The low-level server itself, or the one within the SDK's `MCPServer`."""
    inner: Server[Any] = getattr(server, "_lowlevel_server", server)
    return inner
