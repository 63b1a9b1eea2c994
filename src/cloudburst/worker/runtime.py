"""What it takes to run a payload's jobs: its files, its interpreter, its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from cloudburst.config import WorkerConfig
from cloudburst.model import PayloadSettings, Provenance

JOB_VARIABLES = "CLOUDBURST_JOB_VARIABLES"
"""Names what else of the worker's variables jobs may see, with commas between: ``R_HOME,MATLAB*``."""

_FOR_JOBS = (
    *(
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "LANGUAGE",
        "LC_*",
        "TZ",
        "TZDIR",
        "TMPDIR",
        "TERM",
    ),
    *(
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
    ),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("LD_LIBRARY_PATH", "DYLD_*", "CUDA*", "NVIDIA_*", "ROCR_*", "HIP_*"),
)
"""What jobs see of the worker's variables, which on a laptop are those of somebody's shell."""

_NEVER = ("CLOUDBURST_*", "REDIS_*", "FILE_HOST*", "INFLUX_*", "PYTHON*", "PIP_*", "PIPENV_*", "UV_*")
"""What jobs do not see even if it is named: how the worker and its tools are set up, with their secrets."""

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
    """Variables of an executor: those of the worker's that are meant for jobs, and what jobs need.

    They are the same for all payloads of that ``basis``: ``Runtime.environ`` comes with the payload.

    INFLUX_* are for user code that writes points itself; numeric libraries get the threads of one job.
    """
    named = [name.strip() for name in environ.get(JOB_VARIABLES, "").split(",")]
    kept = {
        name: value
        for name, value in environ.items()
        if _is_one_of(name, (*_FOR_JOBS, *named)) and not _is_one_of(name, _NEVER)
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


def _is_one_of(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
