"""A conformance suite for hot reload: what happens to running work when code is swapped under it.

Every system that swaps code answers the same questions, and mostly answers them in private. Here
each question is a *scenario*, a plain function against a small interface, and each way to swap code
is a *system* behind that interface, used as its own documentation says. A scenario counts what its
operations themselves saw: no answer rests on what a system says of itself.

`python -m conformance` runs every scenario with every system, each pair in a process of its own,
and prints the matrix; `--page` writes it to `docs/conformance.md`.
"""
