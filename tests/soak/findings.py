"""The counts of a soak, and which of them must be zero."""

from collections import Counter
from dataclasses import asdict, dataclass, field

MUST_BE_ZERO = ("failed", "mixed", "stale", "missing", "used_after_shutdown")


class Tally:
    """One worker's counts, written by that worker alone; read after it has ended.

    Attributes:
        operations: the number of operations that ended.
        wrong: how often each of `MUST_BE_ZERO` was seen.
        examples: a description of the first few of those.
    """

    def __init__(self):
        self.operations = 0
        self.wrong = Counter()
        self.examples = []

    def note(self, name, example):
        """Count a violation; `name` is one of `MUST_BE_ZERO`, `example` its evidence."""
        self.wrong[name] += 1
        if len(self.examples) < 3:
            self.examples.append(f"{name}: {example}")


@dataclass
class Findings:
    """The result of one soak.

    Attributes:
        mode: threads, asyncio or mixed.
        seed: the seed of every random choice.
        seconds: how long it ran.
        operations: the number of operations that ended.
        reloads: generations that were replaced by another, or removed.
        refused: changes that failed on purpose, and were rolled back.
        failed: operations that raised.
        mixed: operations that saw two versions of a pair that is only changed together.
        stale: operations that saw a version older than the one published before they began.
        missing: operations that did not find a name which every epoch has.
        used_after_shutdown: calls of a generation after its shutdown.
        shutdowns: generations that were not shut down exactly once.
        undrained: generations that were still in use at the end.
        leaked: generations that did not return their memory.
        rss_growth_mib: the growth of the process's resident memory from warm-up to end, in MiB.
        examples: descriptions of the first violations.
    """

    mode: str
    seed: int
    seconds: float = 0.0
    operations: int = 0
    reloads: int = 0
    refused: int = 0
    failed: int = 0
    mixed: int = 0
    stale: int = 0
    missing: int = 0
    used_after_shutdown: int = 0
    shutdowns: int = 0
    undrained: int = 0
    leaked: int = 0
    rss_growth_mib: float = 0.0
    examples: list = field(default_factory=list)

    def add(self, tally):
        """Add a worker's counts."""
        self.operations += tally.operations
        for name, count in tally.wrong.items():
            setattr(self, name, getattr(self, name) + count)
        self.examples += tally.examples

    @property
    def wrong(self):
        """The counts that must be zero and are not."""
        names = (*MUST_BE_ZERO, "shutdowns", "undrained", "leaked")
        return {name: getattr(self, name) for name in names if getattr(self, name)}

    def as_dict(self):
        """The fields as a dictionary, ready for JSON."""
        return asdict(self)

    def __str__(self):
        counts = ", ".join(f"{name} {getattr(self, name)}" for name in MUST_BE_ZERO)
        rest = f"leaked {self.leaked}, undrained {self.undrained}, shutdowns {self.shutdowns}"
        lines = [
            f"{self.mode} (seed {self.seed}): {self.operations:,} operations, "
            f"{self.reloads:,} reloads, {self.refused:,} refused changes, {self.seconds:.0f} s, "
            f"{self.rss_growth_mib:+.1f} MiB",
            f"  {counts}, {rest}",
            *(f"  {example}" for example in self.examples[:10]),
        ]
        return "\n".join(lines)
