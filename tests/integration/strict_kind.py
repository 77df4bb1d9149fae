"""A host's own kind with a rule: the number of parameters may not change."""

import inspect

from epochal import Kind


class Strict(Kind):
    def compare(self, old, new):
        was, is_now = (len(inspect.signature(e.target).parameters) for e in (old, new))
        if was != is_now:
            raise ValueError(f"{was} parameters became {is_now}")


strict = Strict("strict")
