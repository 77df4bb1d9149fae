"""A configuration is checked against the class that the manifest names, before `init`."""

import pytest

from epochal.artifact import Artifact
from epochal.errors import ConfigError, ConfigKeyError, LinkError, ManifestError

HEAD = '# /// plugin\n# id = "geo"\n# version = "1.0"\n# config = "Settings"\n# ///\n'
CODE = """
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal

class Unit(Enum):
    KM = "km"
    MILE = "mile"

@dataclass
class Db:
    host: str
    port: int = 5432

@dataclass
class Settings:
    api_key: str
    db: Db
    unit: Unit = Unit.KM
    mode: Literal["fast", "exact"] = "fast"
    ratio: float = 1.0
    limits: dict[str, int] = field(default_factory=dict)
    names: list[str] | None = None
    path: Path | None = None
    pair: tuple[int, str] = (0, "")

    def __post_init__(self):
        if self.ratio < 0:
            raise ValueError("ratio is negative")

def init(ctx):
    global settings
    settings = ctx.settings
"""
GOOD = {"api_key": "k", "db": {"host": "h"}}
ONE_MODEL = """
from pydantic import BaseModel
class Settings(BaseModel):
    api_key: str
    port: int = 80
def init(ctx):
    global settings
    settings = ctx.settings
"""


def geo(code=CODE):
    return Artifact("geo", {"geo.py": (HEAD + code).encode()})


def settings(rt):
    return rt.generation("geo").module.settings


def test_settings_are_an_instance_with_its_defaults(rt):
    config = {"unit": "mile", "ratio": 2, "names": ["a"], "path": "/x", "pair": [1, "b"]}
    rt.load(geo(), config=GOOD | config)
    made = settings(rt)
    assert (made.api_key, made.db.host, made.db.port, made.mode) == ("k", "h", 5432, "fast")
    assert (made.unit.name, made.ratio, made.names, made.pair) == ("MILE", 2.0, ["a"], (1, "b"))
    assert str(made.path) == "/x"


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({}, "api_key is missing; expected str"),
        ({"api_key": 3}, "api_key is 3; expected str"),
        ({"db": {"host": "h", "port": "x"}}, "db.port is 'x'; expected int"),
        ({"db": {"host": "h", "port": True}}, "db.port is True; expected int"),
        ({"db": {}}, "db.host is missing; expected str"),
        ({"db": 1}, "db is 1; expected Db"),
        ({"unit": "mm"}, "unit is 'mm'; expected 'km' or 'mile'"),
        ({"mode": "slow"}, "mode is 'slow'; expected 'fast' or 'exact'"),
        ({"limits": {"a": "b"}}, "limits.a is 'b'; expected int"),
        ({"names": ["a", 1]}, "names is ['a', 1]; expected list[str] | None"),
        ({"pair": [1]}, "pair is [1]; expected tuple[int, str]"),
        ({"ratio": -1}, "ratio is negative"),
        ({"port": 1}, "port is unknown; it has: api_key, db, unit, mode, "),
    ],
)
def test_a_fault_names_its_key(rt, config, fault):
    with pytest.raises(ConfigError) as caught:
        rt.load(geo(), config=(GOOD if config else {}) | config)
    assert caught.value.faults[0].startswith(fault)
    assert caught.value.plugin == "geo"
    assert caught.value.code == "config"


def test_every_fault_is_reported_at_once(rt):
    with pytest.raises(ConfigError) as caught:
        rt.load(geo(), config={"api_key": 1, "db": {"port": 1}, "x": 1})
    assert len(caught.value.faults) == 3


def test_a_refused_configuration_leaves_the_active_one(rt):
    rt.load(geo(), config=GOOD)
    with pytest.raises(ConfigError):
        rt.reload("geo", config={"api_key": "k2"})
    assert settings(rt).api_key == "k"
    cutover = rt.reload("geo", config=GOOD | {"api_key": "k2"})  # the code came from no path
    assert settings(rt).api_key == "k2"
    assert cutover.reclaimed, cutover.leaks


def test_a_model_of_pydantic(rt):
    pytest.importorskip("pydantic")
    with pytest.raises(ConfigError) as caught:
        rt.load(geo(ONE_MODEL), config={"port": "x"})
    assert [fault.partition(":")[0] for fault in caught.value.faults] == ["api_key", "port"]
    rt.load(geo(ONE_MODEL), config={"api_key": "k"})
    assert (settings(rt).api_key, settings(rt).port) == ("k", 80)


@pytest.mark.parametrize("code", ["", "Settings = 1\n", "class Settings: ...\n"])
def test_a_class_that_is_none_is_refused(rt, code):
    with pytest.raises(LinkError, match="Settings is not a dataclass or pydantic model"):
        rt.load(geo(code))


def test_the_manifest_names_an_identifier(rt):
    text = (HEAD + CODE).replace('"Settings"', '"a.b"')
    with pytest.raises(ManifestError, match=r"config is 'a.b'; expected the name of a class"):
        rt.load(Artifact("geo", {"geo.py": text.encode()}))


def test_an_absent_key_is_named_with_its_remedy(rt):
    head = HEAD.replace('# config = "Settings"\n', "")
    code = "def init(ctx):\n    assert ctx.config.get('a') is None\n    ctx.config['a']\n"
    with pytest.raises(ConfigKeyError, match=r"a is missing; give it .*--config geo\.a=…"):
        rt.load(Artifact("geo", {"geo.py": (head + code).encode()}))
