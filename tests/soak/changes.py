"""The changes of a soak: plugins alone and together, guests, versions that fail, dry runs."""

from tests.soak.world import artifact

from epochal.errors import InitError, LinkError

PLUGINS = ("left", "right", "base", "top")


class Changer:
    """Draws changes, and counts what came of them. One thread or task owns it.

    Attributes:
        floor: see `Worker.floor`.
        reloads: generations replaced or removed.
        refused: changes that failed on purpose.
        faults: what went wrong, in words.
    """

    def __init__(self, rt, floor, rng):
        self.rt = rt
        self.floor = floor
        self.rng = rng
        self.reloads = 0
        self.refused = 0
        self.faults = []
        self._stamp = 0
        self._has_guest = False

    def first(self, change):
        """Load them all."""
        for plugin in PLUGINS:
            change.load(artifact(plugin, self._stamp))

    def draw(self):
        """The next change: what records it, what it must raise, whether it is a dry run."""
        self._stamp += 1
        kind = self.rng.choices(
            ("pair", "base", "top", "guest", "broken", "dry"), (8, 5, 3, 2, 2, 1)
        )
        return getattr(self, f"_{kind[0]}")()

    def limits(self, dry_run):
        """Mostly patient; now and then it leaves the drain to the background."""
        return {"drain_timeout": self.rng.choice((0.0, 0.05, 5.0)), "dry_run": dry_run}

    def done(self, cutover):
        """A change was answered by its report."""
        if cutover.published:
            self.reloads += sum(swap.old is not None for swap in cutover.swaps)
            if "left" in cutover.plugins:
                # Only now is it certain that whoever begins sees it.
                self.floor[0] = self._stamp
        self.faults += [f"leak: {line}" for line in cutover.leaks]
        self.faults += [f"shutdown: {line}" for line in cutover.failures]

    def answered(self, error, expected):
        """A change was answered by an error."""
        if isinstance(error, expected):
            self.refused += 1
        else:
            self.faults.append(f"change: {error!r}")

    def _pair(self):
        def record(change):
            change.reload("left", artifact("left", self._stamp))
            change.reload("right", artifact("right", self._stamp))

        return record, (), False

    def _base(self):
        return lambda change: change.reload("base", artifact("base", self._stamp)), (), False

    def _top(self):
        return lambda change: change.reload("top", artifact("top", self._stamp)), (), False

    def _guest(self):
        self._has_guest = not self._has_guest
        if self._has_guest:
            return lambda change: change.load(artifact("guest", self._stamp)), (), False
        return lambda change: change.remove("guest"), (), False

    def _broken(self):
        plugin, fault = self.rng.choice(PLUGINS), self.rng.choice(("link", "init"))
        broken = artifact(plugin, self._stamp, fault)
        return lambda change: change.reload(plugin, broken), (LinkError, InitError), False

    def _dry(self):
        return self._pair()[0], (), True


def change_until(changer, stop):
    """One thread's changes, until `stop` is set."""
    while not stop.is_set():
        record, expected, dry_run = changer.draw()
        change = changer.rt.change(**changer.limits(dry_run))
        record(change)
        try:
            changer.done(change.run())
        except Exception as error:  # noqa: BLE001  it is looked at, and the soak goes on
            changer.answered(error, expected)


async def achange_until(changer, stop):
    """One task's changes, until `stop` is set."""
    while not stop.is_set():
        record, expected, dry_run = changer.draw()
        try:
            async with changer.rt.achange(**changer.limits(dry_run)) as change:
                record(change)
            changer.done(change.cutover)
        except Exception as error:  # noqa: BLE001  it is looked at, and the soak goes on
            changer.answered(error, expected)
