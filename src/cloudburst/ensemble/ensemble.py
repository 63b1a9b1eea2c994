"""``Ensemble``: one ensemble of a stack, wherever and whenever it was submitted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cloudburst.ensemble import payloads
from cloudburst.ensemble.connection import Connection
from cloudburst.errors import EnsembleError
from cloudburst.model import (
    Account,
    EnsembleSpec,
    EnsembleStatus,
    FailureGroup,
    JobRecord,
    JobState,
    Provenance,
)
from cloudburst.results import Results
from cloudburst.rqwire import workers

if TYPE_CHECKING:
    from cloudburst.filestore.client import FileStore

BLOCK_S = 1.0
"""A read waits so long for new records before it looks whether there will be any."""

POLL_S = 0.2


class Ensemble:
    """A batch of jobs on one payload. It goes on without this object, and without this process.

    ``id`` names it among all of the stack: its name and six characters, such as ``floods-3k9x1c``.

    Every method survives a Redis that is away for some seconds; QueueError when it stays away.
    """

    def __init__(self, queue: Connection, files: Callable[[], FileStore], ensemble_id: str) -> None:
        self._queue = queue
        self._files = files
        self.id = ensemble_id

    @property
    def name(self) -> str:
        """The name that it was submitted with; of several with one name each has its own ``id``."""
        return self.id.rpartition("-")[0]

    def __repr__(self) -> str:
        return f"Ensemble({self.id!r})"

    def status(self) -> EnsembleStatus:
        """How many jobs wait, run, and have ended, now; costs the same at any size."""
        return self._queue.patiently(self._queue.ensembles.status, self.id)

    def spec(self) -> EnsembleSpec:
        """What it was submitted with; the payload is the one that jobs run with now."""
        return self._queue.patiently(self._queue.ensembles.spec, self.id)

    def watch(self, timeout_s: float | None = None) -> Iterator[JobRecord]:
        """Yield the record of each job once: of those that have ended, then live, until all have.

        A job that is retried meanwhile has a new record, which is yielded too. Raises EnsembleError at the
        end when no job of the ensemble could run (its environment or its function is broken), and when jobs
        are left after ``timeout_s``; they go on, and another ``watch`` starts from the first record again.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        after = "0-0"
        while True:
            # The status first: when it is complete, all records are there to be read.
            status = self.status()
            block_s = 0.0 if status.complete else _until(deadline)
            page = self._queue.patiently(self._queue.ensembles.records, self.id, after, block_s=block_s)
            for entry, record in page:
                after = entry
                yield record
            if status.complete and not page:
                self._raise_if_hopeless(status)
                return
            self._raise_if_late(status, deadline, timeout_s)

    def wait(self, timeout_s: float | None = None) -> EnsembleStatus:
        """Wait until every job has ended; the last status. Raises EnsembleError as ``watch`` does."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not (status := self.status()).complete:
            self._raise_if_late(status, deadline, timeout_s)
            time.sleep(min(POLL_S, _until(deadline)))
        self._raise_if_hopeless(status)
        return status

    def slots(self) -> int:
        """How many jobs of the stack's queue can run at a time, now."""
        found = self._queue.patiently(workers.workers, self._queue.redis)
        return sum(worker.slots for worker in found)

    def results(self) -> Results:
        """What its jobs returned so far: iterate over it, or turn it into a DataFrame, CSV or Parquet."""
        return Results(self._records)

    def failures(self) -> list[FailureGroup]:
        """Failed jobs by fingerprint, largest group first, each with one traceback and its output."""
        return self._queue.patiently(self._queue.ensembles.failures, self.id)

    def audit(self) -> Account:
        """Whether each job is in one place, or has one record: counted one by one, also while it runs.

        Takes seconds per million jobs, and reads what all jobs in the queue are; changes nothing.
        """
        return self._queue.patiently(self._queue.ledger.ensemble, self.id)

    def retry(self, fingerprint: str | None = None, *, cancelled: bool = False) -> int:
        """Run failed jobs again: all, or those of one group, or instead the cancelled ones; how many.

        Their records are withdrawn: each job has one record, that of its last run.
        """
        return self._queue.patiently(
            self._queue.ensembles.retry, self.id, fingerprint=fingerprint or "", cancelled=cancelled
        )

    def upgrade(self, payload: str | Path, *, rerun_failed: bool = False) -> int:
        """Let the jobs that have not started run on another payload; returns how many.

        payload: a directory with a Pipfile, a zip file of one, or the digest of a payload that was stored
            before. The ensemble's function has to be in it.
        rerun_failed: those that failed run again, too.

        Running jobs finish on the old payload, and so do those that a worker has claimed a moment ago: about
        0.1 s of work per slot, or one job. If they are lost with their worker, they run again on the new one.
        An ensemble that failed as a whole goes on. The records that are there stay, and name their payload.
        Raises EnsembleError when all jobs have ended, PayloadError and ConfigError when the payload would not
        run, and FileStoreError when it cannot be stored; nothing has changed then.
        """
        digest = payloads.place(self._files(), payload, self.status().function)
        upgrade = self._queue.ensembles.upgrade
        return self._queue.patiently(upgrade, self.id, digest, rerun_failed=rerun_failed)

    def provenance(self) -> list[tuple[Provenance, dict[JobState, int]]]:
        """What its jobs ran on so far, each with the number of records per state."""
        return self._queue.patiently(self._queue.ensembles.provenance, self.id)

    def cancel(self) -> int:
        """Cancel the jobs that wait and stop those that run; how many. Records that are there stay.

        An ensemble all of whose jobs have ended stays what it is.
        """
        before = self.status().cancelled
        self._queue.patiently(self._queue.ensembles.cancel, self.id)  # may be called twice: count afterwards
        return self.status().cancelled - before

    def _records(self) -> Iterator[JobRecord]:
        after = "0-0"
        while page := self._queue.patiently(self._queue.ensembles.records, self.id, after):
            after = page[-1][0]
            yield from (record for _, record in page)

    def _raise_if_hopeless(self, status: EnsembleStatus) -> None:
        if status.state == "failed":
            raise EnsembleError(f"{self.id}: no job of it can run: {status.error}")

    def _raise_if_late(self, status: EnsembleStatus, deadline: float | None, timeout_s: float | None) -> None:
        if deadline is not None and time.monotonic() >= deadline:
            left = status.total - status.ended
            raise EnsembleError(f"{self.id}: {left:,} jobs are left after {timeout_s:g} s; they go on")


def _until(deadline: float | None) -> float:
    """Seconds to wait at a time."""
    return BLOCK_S if deadline is None else max(min(BLOCK_S, deadline - time.monotonic()), 0.001)
