"""The values that pass between the parts: frozen, without I/O."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from cloudburst import names
from cloudburst.errors import ConfigError

JobState = Literal["finished", "failed", "cancelled"]
"""How a job can end. Before that it is waiting or running."""

EnsembleState = Literal["submitting", "running", "done", "failed", "cancelled"]
"""``submitting``: more jobs may come; ``running``: jobs wait or run; ``done``: each job has ended, however;
``failed``: no job of it can run (its environment or its function is broken), the error says why."""

JobDescription = Mapping[str, Any]
"""A JSON object; the single argument of the user's function."""


@dataclass(frozen=True)
class Endpoints:
    """Where the services of one stack are, and what it takes to be let in. Secrets stay out of ``repr``."""

    stack: str
    redis_url: str
    filestore_url: str
    filestore_token: str
    influx_url: str
    influx_token: str
    influx_org: str = names.ORG
    influx_bucket: str = names.BUCKET
    queue: str = names.QUEUE
    queue_dash_url: str = ""
    grafana_url: str = ""
    """"" for a stack without Grafana."""
    ca_file: str = ""
    """The stack's own certificate authority, a PEM file here; the only one trusted. "": the usual ones."""

    def __repr__(self) -> str:
        return f"Endpoints(stack={self.stack!r}, filestore_url={self.filestore_url!r})"

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str) -> Endpoints:
        """Parse what ``to_json`` wrote; ``source`` names the file in errors (ConfigError)."""
        try:
            raw = json.loads(text)
            said = {field.name: raw[field.name] for field in fields(cls) if field.name in raw}
            for name, value in said.items():
                if not isinstance(value, str):
                    raise TypeError(f"{name} should be a text, got {value!r:.40}")
            return cls(**said)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ConfigError(f"{source}: not the endpoints of a stack ({error})") from error


@dataclass(frozen=True)
class EnsembleSpec:
    """What an ensemble is made of, apart from its jobs."""

    name: str
    function: str
    payload: str
    """SHA-256 of the payload's contents, or "" for the worker.zip that is current when a job starts."""
    queue: str = names.QUEUE
    timeout_s: int | None = None
    """A job that runs longer is stopped and fails; None: no limit."""
    retries: int = 0
    """How often a job whose function raised is run again."""
    max_attempts: int = 3
    """How often a job may lose its executor or worker before it is set aside."""
    seed: int | None = None
    """From which the random numbers of its jobs are derived, from 0, below 2**63; None: a random one."""


@dataclass(frozen=True, repr=False)
class EnsembleStatus:
    """The counters of one ensemble, at one moment. Reading them costs the same at any size."""

    id: str
    name: str
    state: EnsembleState
    payload: str
    function: str
    total: int
    """Jobs accepted so far; the size of the ensemble once it is no longer ``submitting``."""
    waiting: int
    running: int
    finished: int
    failed: int
    cancelled: int
    created_at: float
    """Unix time in seconds."""
    error: str = ""
    """Why the whole ensemble failed."""
    note: str = ""
    """What the workers are doing before the first job can start, such as building the environment."""
    appended_at: float = 0.0
    """When jobs were last accepted, Unix time in seconds."""
    seed: int = 0
    """From which the random numbers of its jobs are derived."""
    warnings: tuple[str, ...] = ()
    """What its user should know although its jobs went on; at most 10, each once, the first first."""

    @property
    def ended(self) -> int:
        return self.finished + self.failed + self.cancelled

    @property
    def complete(self) -> bool:
        """Every job has reached its final state, and no more will come."""
        return self.state != "submitting" and self.ended >= self.total

    def __repr__(self) -> str:
        counts = {"failed": self.failed, "cancelled": self.cancelled, "running": self.running}
        parts = [f"{self.ended:,} of {self.total:,} done"]
        parts += [f"{count:,} {name}" for name, count in counts.items() if count]
        parts += [self.error.partition("\n")[0]] if self.error else []
        return f"<EnsembleStatus {self.id}: {self.state}, {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        return f"<code>{html.escape(repr(self)[1:-1].removeprefix('EnsembleStatus '))}</code>"


@dataclass(frozen=True)
class Provenance:
    """What a job ran on: equal for all jobs of a worker with the same payload."""

    payload: str
    """SHA-256 of the payload's contents."""
    environment: str
    """Digest of the environment."""
    python: str
    """Such as ``3.11.7``."""
    platform: str
    """System, architecture, ABI and C library."""
    cloudburst: str
    """Version of the worker."""
    image: str = ""
    """Digest of the node's image; "" where workers do not run in one."""

    def to_json(self) -> str:
        """Equal texts for equal ones."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Provenance | None:
        """The inverse of ``to_json``; what another version wrote beside these fields is left out.

        None for what nobody wrote with it.
        """
        try:
            raw = json.loads(text)
            return cls(**{field.name: str(raw.get(field.name, "")) for field in fields(cls)})
        except (ValueError, AttributeError, RecursionError):
            return None


@dataclass(frozen=True)
class JobRecord:
    """The one entry that a job has in its ensemble's result stream."""

    index: int
    job_id: str
    state: JobState
    attempt: int
    """The attempt that counted, from 1; 0 when the job never started."""
    node: str
    """Where it ran; "" when the job never started."""
    started_at: float
    """Unix time in seconds; 0 when the job never started."""
    duration_s: float
    """Seconds that this attempt took."""
    value: Any
    """What the user's function returned, decoded from JSON; None unless ``finished``."""
    error: str
    """One line, such as ``ValueError: negative diameter``; "" when ``finished``."""
    fingerprint: str
    """Equal for failures of the same kind at the same place."""
    description: dict[str, Any]
    payload: str = ""
    """SHA-256 of the payload that the job ran with; "" when it never started."""


@dataclass(frozen=True)
class FailureGroup:
    """Failed jobs of one ensemble with the same fingerprint, and one of them as the example."""

    fingerprint: str
    count: int
    job_id: str
    index: int
    error: str
    traceback: str
    output: str
    """The end of the example's stdout and stderr."""
    description: dict[str, Any]


@dataclass(frozen=True)
class NodeReading:
    """A node as its worker has measured it."""

    cpu_percent: float
    """Of all its CPUs, since the reading before."""
    memory_used_bytes: int
    """What is not available to others."""
    memory_total_bytes: int
    disk_free_bytes: int
    """On the disk of the worker's state directory."""
    disk_total_bytes: int
    environments_bytes: int
    """What payloads and environments take of it."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> NodeReading | None:
        """The inverse of ``to_json``; None for "" and for what another version wrote."""
        try:
            raw = json.loads(text)
            numbers = {field.name: raw[field.name] for field in fields(cls)}
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        finite = all(type(number) in {int, float} and abs(number) < 1e18 for number in numbers.values())
        return cls(**numbers) if finite else None


@dataclass(frozen=True)
class PointsWaiting:
    """Points that a worker keeps on its disk, since the database does not take them."""

    points: int
    since: float
    """Unix time in seconds: when the database began to take none."""
    reason: str
    """Why, as it was told; "" if it has not been asked yet."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> PointsWaiting | None:
        """The inverse of ``to_json``; None for "" and for what another version wrote."""
        try:
            raw = json.loads(text)
            found = cls(int(raw["points"]), float(raw["since"]), str(raw["reason"]))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None
        return found if 0 <= found.points < 1e18 and 0 <= found.since < 1e11 else None


@dataclass(frozen=True)
class WorkerStatus:
    """One worker as it last reported itself."""

    name: str
    node: str
    state: str
    slots: int
    busy: int
    heartbeat_at: float
    """Unix time in seconds."""
    pid: int
    reading: NodeReading | None = None
    """None until it has taken one."""
    points_waiting: PointsWaiting | None = None
    """None while the database takes what its jobs write."""


@dataclass(frozen=True)
class PayloadSettings:
    """The payload's own ``cloudburst.toml``; the defaults hold where it is silent."""

    isolation: Literal["reuse", "fork"] = "reuse"
    """``reuse`` runs job after job in a warm executor; ``fork`` runs each in a fork of it."""
    seed: Literal["on", "off"] = "on"
    """``on``: generators of random numbers get a state that depends on the job alone."""
    max_jobs_per_executor: int = 0
    """Renew an executor after so many jobs; 0: never."""
    max_rss_mb: int = 0
    """Stop a job whose executor uses more memory, in MiB; 0: the node's memory divided by its slots."""
    cpus_per_job: int = 1
    """Threads that numeric libraries may use in one job."""
    keep_failed_scratch: bool = False
    """Keep the scratch directory of a failed job on its node."""
    apt: tuple[str, ...] = ()
    """Debian packages that have to be installed on the node."""
    preload: tuple[str, ...] = ()
    """Modules of the environment that executors import before they know the payload."""


@dataclass(frozen=True)
class Breach:
    """One thing that should not be: what the ledger found wrong, and with which job."""

    job_id: str
    """"" when it is about a whole ensemble or queue."""
    what: str


@dataclass(frozen=True)
class Repair:
    """One thing that was put right in a ledger, or would be."""

    where: str
    """A job, or an ensemble."""
    what: str


@dataclass(frozen=True)
class Account:
    """What an audit found of one ensemble: each job counted once, where it was seen."""

    ensemble: str
    state: EnsembleState
    submitted: int
    waiting: int
    running: int
    scheduled: int
    """They failed and run again after an interval."""
    deferred: int
    """They wait for other jobs."""
    finished: int
    failed: int
    cancelled: int
    breaches: tuple[Breach, ...]
    """The first of them by name."""
    breach_count: int
    """How many there are in all."""

    @property
    def placed(self) -> int:
        """Jobs that were found somewhere; equal to ``submitted`` when none is lost."""
        ended = self.finished + self.failed + self.cancelled
        return ended + self.waiting + self.running + self.scheduled + self.deferred


@dataclass(frozen=True)
class QueueAccount:
    """What an audit found of one queue: the jobs of all ensembles and of stock RQ clients."""

    queue: str
    waiting: int
    running: int
    scheduled: int
    deferred: int
    left_over: int
    """Ids in its list whose jobs have ended or run already; they are dropped when they reach its head."""
    breaches: tuple[Breach, ...]
    breach_count: int


@dataclass(frozen=True)
class Audit:
    """What an audit of a whole stack found."""

    ensembles: tuple[Account, ...]
    queues: tuple[QueueAccount, ...]

    @property
    def breach_count(self) -> int:
        """0: nothing is lost, nothing is doubled."""
        ensembles = sum(account.breach_count for account in self.ensembles)
        return ensembles + sum(account.breach_count for account in self.queues)
