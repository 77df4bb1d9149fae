"""Telling what happened: a runtime's events, turned into log lines."""

from epochal.observe.logs import log_events

__all__ = ["log_events"]
