"""A plugin before it is loaded: its bytes, its manifest, what it requires.

No plugin code runs here.
"""
