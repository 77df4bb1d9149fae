"""A conformance suite for hot reload: the effects of a code swap on running work.

Every system that swaps code faces the same questions, and few document their answers. Here each
question is a *scenario*, a plain function against a small interface, and each way to swap code is a
*system* behind that interface, used as its own documentation describes. A scenario counts the
observations of its own operations, and never relies on a system's own reports.

`python -m conformance` runs every scenario with every system, each pair in its own process, and
prints the matrix; `--page` writes it to `docs/conformance.md`.
"""
