"""Primitives that know nothing of plugins: locks, threads, time limits, durable files."""
