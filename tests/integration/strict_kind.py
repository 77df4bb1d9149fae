"""A host's own kinds with rules: what may change, what may go, what must be there."""

import inspect

from epochal import Kind


class Strict(Kind):
    def compare(self, old, new):
        was, is_now = (len(inspect.signature(e.target).parameters) for e in (old, new))
        if was != is_now:
            raise ValueError(f"{was} parameters became {is_now}")


strict = Strict("strict")


class GatedState(Kind):
    def check_removed(self, old):
        raise ValueError(f"{old.name} is kept for ever")


kept = GatedState("kept")


class Told(Kind):
    def dependencies(self, export):
        return [(kept, inspect.unwrap(export.target))]


told = Told("told")
