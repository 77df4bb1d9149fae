"""A host's own kinds with rules: for changes, for removals and for dependencies of exports."""

import inspect

from epochal import Kind


class Strict(Kind):
    def compare(self, old, new):
        before, after = (len(inspect.signature(e.target).parameters) for e in (old, new))
        if before != after:
            raise ValueError(f"{before} parameters became {after}")


strict = Strict("strict")


class Permanent(Kind):
    def check_removed(self, old):
        raise ValueError(f"{old.name} is permanent")


permanent = Permanent("permanent")


class Wrapper(Kind):
    def dependencies(self, export):
        return [(permanent, inspect.unwrap(export.target))]


wrapper = Wrapper("wrapper")
