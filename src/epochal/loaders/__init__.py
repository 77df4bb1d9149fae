"""Loaders: how a plugin's bytes become running code."""
