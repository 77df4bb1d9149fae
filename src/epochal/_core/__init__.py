"""The machinery, sealed: hosts use what `epochal` and its public modules offer of it."""
