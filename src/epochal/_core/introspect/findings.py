"""Records of what keeps a generation in use, or in memory; public in `epochal.report`.

They hold nothing of any plugin alive: names, places and paths are text. `str()` of one is the line
that logs, errors and reports print.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

FROZEN: Final = (
    "what gc.freeze() set aside ({} objects) cannot be looked at, nor collected: a holder among it "
    "is not named; gc.unfreeze() shows it"
)


@dataclass(frozen=True, slots=True)
class Holder:
    """Something that holds a generation in use.

    Attributes:
        kind: `operation` (labelled); `thread`, `task` or `greenlet`, inside the generation's code;
            `callback` or `executor`, which is about to call it; `lease`, taken by hand if it has a
            name; `epoch`; `function`, an export that is kept; `plugin`, another generation that
            requires this one; `object`, which a kind opened; `generator`, `coroutine` or
            `asynchronous generator`, suspended in an export; `frame`, of a kept exception; `more`,
            with the number of unlisted holders as its name; `frozen`, with the
            number of objects that cannot be looked at, since `gc.freeze` set them aside.
        name: its label, name or qualified name; None if it has none.
        place: file, line and function (`geo.py:41 in poll`) of code that runs or is suspended; for
            a lease or function, the local variable of a running call that it is in.
        path: how it is reached: `host.HANDLERS[0].callback`.
        since: when it began, in seconds since the Unix epoch; None if that is not known.
        age_s: seconds from then to the look; None if that is not known.
    """

    kind: str
    name: str | None = None
    place: str = ""
    path: str = ""
    since: float | None = None
    age_s: float | None = None

    def __str__(self) -> str:
        text = self._text()
        if self.age_s is not None:
            text += f" ({self.age_s:.1f} s)"
        return f"{text} in {self.path}" if self.path else text

    def _text(self) -> str:
        match self.kind:
            case "lease" | "function":
                text = "its lease" if self.name is None else f"lease {self.name!r}"
                if self.kind == "function":
                    text = f"captured function {self.name!r}"
                return f"{text}, {self.place}" if self.place else text
            case "epoch":
                return str(self.name)
            case "plugin":
                return f"{self.name}, which requires it"
            case "object":
                return "an object that it opened"
            case "frame":
                return f"a kept exception's frame at {self.place}"
            case "callback" | "executor":
                return f"a call of {self.place} that waits in {self.name}"
            case "more":
                return f"and {self.name} more"
            case "frozen":
                return FROZEN.format(self.name)
        word = "at" if self.kind in ("thread", "task") else "suspended at"
        return f"{self.kind} {self.name!r}" + (f" {word} {self.place}" if self.place else "")


@dataclass(frozen=True, slots=True)
class Straggler(Holder):
    """A thread or task inside a generation's code that holds no lease of it."""


_LEAKED: Final = {
    "module": "module {}",
    "namespace": "the namespace of module {}",
    "function": "function {}",
    "class": "class {}",
    "instance": "an instance of {}",
}


@dataclass(frozen=True, slots=True)
class Leak:
    """Something that keeps a removed generation in memory.

    Attributes:
        kind: of the generation's object that is kept: `module`, `namespace`, `function`, `class`
            or `instance`; or `thread` or `task`, which runs its code; `remark`, whose name is a
            sentence about the other leaks; `more`, whose name is the number of those not listed.
        name: the object's name, or the name of its class.
        place: file, line and function of code that runs.
        path: what refers to it: `host.HANDLERS[0].callback`, or `context variable 'x'`.
        since: None; when a leak began is not known.
        remedy: what to do about it, for a library that is known to keep things; else empty.
    """

    kind: str
    name: str
    place: str = ""
    path: str = ""
    since: float | None = None
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self._text()}: {self.remedy}" if self.remedy else self._text()

    def _text(self) -> str:
        if self.kind in _LEAKED:
            is_value = self.path.startswith("context variable ")
            verb = "is the value of" if is_value else "is referred to by"
            return f"{_LEAKED[self.kind].format(self.name)} {verb} {self.path}"
        if self.kind == "remark":
            return self.name
        return str(Holder(self.kind, self.name, self.place))

    def renamed(self, private: str, public: str) -> Leak:
        """The same with a plugin's public name in place of its private module name."""
        return replace(
            self,
            name=self.name.replace(private, public),
            place=self.place.replace(private, public),
            path=self.path.replace(private, public),
        )
