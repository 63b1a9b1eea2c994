"""What it takes to run a payload's jobs: its files, its interpreter, its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cloudburst.config import WorkerConfig
from cloudburst.model import PayloadSettings, Provenance

_HIDDEN_PREFIXES = ("CLOUDBURST_", "REDIS_", "FILE_HOST", "INFLUX_", "PYTHON", "PIP_", "PIPENV_", "UV_")
_HIDDEN_PARTS = ("TOKEN", "PASSWORD", "SECRET", "CREDENTIAL")
_THREAD_LIMITS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
)

Basis = tuple[Path, tuple[str, ...], int]
"""What an executor is made of before it has a payload: interpreter, modules imported ahead, threads."""


@dataclass(frozen=True)
class Runtime:
    """A payload on this node, ready to run."""

    digest: str
    """SHA-256 of the payload."""
    payload_dir: Path
    python: Path
    """Interpreter of the payload's environment."""
    settings: PayloadSettings
    provenance: Provenance
    """What the records of its jobs say that they ran on."""

    @property
    def basis(self) -> Basis:
        """Executors of the same can stand in for each other."""
        return self.python, self.settings.preload, self.settings.cpus_per_job

    @property
    def environ(self) -> dict[str, str]:
        """Variables that tell its jobs which payload it is."""
        return {"CLOUDBURST_PAYLOAD": self.digest, "CLOUDBURST_PAYLOAD_DIR": str(self.payload_dir)}

    @cached_property
    def provenance_text(self) -> str:
        """The same as records hold it."""
        return self.provenance.to_json()


@dataclass(frozen=True)
class Unusable:
    """A payload that no job can run with, and why."""

    error: str
    detail: str
    workers: int = 0
    """It is for want of room, which so many workers lack: others may run its jobs. 0: nobody can."""


def executor_environ(runtime: Runtime, config: WorkerConfig, environ: Mapping[str, str]) -> dict[str, str]:
    """Variables of an executor: the worker's own, without its settings and secrets, and what jobs need.

    They are the same for all payloads of that ``basis``: ``Runtime.environ`` comes with the payload.

    INFLUX_* are for user code that writes points itself; numeric libraries get the threads of one job.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith(_HIDDEN_PREFIXES) and not any(part in name.upper() for part in _HIDDEN_PARTS)
    }
    bin_dir = runtime.python.parent
    kept["PATH"] = f"{bin_dir}:{environ.get('PATH', '/usr/local/bin:/usr/bin:/bin')}"
    kept["VIRTUAL_ENV"] = str(bin_dir.parent)
    kept["MPLBACKEND"] = "Agg"  # no job has a screen
    kept["PYTHONNOUSERSITE"] = "1"
    kept |= dict.fromkeys(_THREAD_LIMITS, str(runtime.settings.cpus_per_job or 1))
    if config.influx_url:
        kept["INFLUX_URL"] = config.influx_url
        kept["INFLUX_TOKEN"] = config.influx_token
        kept["INFLUX_ORG"] = config.influx_org
        kept["INFLUX_BUCKET"] = config.influx_bucket
        # What InfluxDBClient.from_env_properties() reads.
        kept["INFLUXDB_V2_URL"] = config.influx_url
        kept["INFLUXDB_V2_TOKEN"] = config.influx_token
        kept["INFLUXDB_V2_ORG"] = config.influx_org
    return kept
