"""The breakages: which guarantee, where, what is changed, and the test that must fail then.

A breakage's number is its place in all of them: a new one comes last in its area, and the table in
`docs/guarantees.md` is printed anew.
"""

from tests.mutants.catalogue import (
    core,
    data_types,
    hooks,
    indexes,
    jobs,
    server,
    services,
    storage,
    streams,
)

AREAS = (core, services, jobs, streams, indexes, storage, data_types, server, hooks)
MUTANTS = tuple(mutant for area in AREAS for mutant in area.MUTANTS)
