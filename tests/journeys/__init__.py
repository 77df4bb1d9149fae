"""The first hour of nine people who know nothing of the project, as scripts.

| who | what runs |
|---|---|
| the first minute | test_first_minute.py; tests/integration/test_demo.py |
| FastAPI developer | docs/asgi.md, docs/guides/port/uvicorn-reload.md (tests/docs) |
| agent builder | docs/guides/agents.md, docs/kinds.md (tests/docs) |
| analyst | docs/guides/analysts.md (tests/docs) |
| operator | test_operator.py, in `make test-long`; tests/docs/test_deployment.py |
| pluggy user | docs/hooks.md (tests/docs) |
| plugin author | the tutorial and the guides (tests/docs), and the 68 mistakes of test_author.py |
| docs reader | tests/docs/test_pages.py: links, errors by code; `make docs` |
| contributor | `make test` from nothing |
"""
