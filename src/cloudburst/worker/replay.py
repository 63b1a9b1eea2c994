"""One job, run again on this machine in the foreground: nothing of it is recorded, no point is sent."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cloudburst import nested
from cloudburst.config import WorkerConfig
from cloudburst.errors import EnsembleError, PayloadError
from cloudburst.model import Endpoints, JobRecord
from cloudburst.points.sink import Sink
from cloudburst.rqwire.jobs import KnownJob
from cloudburst.worker import inside
from cloudburst.worker.inside import foreground
from cloudburst.worker.runtime import Runtime, executor_environ
from cloudburst.worker.verdict import ending

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replayed:
    """How the job ended here."""

    state: Literal["finished", "failed"]
    value: Any = None
    error: str = ""
    fingerprint: str = ""
    points: Mapping[str, int] = field(default_factory=dict)
    """How many the job would have written with ``results.write``, by measurement."""
    client_points: int = 0
    """How many it would have written with an InfluxDB client of its own."""
    seconds: float = 0.0


def check(job: KnownJob) -> None:
    """EnsembleError for a job that cannot be read without unpickling it, or holds no call."""
    if job.pickled:
        raise EnsembleError(
            f"{job.id} was pickled by its client, and may do anything when it is read: only jobs that were "
            "enqueued as JSON are replayed: Queue(..., serializer=JSONSerializer)"
        )
    if not job.function:
        raise EnsembleError(
            f"{job.id} says no function in its data, so nobody can run it: see who enqueued it, and with "
            "what (rq info, or queue-dash)"
        )


def replay(
    job: KnownJob,
    runtime: Runtime,
    where: Endpoints,
    *,
    scratch: Path,
    environ: Mapping[str, str],
    debug: bool = False,
    show_points: bool = False,
) -> Replayed:
    """Run the job in ``scratch``, with this process' stdin, stdout and stderr; how it ended.

    Its traceback is written to stderr by then. Raises KeyboardInterrupt when the user has stopped it or left
    the debugger. The job has passed ``check``.
    """
    with tempfile.TemporaryDirectory(prefix="cloudburst-replay-") as name, Sink() as sink:
        order, answer = Path(name, "order.json"), Path(name, "answer.json")
        order.write_text(
            json.dumps(
                {
                    "payload": str(runtime.payload_dir),
                    "preload": runtime.settings.preload,
                    "data": job.data.decode(),
                    "seed": job.seed,
                    "index": job.index,
                    "set_generators": runtime.settings.seed == "on",
                    "debug": debug,
                    "show_points": show_points,
                    "answer": str(answer),
                }
            )
        )
        variables = _executor_environ(runtime, where, sink.url, environ) | _job_environ(job, scratch)
        argv = [str(runtime.python), inside.START, str(order)]
        status = _in_foreground(argv, variables, scratch)
        if not answer.exists():
            if status in {foreground.LEFT, -signal.SIGINT}:
                raise KeyboardInterrupt
            return Replayed("failed", error=ending(status, for_memory=False), client_points=sink.points)
        try:  # the job might have written it
            return Replayed(**nested.loads(answer.read_bytes()), client_points=sink.points)
        except (ValueError, TypeError) as error:
            broken = f"what the function's process has left cannot be read: {error}"
            return Replayed("failed", error=broken, client_points=sink.points)


def _executor_environ(
    runtime: Runtime, where: Endpoints, sink: str, environ: Mapping[str, str]
) -> dict[str, str]:
    """As on a node; but whoever writes points to InfluxDB gets to the sink."""
    config = WorkerConfig(
        redis_url="",
        filestore_url="",
        filestore_token="",
        influx_url=sink if where.influx_url else "",
        influx_token="replay",  # noqa: S106 (the sink takes any)
        influx_org=where.influx_org,
        influx_bucket=where.influx_bucket,
        state_dir=runtime.payload_dir,
        slots=1,
    )
    return executor_environ(runtime, config, environ) | runtime.environ


def _job_environ(job: KnownJob, scratch: Path) -> dict[str, str]:
    found = {
        "CLOUDBURST_JOB": job.id,
        "CLOUDBURST_ENSEMBLE": job.ensemble,
        "CLOUDBURST_INDEX": str(job.index),
        "CLOUDBURST_ATTEMPT": str(job.attempt),
        "CLOUDBURST_REPLAY": "1",
    }
    if job.meta:
        with contextlib.suppress(ValueError, RecursionError):
            found["CLOUDBURST_JOB_META"] = json.dumps(json.loads(job.meta))
    return found | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))


def _in_foreground(argv: list[str], environ: Mapping[str, str], directory: Path) -> int:
    """Run to the end with our terminal; the exit status. Ctrl-C is for the process, not for us."""
    with _deaf():
        try:
            return subprocess.run(argv, env=dict(environ), cwd=directory, check=False).returncode
        except OSError as error:
            raise PayloadError(
                f"{argv[0]} cannot be started ({error.strerror}): remove its environment and try again"
            ) from error


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """The terminal sends SIGINT to all of us. SIG_IGN would be inherited, a handler of ours is not."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def scratch_directory(job: KnownJob, parent: Path, *, keep: bool) -> Iterator[Path]:
    """A fresh directory for the job to run in; removed afterwards unless it is to be kept."""
    parent.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=f"{job.id}-", dir=parent))
    try:
        yield directory
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)


def compared(record: JobRecord | None, here: Replayed) -> str:
    """What this run says about the recorded one, in one sentence."""
    if record is None:
        return "the job has no record yet to compare with"
    there = f"on {record.node} this job" if record.node else "there this job"
    if record.state == "cancelled":
        return f"{there} was cancelled: nothing to compare with"
    if record.state != here.state:
        return f"differs: {there} {f'failed with {record.error}' if record.error else 'finished'}"
    return f"{there} {_as_value(record, here) if here.state == 'finished' else _as_error(record, here)}"


def _as_value(record: JobRecord, here: Replayed) -> str:
    there = json.dumps(record.value, sort_keys=True)
    if there == json.dumps(here.value, sort_keys=True):
        return "returned the same value"
    return f"returned another value: {there}"


def _as_error(record: JobRecord, here: Replayed) -> str:
    # What RQ keeps of a stock job's failure has no fingerprint.
    if record.fingerprint not in {"", here.fingerprint}:
        return f"failed otherwise, with {record.error}"
    if record.error == here.error:
        return "failed with the same error"
    return f"failed at the same place, with {record.error}" if record.fingerprint else "failed otherwise"
