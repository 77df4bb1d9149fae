"""Tools of plugins for MCP clients, which change while a session goes on.

::

    server = Server("shop")              # of the official SDK, low-level, or its `MCPServer`
    attachment = attach(server, rt)      # the plugins' tools, beside the server's own

Each call runs in one epoch, which its result names in `_meta`. Clients are notified once for each
change that they can see, after it is published, and not of a change of bodies alone. `epochal mcp`
is the command; `epochal serve` has the same at `/mcp`.

=============  ==================================================================================
`attachment`   puts the handlers into a server
`catalogue`    an epoch's tools, resources and prompts as plain data, once for each epoch
`answers`      calls a tool, reads a resource, fills in a prompt
`superseded`   what clients saw before a change, and for how long it still answers
`announcer`    the sessions, and their notifications
`authoring_tools`  the tools with which an agent proposes plugins (`epochal.authoring`)
`call_reports` progress and logs, from a plugin's thread to the client
`stdio_service`, `http_service`   a server of its own, over either transport
=============  ==================================================================================

Needs the extra `mcp`. An asyncio event loop is expected.
"""

from epochal.mcp.attachment import Attachment, attach
from epochal.mcp.superseded import Stale

__all__ = ["Attachment", "Stale", "attach"]
