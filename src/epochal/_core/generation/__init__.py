"""One loaded instance of a plugin's code, and an epoch of such instances.

`lifecycle` has the states, `generation` the record, `kind` and `exports` what it offers,
`side_effects` and `reclaim` what it takes with it when it goes.
"""
