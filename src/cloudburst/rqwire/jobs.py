"""One job as Redis knows it, whether it waits, runs or has ended: all that it takes to run it elsewhere."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any, cast

from cloudburst import nested
from cloudburst.errors import EnsembleError
from cloudburst.model import JobRecord, JobState
from cloudburst.rqwire import encoding, seeds
from cloudburst.rqwire.connection import Redis, found
from cloudburst.rqwire.ensembles import Ensembles

_FAILED = b"2"
"""The type of an RQ result that is a failure (rq/results.py)."""


@dataclass(frozen=True)
class KnownJob:
    """A job, and its record if it has ended."""

    id: str
    ensemble: str
    """"" for a stock job."""
    index: int
    function: str
    data: bytes = field(repr=False)
    """As the client's serializer wrote it."""
    payload: str
    """Digest that produced the record, else the one that it would run with; "": the current worker.zip."""
    record: JobRecord | None
    meta: bytes = b""
    """What a stock client attached, as its serializer wrote it."""
    seed: int = 0
    """Of its ensemble; of a stock job its own."""

    @property
    def pickled(self) -> bool:
        return encoding.is_pickled(self.data) or encoding.is_pickled(self.meta)

    @property
    def attempt(self) -> int:
        """The attempt that counted, else the first."""
        return max(self.record.attempt, 1) if self.record else 1


def find(client: Redis, job_id: str) -> KnownJob:
    """The job with that id (EnsembleError if there is none). Its record outlives its hash."""
    with client.pipeline(transaction=False) as pipe:
        pipe.hgetall(encoding.named(f"rq:job:{job_id}"))
        job = found(pipe, dict)[0]
    ensemble, _, index = job_id.rpartition("-")
    ensemble = encoding.text(job.get(b"cb_ens")) or ("" if job else ensemble)
    if job and not ensemble:
        return _stock(client, job_id, job)
    ensembles = Ensembles(client)
    if not ensemble or not index.isdigit() or not client.exists(f"cb:ens:{ensemble}"):
        raise EnsembleError(
            f"no job {job_id!r} here: its id is the ensemble's, a dash and its index, such as "
            "floods-3k9x1c-17; `cloudburst status` lists the ensembles"
        )
    status = ensembles.status(ensemble)
    record = _record(client, ensembles, ensemble, job_id, job)
    if not job and record is None:
        raise EnsembleError(f"no job {job_id!r} here: {ensemble} has the jobs 0 to {status.total - 1}")
    data = encoding.plain_data(job.get(b"data", b"")) or _data(status.function, cast(JobRecord, record))
    payload = (record.payload if record else "") or status.payload
    return KnownJob(job_id, ensemble, int(index), status.function, data, payload, record, seed=status.seed)


def _record(
    client: Redis, ensembles: Ensembles, ensemble: str, job_id: str, job: dict[bytes, bytes]
) -> JobRecord | None:
    """By the entry that the job's hash names; else by looking for it, a second per million jobs or so."""
    if job:
        entry = encoding.text(job.get(b"cb_entry"))
        page = ensembles.records(ensemble, _before(entry), count=1) if entry else []
        return page[0][1] if page and page[0][1].job_id == job_id else None
    return next((record for record in ensembles.all_records(ensemble) if record.job_id == job_id), None)


def _before(entry: str) -> str:
    """The id behind which a stream is to be read for ``entry`` to come first."""
    milliseconds, number = (encoding.whole(part.encode()) for part in (*entry.split("-"), "", "")[:2])
    if number:
        return f"{milliseconds}-{number - 1}"
    return f"{milliseconds - 1}-{2**64 - 1}" if milliseconds else "0-0"


def _data(function: str, record: JobRecord) -> bytes:
    head, tail = encoding.data_frame(function)
    return head + nested.dumps(record.description).encode() + tail


def _stock(client: Redis, job_id: str, job: dict[bytes, bytes]) -> KnownJob:
    data = encoding.plain_data(job.get(b"data", b""))
    payload = encoding.text(job.get(b"cb_payload"))
    meta = job.get(b"meta", b"")
    call = None if encoding.is_pickled(data) else encoding.json_of(data)
    function = str(call[0]) if isinstance(call, list) and call else ""
    record, seed = _stock_record(client, job_id, job), seeds.implied(job_id.encode())
    return KnownJob(job_id, "", -1, function, data, payload, record, meta, seed)


def _stock_record(client: Redis, job_id: str, job: dict[bytes, bytes]) -> JobRecord | None:
    """What RQ's latest result says, in the form of a record; None before there is one."""
    with client.pipeline(transaction=False) as pipe:
        pipe.xrevrange(encoding.named(f"rq:results:{job_id}"), count=1)
        results = found(pipe, list)[0]
    if not results:
        return None
    result: dict[bytes, bytes] = results[0][1]
    state: JobState = "failed" if result.get(b"type") == _FAILED else "finished"
    trace = encoding.exception_text(result.get(b"exc_string", b"")).rstrip()
    return JobRecord(
        index=-1,
        job_id=job_id,
        state=state,
        attempt=encoding.whole(job.get(b"cb_attempt")),
        node="",
        started_at=encoding.timestamp(job.get(b"started_at")),
        duration_s=0.0,
        value=_value(result.get(b"return_value", b"")) if state == "finished" else None,
        error=trace.rpartition("\n")[2] if state == "failed" else "",
        fingerprint="",
        description=encoding.description(job.get(b"data", b"")),
        payload=encoding.text(job.get(b"cb_payload")),
    )


def _value(raw: bytes) -> Any:
    try:
        plain = base64.b64decode(raw)
    except binascii.Error:
        return None
    return None if encoding.is_pickled(plain) or not plain else nested.read(plain)
