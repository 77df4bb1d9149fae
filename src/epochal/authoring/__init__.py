"""Plugins that an agent writes, published with a person's or a policy's approval.

::

    authoring = Authoring(rt, approve=ApprovalFolder("proposals"))
    proposal = authoring.propose(source, test, reason="asked for twice today", author="the agent")
    print(proposal.diff)
    authoring.publish(proposal.handle, author="the agent")

A proposal is read, tried in a process of its own (a stage beside what serves, then its own test)
and shown as a difference. It is published only if what was shown has been approved, and only over
the epoch that it was tried beside. `epochal.mcp.attach(server, rt, authoring=authoring)` grants it
to the clients of a server, `epochal mcp --allow-authoring` to those of the command.

**Python is not sandboxed.** The trial runs the proposed code, with the rights of this process's
user, before anybody has approved it: its process keeps accidents out of the server, not an
attacker. WebAssembly plugins are sandboxed; no agent can propose one yet.

=============  ==================================================================================
`workbench`    proposals: made, published, taken back; who may replace what
`trial`        runs a proposal in a process of its own, within limits
`approvals`    a folder in which proposals lie, and a person approves them
`source_diff`  the difference between two versions of a plugin
=============  ==================================================================================
"""

from epochal.authoring.approvals import ApprovalFolder
from epochal.authoring.workbench import Authoring, Proposal

__all__ = ["ApprovalFolder", "Authoring", "Proposal"]
