"""The changes of a soak: plugins alone and together, guests, versions that fail, dry runs."""

from tests.soak.world import artifact

from epochal.errors import InitError, LinkError

PLUGINS = ("left", "right", "base", "top")


class Changer:
    """Draws changes, and counts their results. One thread or task owns it.

    Attributes:
        floor: see `Worker.floor`.
        reloads: generations replaced or removed.
        refused: changes that failed on purpose.
        faults: descriptions of leaks, failed shutdowns and unexpected errors.
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

    def load_all(self, change):
        """Record the load of every plugin but the guest on `change`."""
        for plugin in PLUGINS:
            change.load(artifact(plugin, self._stamp))

    def draw(self):
        """The next change.

        Returns:
            A function that records its requests, the errors that it must raise, and whether it is
            a dry run.
        """
        self._stamp += 1
        kind = self.rng.choices(
            ("pair", "base", "top", "guest", "broken", "dry"), (8, 5, 3, 2, 2, 1)
        )
        return getattr(self, f"_{kind[0]}")()

    def limits(self, dry_run):
        """The change's options; with a drain limit of zero the drain goes on in the background."""
        return {"drain_timeout": self.rng.choice((0.0, 0.05, 5.0)), "dry_run": dry_run}

    def done(self, cutover):
        """Count a committed change or a dry run by its report."""
        if cutover.published:
            self.reloads += sum(swap.old is not None for swap in cutover.swaps)
            if "left" in cutover.plugins:
                # Only after the change returned must every new operation see its pair.
                self.floor[0] = self._stamp
        self.faults += [f"leak: {line}" for line in cutover.leaks]
        self.faults += [f"shutdown: {line}" for line in cutover.failures]

    def failed(self, error, expected):
        """Count a change that raised; an error that is not `expected` is a fault."""
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
    """Run one thread's changes until `stop` is set."""
    while not stop.is_set():
        record, expected, dry_run = changer.draw()
        change = changer.rt.change(**changer.limits(dry_run))
        record(change)
        try:
            changer.done(change.run())
        except Exception as error:  # noqa: BLE001  counted by its class, and the soak goes on
            changer.failed(error, expected)


async def achange_until(changer, stop):
    """Run one task's changes until `stop` is set."""
    while not stop.is_set():
        record, expected, dry_run = changer.draw()
        try:
            async with changer.rt.achange(**changer.limits(dry_run)) as change:
                record(change)
            changer.done(change.cutover)
        except Exception as error:  # noqa: BLE001  counted by its class, and the soak goes on
            changer.failed(error, expected)
