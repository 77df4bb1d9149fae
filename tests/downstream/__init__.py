"""Programs that are built on pluggy, and the suites of pluggy and pytest, over a runtime's manager.

`make test-long` runs them: each in its own folder of installed packages, which it prepares once.
"""
