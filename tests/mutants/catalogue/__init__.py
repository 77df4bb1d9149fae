"""The breakages: which guarantee, where, what is changed, and the test that must fail then.

A breakage's id is its name for good: `E4.shutdown-runs-once` breaks promise E4. After a new one or
another name, `python -m tests.mutants --table` writes the table in `docs/attacks.md`.
"""

from tests.mutants.catalogue import (
    core,
    data_types,
    hooks,
    indexes,
    jobs,
    operations,
    pairs,
    process,
    server,
    services,
    sharing,
    sources,
    stages,
    stopping,
    storage,
    streams,
    tools,
    wasm,
)

AREAS = (
    core,
    operations,
    services,
    jobs,
    streams,
    indexes,
    storage,
    data_types,
    server,
    hooks,
    sources,
    process,
    pairs,
    stopping,
    stages,
    wasm,
    tools,
    sharing,
)
MUTANTS = tuple(mutant for area in AREAS for mutant in area.MUTANTS)
