"""Loaders: how a plugin's bytes become running code (`python_namespace` is where to begin)."""
