"""Questions to the interpreter: frames, referrers, the collector, its caches.

Nothing here knows of plugins, generations or changes.
"""
