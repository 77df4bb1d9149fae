"""The second act: what keeps something is reloaded under load, and nothing is lost.

A service, a stream, an index and a job run as plugins; each is used all the time and reloaded again
and again, also with versions that cannot take over. What each did is counted outside of it, and
compared with what it kept.
"""
