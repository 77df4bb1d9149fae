"""The live screen of a run: its state, and one frame of it for a terminal of any size.

The middle of the frame is the argument. Each row is a client, a thread or task; time goes to the
right; and a colour is an epoch: a plugin was swapped at each change of colour. The ragged edges are
the point of the demonstration, since each query ends on the code that it began with. A wrong query
would turn its row red at that instant.
"""

from __future__ import annotations

from collections import Counter, deque
from contextlib import contextmanager
from itertools import groupby, starmap
from time import monotonic
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from epochal.demo.checks import Phase
from epochal.demo.releases import PLUGINS, is_wasm
from epochal.demo.report import verdict
from epochal.events import ChangeCommitted, ChangeFailed, ChangeFinished

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from rich.console import ConsoleOptions, RenderResult

    from epochal.demo.checks import Lane, Scene
    from epochal.demo.stateful import StatefulDemonstration
    from epochal.events import Event

    _Part = str | tuple[str, str]  # a text, or a text and its style

SAMPLES_PER_S: Final = 10
_HISTORY: Final = 400  # samples: more than the widest terminal has columns
# Neighbours differ clearly, and none is the red or green that means bad or good.
_PALETTE: Final = ("#4aa8ff", "#ffb454", "#c792ea", "#5ad4c8", "#f78fb3", "#d9d36a", "#8f9dff")
_NAME: Final = 10
_AFTER: Final = 11
_FRAME: Final = 9  # two lines of head, what one sees, four sections, checks; one line left free
_WRONG: Final = -1  # stands for an epoch, where a query was wrong
_LINE_EVERY_S: Final = 2.0


class Board:
    """The state of a run, for people; rich renders it as the screen.

    The runtime's events write one part (`on_event`, in the subscription's thread), a sampler the
    other (`sample`, in the event loop, which also renders). What the renderer reads is a number, an
    immutable value that is replaced whole, or a dict that it copies in one step. The active
    generations are read from the runtime itself.

    Attributes:
        published: the number of published changes, of `goal`.
        draining: (plugin, generation) -> the first sample of its drain, in seconds of
            `time.monotonic`.
    """

    def __init__(self, stage: Scene, lanes: Sequence[Lane], goal: int) -> None:
        self.goal: Final = goal
        self.published = 0
        self.draining: dict[tuple[str, int], float] = {}
        self._stage: Final = stage
        self._lanes: Final = lanes
        # Samples of each lane: the epoch of its last query, None before the first, or _WRONG.
        self._epochs: Final = [deque[int | None](maxlen=_HISTORY) for _ in lanes]
        self._wrong: Final = [0 for _ in lanes]  # queries of each lane, at the last sample
        self._operations: Final = deque[int]([0], maxlen=SAMPLES_PER_S + 1)
        self._removed: Final[Counter[str]] = Counter()  # generations of each plugin
        self._versions: Final[dict[int, Mapping[str, str]]] = {0: {}}  # of each epoch
        self._log: Final[dict[int, tuple[_Part, ...]]] = {}  # by number of the change
        self._started: Final = monotonic()

    @property
    def serving(self) -> dict[str, str | None]:
        """Plugin -> its active version and generation, `1.2.0 #3`; None while it is removed."""
        active = self._stage.rt.epoch.generations
        stamps = {plugin: f"{each.version} #{each.number}" for plugin, each in active.items()}
        return {plugin: stamps.get(plugin) for plugin in PLUGINS}

    def total(self, count: str) -> int:
        """The sum of one count over all lanes."""
        return sum(lane.counts[count] for lane in self._lanes)

    def sample(self) -> None:
        """Record the epoch of each lane, the drains, and how many queries have ended."""
        for index, (lane, epochs) in enumerate(zip(self._lanes, self._epochs, strict=True)):
            wrong = lane.wrong
            epochs.append(lane.epoch if wrong == self._wrong[index] else _WRONG)
            self._wrong[index] = wrong
        self._operations.append(self.total("operations"))
        keys = [(generation.plugin, generation.number) for generation in self._stage.rt.draining]
        self.draining = {key: self.draining.get(key, monotonic()) for key in keys}

    def on_event(self, event: Event) -> None:
        """Take an event of the runtime in."""
        at = (f"{monotonic() - self._started:5.1f} s  ", "dim")
        match event:
            case ChangeCommitted():
                epoch = self._stage.rt.epoch  # a later one, if this thread is late
                before = self._versions[max(self._versions)]
                now = {plugin: active.version for plugin, active in epoch.generations.items()}
                self._versions[epoch.number] = now
                self.published += self._stage.phase is Phase.CHANGES
                parts = [(plugin, before.get(plugin), now.get(plugin)) for plugin in event.plugins]
                text = ", ".join(starmap(_describe, parts))
                number = (f"epoch {event.epoch_after:<4}", _color(event.epoch_after))
                self._log[event.change] = (at, number, text, ("  ◐ draining", "yellow"))
            case ChangeFailed():
                text = " ".join(event.error.split())
                self._log[event.change] = (at, ("refused   ", "yellow"), text)
            case ChangeFinished():
                old = [swap.plugin for swap in event.cutover.swaps if swap.old is not None]
                self._removed.update(old)
                ms = event.cutover.phases_ms.get("drain", 0.0)
                drained = (f"  drained in {ms:.0f} ms" if old else "", "dim")
                self._log[event.change] = (*self._log[event.change][:-1], drained)
            case _:
                pass

    def line(self) -> str:
        """The state in one line, for a file."""
        zeros = ", ".join(f"{count} {name}" for name, count in self._zeros().items())
        return (
            f"{monotonic() - self._started:5.1f} s  epoch {self._stage.rt.epoch.number}, "
            f"{self.published}/{self.goal} changes, {len(self.draining)} draining; "
            f"{self.total('operations'):,} operations, {self._rate():.0f}/s; {zeros}"
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """One frame; the log takes the lines that are left."""
        height, width = options.height or console.height, options.max_width
        in_color = console.color_system is not None and not console.no_color
        caption, checks = _caption(in_color=in_color), self._checks()
        folded = sum(len(text.wrap(console, width)) - 1 for text in (caption, checks))
        left = max(2, height - _FRAME - folded - len(self._lanes) - len(PLUGINS))
        yield Group(
            self._head(),
            caption,
            _section("clients"),
            *self._strips(max(0, width - _NAME - _AFTER), in_color=in_color),
            _section("plugins"),
            self._plugins(),
            _section("changes"),
            *(_line(*parts) for parts in list(self._log.copy().values())[-left:]),
            _section("checked by the queries themselves"),
            checks,
        )

    def _rate(self) -> float:
        """Queries per second, over the last second."""
        ended = self._operations
        return (ended[-1] - ended[0]) * SAMPLES_PER_S / max(1, len(ended) - 1)

    def _zeros(self) -> dict[str, int]:
        """The counts that must be zero, as they are now.

        An absence counts once the plugins of all its epochs are known; the report judges all.
        """
        versions = self._versions.copy()
        absences = [absence for lane in self._lanes for absence in lane.absences.copy()]
        known = [absence for absence in absences if versions.keys() >= {*absence.epochs}]
        return {
            "failed": self.total("failed"),
            "mixed": self.total("mixed"),
            "after shutdown": self.total("used_after_shutdown"),
            "missing": sum(not absence.is_rightful(versions) for absence in known),
        }

    def _head(self) -> Table:
        table = Table.grid(expand=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        state = f"  {self._stage.phase.value}  {monotonic() - self._started:.1f} s"
        table.add_row(_line(("epochal demo", "bold"), state), f"[bold]{self._rate():.0f} queries/s")
        number = self._stage.rt.epoch.number
        changes = f"changes {self.published}/{self.goal}"
        epoch = _line("epoch ", (f"{number:<5}", f"bold {_color(number)}"), changes)
        table.add_row(epoch, f"{len(self.draining) or 'none'} draining")
        return table

    def _strips(self, room: int, *, in_color: bool) -> Iterable[Text]:
        for lane, epochs in zip(self._lanes, self._epochs, strict=True):
            samples = list(epochs)[-room:] if room else []
            line = Text(f"{lane.name:<{_NAME}}", no_wrap=True, overflow="crop")
            for epoch, run in groupby(samples):
                line.append(_cell(epoch, in_color=in_color) * len(list(run)), _color(epoch))
            line.append(" " * (room - len(samples)))
            if (now := lane.epoch) is not None:
                line.append(f" epoch {now}", _color(now))
            yield line

    def _plugins(self) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0))
        for width in (_NAME - 2, 13, 9, None):
            table.add_column(min_width=width, no_wrap=True, overflow="ellipsis")
        waiting = sorted(self.draining.items())
        for plugin, serves in self.serving.items():
            ages = [f"#{n} {monotonic() - since:.1f} s" for (p, n), since in waiting if p == plugin]
            table.add_row(
                plugin,
                Text("○ removed", "dim") if serves is None else Text(f"● {serves}", "green"),
                Text(f"{self._removed[plugin]} removed", "dim"),
                Text(f"◐ draining {', '.join(ages)}" if ages else "", "yellow"),
            )
        return table

    def _checks(self) -> Text:
        zeros = self._zeros()
        wrong = zeros["failed"] + zeros["mixed"] + zeros["missing"]
        line = verdict(wrong, self.total("operations"), "queries")
        for name, count in zeros.items():
            line.append(" · ").append(f"{count} {name}", "green" if count == 0 else "bold red")
        return line


def _caption(*, in_color: bool) -> Text:
    """What one sees; folded where the terminal is narrow."""
    text = (
        "each row is a client; a colour is a version; nothing may turn red"
        if in_color
        else "each row is a client; a digit is a version; no X may appear"
    )
    return Text(text, style="italic")


def _cell(epoch: int | None, *, in_color: bool) -> str:
    """One sample of a client: a digit of the epoch's number where there are no colours."""
    if epoch is None:
        return " "
    if in_color:
        return "█"
    return "X" if epoch == _WRONG else str(epoch % 10)


def _section(title: str) -> Rule:
    return Rule(Text(title, style="dim"), align="left", style="dim", characters="─")


def _line(*parts: _Part) -> Text:
    """A line that is cut where the terminal ends."""
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _color(epoch: int | None) -> str:
    """The colour of an epoch; its neighbours have others."""
    if epoch == _WRONG:
        return "bold red"
    return "" if epoch is None else _PALETTE[epoch % len(_PALETTE)]


def _describe(plugin: str, before: str | None, now: str | None) -> str:
    if before == now:
        return f"{plugin} {now} re-linked"
    language = " in WebAssembly" if plugin == "geo" and is_wasm(now or "") else ""
    return f"{plugin} {before or 'none'} → {now or 'none'}{language}"


@contextmanager
def follow(run: Board | StatefulDemonstration, console: Console) -> Generator[Callable[[], None]]:
    """Show a run for as long as the block runs: live in a terminal, else a line now and then.

    Yields:
        A function to call after each sample, in the thread that takes the samples.
    """
    due = 0.0

    def print_line() -> None:
        nonlocal due
        if monotonic() >= due:
            due = monotonic() + _LINE_EVERY_S
            console.print(run.line(), soft_wrap=True)

    if console.is_terminal:
        with Live(run, console=console, auto_refresh=False) as live:
            yield live.refresh
    else:
        yield print_line


@contextmanager
def reading(console: Console, title: str) -> Generator[Callable[[float], None]]:
    """Show how far something has been read: a bar in a terminal, else one line.

    Yields:
        A function to call with the part that is read, from 0 to 1.
    """
    if not console.is_terminal:
        console.print(f"{title} ...")
        yield lambda part: None
        return
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), console=console
    ) as progress:
        task = progress.add_task(title, total=1.0)
        yield lambda part: progress.update(task, completed=part)
