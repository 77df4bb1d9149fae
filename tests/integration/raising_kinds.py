"""Kinds that raise, or answer, anything at any of their rules, by seed.

    python -m tests.integration.raising_kinds 10000 --seed 1

Each run reloads a plugin, changes what it exports, or loads a second one, while one rule of its
kind raises a generated exception or returns a generated answer. A rule that runs while a change is
staged refuses the change with an error that names plugin, kind and export; one that runs after it
was published is reported. The old version serves, or the new one does; the next change works.
"""

from __future__ import annotations

import argparse
import builtins
import json
import random
import sys
import tempfile
import types
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.conftest import PluginFolder

from epochal import Kind, Runtime
from epochal.errors import EpochalError

RULES = ("options", "validate", "dependencies", "compare", "check_removed", "validate_together")
INSTANCES = ("open", "wrap", "hand_over", "run", "commit", "roll_back", "close")
AFTER = ("commit", "close")
"""What runs once the epoch is published: it can no longer refuse the change."""

BUILT_IN = [
    error
    for error in vars(builtins).values()
    if isinstance(error, type)
    and issubclass(error, BaseException)
    and not issubclass(error, (BaseExceptionGroup, UnicodeError))
]


class MuteError(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__


class NumberError(Exception):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value]


class ExitingError(BaseException):
    def __str__(self) -> str:
        raise SystemExit

    __repr__ = __str__


class NotelessError(Exception):
    def add_note(self, note: str, /) -> None:
        raise RuntimeError(note)

    @property
    def __notes__(self) -> list[str]:
        raise RuntimeError("notes")


class ClosedError(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)

    def __getattribute__(self, name: str) -> Any:
        raise AttributeError(name)


class LongError(ValueError):
    def __str__(self) -> str:
        return "long\n" * 50_000


HOSTILE = [MuteError, NumberError, ExitingError, NotelessError, ClosedError, LongError]


def made_error(draw: random.Random, depth: int = 0) -> BaseException:
    """An exception: a built-in one, a hostile one, a group, or one with a cause."""
    kind = draw.randrange(10 if depth < 3 else 6)
    if kind < 6:
        error = draw.choice(draw.choice([BUILT_IN, HOSTILE]))
        words: Any = draw.choice(["no", "", "{}%s\x00\ud800", 7, None, MuteError()])
        arguments = draw.choice([(), (words,), (words, words), (words, (words,) * 4)])
        with suppress(Exception):  # `SyntaxError` and some others look at theirs
            return error(*arguments)
        return error()
    if kind < 8:
        inner = [made_error(draw, depth + 1) for _ in range(draw.randint(1, 3))]
        return BaseExceptionGroup("several", inner)
    error = made_error(draw, depth + 1)
    cause = draw.choice([error, made_error(draw, depth + 1)])
    draw.choice([BaseException.__cause__, BaseException.__context__]).__set__(error, cause)
    return error


class Broken:
    """An object whose every use raises."""

    def __init__(self, draw: random.Random) -> None:
        self.__dict__["error"] = made_error(draw)

    def _fail(self, *_: object) -> Any:
        raise self.__dict__["error"]

    __iter__ = __len__ = __bool__ = __eq__ = __hash__ = __str__ = __repr__ = _fail
    __call__ = __getattr__ = __getitem__ = keys = _fail


def made_answer(draw: random.Random) -> Any:
    """What a rule is not meant to return."""
    answers = [None, 7, "x", b"x", (), [1], ["ab"], [(1, 2)], [(1, 2, 3)], [None], {"a": 1}]
    answers += [iter([]), float("nan"), type, Broken(draw), [Broken(draw)], [(Broken(draw),) * 2]]
    answers += [(raise_ for raise_ in [made_error(draw)]), {1: 2}, object(), NotImplemented]
    return draw.choice(answers)


class Failing(Kind[Any]):
    """Raises, or answers, in one of its rules."""

    __slots__ = ("answer", "error", "rule")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.rule: str | None = None
        self.error: BaseException | None = None
        self.answer: Any = None

    def _meet(self, rule: str, usual: Any = None) -> Any:
        if self.rule != rule:
            return usual
        if self.error is not None:
            raise self.error
        return self.answer

    def options(self, **options: Any) -> Any:
        return self._meet("options", options)

    def validate(self, export: Any) -> Any:
        return self._meet("validate")

    def compare(self, old: Any, new: Any) -> Any:
        return self._meet("compare")

    def check_removed(self, old: Any) -> Any:
        return self._meet("check_removed")

    def dependencies(self, export: Any) -> Any:
        return self._meet("dependencies", ())

    def validate_together(self, exports: Any) -> Any:
        return self._meet("validate_together")


class Opening(Failing):
    """A kind whose exports are opened, wrapped and handed over."""

    __slots__ = ()

    def open(self, export: Any) -> Any:
        return self._meet("open", Instance())

    def wrap(self, instance: Any, lease: Any) -> Any:
        return self._meet("wrap", Kind.wrap(self, instance, lease))

    def close(self, instance: Any) -> Any:
        return self._meet("close")

    def hand_over(self, old: Any, new: Any) -> Any:
        return self._meet("hand_over", Moving(self))


class Instance:
    def call(self) -> int:
        return 1


class Moving:
    """A transfer of state that meets its kind's fault."""

    gate = None

    def __init__(self, kind: Failing) -> None:
        self._kind = kind

    def run(self) -> Any:
        return self._kind._meet("run")

    def commit(self, offered: Any) -> Any:
        return self._kind._meet("commit")

    def roll_back(self) -> Any:
        return self._kind._meet("roll_back")


CODE = "from kindpkg import {kind}\n@{kind}(name={name!r}, size=1)\ndef f(): return 1\n{more}"


class World:
    """A runtime with one plugin of each kind, whose changes meet faults."""

    def __init__(self, folder: Path) -> None:
        self.host = types.ModuleType("kindpkg")
        self.host.plain = Failing("plain.failing")  # type: ignore[attr-defined]
        self.host.opened = Opening("opened.failing")  # type: ignore[attr-defined]
        sys.modules["kindpkg"] = self.host
        self.plugins = PluginFolder(folder)
        self.rt = Runtime(drain_timeout=20, phase_timeout=20)
        for kind in ("plain", "opened"):
            self.rt.load(self.write(kind))
        borrower = "from tests.conftest import tool\n@tool\ndef g(): return 2\n"
        self.borrower = self.plugins.write("user", borrower, requires=["geo_opened"])
        self.rt.load(self.borrower)

    def write(self, kind: str, name: str = "f", *, fails: bool = False) -> Path:
        more = "def init(ctx): 1 / 0\n" if fails else ""
        return self.plugins.write(f"geo_{kind}", CODE.format(kind=kind, name=name, more=more))

    def run(self, draw: random.Random) -> str:
        """One change that meets a fault; returns how it ended.

        Raises:
            AssertionError: a promise was broken.
        """
        chosen = draw.choice(["plain", "opened"])
        kind: Failing = getattr(self.host, chosen)
        rule = draw.choice(RULES if chosen == "plain" else RULES + INSTANCES)
        plugin = f"geo_{chosen}"
        path = self.write(
            chosen, "g" if rule == "check_removed" else "f", fails=rule == "roll_back"
        )
        before = self.rt.epoch.number
        kind.rule, kind.error, kind.answer = rule, None, None
        if answers := draw.random() < 0.3:
            kind.answer = made_answer(draw)
        else:
            kind.error = made_error(draw)
        try:
            self.rt.reload(plugin, path)
            ended = "published"
        except EpochalError as error:
            ended = "refused"
            words = str(error)
            if rule != "roll_back":
                assert plugin in words or rule == "validate_together", words
                assert kind.name in words or f"{plugin}.f" in words, words
            del error
        kind.rule = kind.error = kind.answer = None
        if rule in AFTER:
            assert ended == "published", rule
        elif not answers:
            assert ended == "refused", rule
        assert (self.rt.epoch.number == before) == (ended == "refused")
        self.check(chosen, plugin, kind)
        return f"{rule} {'answered' if answers else 'raised'}: {ended}"

    def borrow(self, kind: Failing, error: BaseException) -> str:
        """Load the plugin that gets an export of another's, which cannot be wrapped for it."""
        before = self.rt.epoch.number
        kind.rule, kind.error = "wrap", error
        with suppress(EpochalError):
            self.rt.reload("user", self.borrower)
            raise AssertionError("published")
        kind.rule = kind.error = None
        assert self.rt.epoch.number == before
        return "wrap for another: refused"

    def check(self, chosen: str, plugin: str, kind: Failing) -> None:
        """The next change works."""
        cut = self.rt.reload(plugin, self.write(chosen))
        assert cut.drained, cut
        assert cut.published
        export = self.rt.epoch[kind][f"{plugin}.f"]
        assert (export() if chosen == "plain" else export.call()) == 1

    def close(self) -> None:
        self.rt.close()
        del sys.modules["kindpkg"]


def run_all(folder: Path, runs: int, seed: int) -> Counter[str]:
    """Make so many runs; returns how they ended."""
    world, counts = World(folder), Counter[str]()
    try:
        for number in range(runs):
            try:
                counts[world.run(random.Random(f"{seed} {number}"))] += 1
            except BaseException as error:
                error.add_note(f"run {number} of seed {seed}")
                raise
    finally:
        world.close()
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(prog="raising_kinds", description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=int, nargs="?", default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = run_all(Path(folder), options.runs, options.seed)
    print(json.dumps(dict(sorted(counts.items()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
