"""The service's JSON: each request body, set of options and answer is a struct.

A struct is the only truth about its JSON. Requests are decoded and checked by it
(`epochal.server.decoding`), answers are encoded from it, and the OpenAPI document shows its schema
(`epochal.server.api`). A new field is one line here.

Field names are the service's interface: clients read them.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from epochal.sql import EpochRef

MAX_NUMBER: Final = 2**53
"""The largest number of a generation or an epoch that every JSON reader keeps exactly."""

Count: TypeAlias = Annotated[int, Meta(ge=0)]
Int64: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Number: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
Flag: TypeAlias = Literal["true", "false"]
"""A flag of an address. Not `bool`, whose decoding from text takes `1` and `False` as well."""

Capability: TypeAlias = Annotated[str, Meta(extra_json_schema={"pattern": "^[a-z]{1,20}$"})]
"""The pattern is an example for clients; the change checks the name."""

SqlValue: TypeAlias = bool | Int64 | float | str | None


class RequestStruct(Struct, kw_only=True, forbid_unknown_fields=True):
    """The base of what clients send: an unknown field is refused.

    Attributes:
        integers: the fields that take whole numbers, which clients may also write as `1.0`.
        quotes_of_twice: the quotation marks that a document with a field twice has at least.
    """

    integers: ClassVar[frozenset[str]] = frozenset()
    quotes_of_twice: ClassVar[int] = 4  # of two names


class AnswerStruct(Struct, kw_only=True):
    """The base of what the service sends."""


# --- requests ----------------------------------------------------------------------------------


class QueryRequest(RequestStruct):
    """One SQL query.

    Attributes:
        sql: its text.
        params: values for `$1`, `$2`, … (a list) or for `$name` (an object).
        limit: the number of rows; at most, and by default, the service's own limit.
        timeout: seconds; at most, and by default, the service's own limit.
    """

    integers = frozenset({"limit"})
    quotes_of_twice = 8  # of `sql`, its text, and two more names; or of `sql` twice, and two texts

    sql: str
    params: list[SqlValue] | dict[str, SqlValue] | None = None
    limit: Count | None = None
    timeout: Annotated[float, Meta(ge=0)] | None = None


class RollbackTarget(RequestStruct):
    """A generation by its number, or a version by its text."""

    integers = frozenset({"to"})

    to: Number | str


DRAIN_TIMEOUT: Final = Meta(
    ge=0, le=86_400, description="Seconds that the answer waits for the old generations' drain."
)
CANCEL_HOLDERS: Final = "After that time, ask operations on old generations to stop."


class ChangeOptions(RequestStruct):
    """The options of a change, from its address."""

    drain_timeout: Annotated[float, DRAIN_TIMEOUT] | UnsetType = UNSET
    cancel_holders: Annotated[Flag, Meta(description=CANCEL_HOLDERS)] = "false"
    reason: Annotated[str, Meta(description="A note for the history.")] = ""


class LoadOptions(ChangeOptions):
    """The options of a load or reload from an upload."""

    grant: Annotated[list[Capability], Meta(description="A capability to grant.")] = []


class RemoveOptions(ChangeOptions):
    """The options of a removal."""

    cascade: Annotated[Flag, Meta(description="Remove the plugins that require it, too.")] = "false"


class HistoryOptions(RequestStruct, forbid_unknown_fields=False):
    """The options of the history of epochs; a read ignores unknown ones."""

    limit: Annotated[int, Meta(ge=1, le=1000, description="The number of epochs.")] = 50


class DiffOptions(RequestStruct):
    """The options of a comparison of two generations."""

    old: Annotated[Number, Meta(description="The number of the older generation.")]
    new: Annotated[Number, Meta(description="The number of the newer generation.")]


class DrainPath(RequestStruct):
    """A generation in an address."""

    plugin: str
    number: Number


class EpochPath(RequestStruct):
    """An epoch's number in an address."""

    number: Number


# --- answers -----------------------------------------------------------------------------------


def epoch_ref(epoch: Any) -> EpochRef:
    """Name an epoch, or the record of one, without holding it: an epoch pins its plugins."""
    return EpochRef(epoch.number, epoch.id)


class EpochAnswer(AnswerStruct):
    """An answer that names the epoch that it is about."""

    epoch: EpochRef


class VersionInfo(AnswerStruct):
    """The code of one generation."""

    plugin: str
    version: str
    generation: Count
    digest: str


def version_facts(version: Any) -> dict[str, Any]:
    """The fields of a `VersionInfo`, for it and the structs that extend it."""
    return {name: getattr(version, name) for name in VersionInfo.__struct_fields__}


class ProblemDetails(AnswerStruct):
    """An error (RFC 9457), with those attributes of the library's error that a program may use."""

    type: str
    status: int
    code: str
    detail: str
    plugin: Any = UNSET
    faults: Any = UNSET
    dependents: Any = UNSET
    function: Any = UNSET
    phase: Any = UNSET
    expected: Any = UNSET
    current: Any = UNSET


class ExtensionInfo(AnswerStruct):
    """The data type of a plugin, as Arrow stores its name and parameters."""

    name: str
    metadata: str


class ColumnInfo(AnswerStruct, forbid_unknown_fields=True):
    """A column of a table or a result."""

    name: str
    type: str
    extension: ExtensionInfo | UnsetType = UNSET


class PluginProvenance(VersionInfo):
    """A generation that computed a result, and its functions that the SQL calls."""

    functions: list[str]


class QueryAnswer(EpochAnswer):
    """The rows of a query, and the code that computed them."""

    columns: list[ColumnInfo]
    rows: Annotated[
        msgspec.Raw, Meta(extra_json_schema={"type": "array", "items": {"type": "array"}})
    ]
    truncated: bool
    elapsed_ms: float
    provenance: list[PluginProvenance]


class ExportInfo(AnswerStruct):
    """An export of a plugin; where SQL can call it, with its signature there."""

    kind: str
    name: str
    signature: str


class PluginInfo(VersionInfo):
    """An active plugin."""

    state: str
    description: str
    source: str | None
    requires: list[str]
    required_by: list[str]
    grants: list[str]
    exports: list[ExportInfo]
    queries: Count
    errors: Count


class PluginAnswer(PluginInfo):
    """An active plugin, and the epoch that it was seen in."""

    epoch: EpochRef


class PluginList(EpochAnswer):
    """The active plugins of one epoch."""

    plugins: list[PluginInfo]


class ChangeReport(EpochAnswer):
    """A change that was made, or checked; see `epochal.report.Cutover`."""

    change: Count
    published: bool
    epoch_before: Count
    epoch_after: Count
    swaps: list[dict[str, Any]]
    steps: list[str]
    phases_ms: dict[str, float]
    total_ms: float
    cutover_ms: float
    drained: bool
    reclaimed: bool
    at: float


class EpochInfo(AnswerStruct):
    """A committed epoch of the history."""

    number: Count
    id: str
    at: float
    reason: str
    plugins: list[VersionInfo]


class EpochHistory(EpochAnswer):
    """The epochs that can be rolled back to; `kept` is false where no store keeps them."""

    kept: bool
    epochs: list[EpochInfo]


class SourceDiff(EpochAnswer):
    """What changed in a plugin's files between two generations, as a unified diff."""

    plugin: str
    old: Count
    new: Count
    diff: str


class CancelAnswer(EpochAnswer):
    """The holders of an old generation that were asked to stop."""

    asked: list[str]


class DrainInfo(VersionInfo):
    """A generation that drains, and the holders that it waits for."""

    seconds: float | None
    queries: Count
    holders: list[str]


class DrainList(EpochAnswer):
    """The drains under way."""

    drains: list[DrainInfo]


class JobInfo(AnswerStruct):
    """A job of a plugin; `next_at` is in seconds since the Unix epoch."""

    job: str
    plugin: str
    schedule: str
    next_at: float | None
    running: bool
    queued: bool
    ticks: Count
    failures: Count
    failures_in_row: Count
    skipped: Count
    circuit: Literal["closed", "open", "half-open"]
    last_error: str


class JobList(EpochAnswer):
    """The jobs of the active plugins."""

    jobs: list[JobInfo]


class StreamInfo(AnswerStruct):
    """A stream from a source to a sink; `waiting` names an end that is not there."""

    source: str
    sink: str
    events: Count
    position: str | None
    waiting: str
    failures_in_row: Count
    circuit: Literal["closed", "open", "half-open"]
    last_error: str


class StreamList(EpochAnswer):
    """The streams that the service connects."""

    streams: list[StreamInfo]


class JobRequested(EpochAnswer):
    """A job that will run as soon as a worker is free."""

    job: str


class StatusAnswer(EpochAnswer):
    """The service's figures, and the samples of the last two minutes."""

    boot: str
    state: str
    started: float
    uptime_s: float
    plugins: Count
    queries: Count
    errors: Count
    running: Count
    draining: Count
    samples: list[dict[str, Any]]


class TableInfo(AnswerStruct):
    """A table that queries may name; `error` says why its columns are not known."""

    name: str
    columns: list[ColumnInfo]
    error: str | None


class CatalogAnswer(EpochAnswer):
    """The tables and functions that queries may name."""

    tables: list[TableInfo]
    functions: list[str]


class SessionRights(AnswerStruct):
    """The rights of the request's token or session."""

    rights: list[Literal["read", "change"]]


class SessionKey(AnswerStruct):
    """The half of a session that the page keeps."""

    key: str


class HealthAnswer(AnswerStruct):
    """Whether the service lives, or is ready."""

    status: str


_encoder: Final = msgspec.json.Encoder(enc_hook=str)


def encode(document: Any) -> bytes:
    """An answer as JSON."""
    try:
        return _encoder.encode(document)
    except UnicodeEncodeError:
        # A plugin's message may hold half a surrogate pair (of a file name that is not UTF-8).
        # JSON can escape it; msgspec cannot.
        return json.dumps(msgspec.to_builtins(document, enc_hook=str)).encode()
