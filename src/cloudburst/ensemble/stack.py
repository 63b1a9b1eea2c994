"""``Stack``: where ensembles are submitted and found."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudburst import config, names
from cloudburst.ensemble import locks, payloads, provenance, rules, submission
from cloudburst.ensemble.collecting import Collecting
from cloudburst.ensemble.connection import Connection
from cloudburst.ensemble.ensemble import Ensemble
from cloudburst.errors import EnsembleError
from cloudburst.model import Audit, Endpoints, EnsembleSpec, JobDescription, Provenance, Repair, WorkerStatus
from cloudburst.rqwire import jobs, output, seeds, workers
from cloudburst.rqwire.jobs import KnownJob
from cloudburst.rqwire.ledger import repair

if TYPE_CHECKING:
    from cloudburst.filestore.client import FileStore


class Stack:
    """A stack as its users see it: a queue for ensembles and a store for files, wherever they run."""

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints

    @classmethod
    def connect(cls, name: str | None = None) -> Stack:
        """The stack of that name, else of ``$CLOUDBURST_STACK``, else the one on this machine.

        Raises ConfigError when there is none, QueueError when it does not run or does not let us in.
        """
        stack = cls(config.endpoints(os.environ, name))
        stack._queue  # noqa: B018  connects
        return stack

    def __repr__(self) -> str:
        return f"Stack({self.endpoints.stack!r})"

    def submit(
        self,
        name: str,
        *,
        payload: str | Path | None = None,
        function: str,
        jobs: Iterable[JobDescription],
        timeout_s: float | None = None,
        retries: int = 0,
        max_attempts: int = 3,
        seed: int | None = None,
        resume: bool = False,
    ) -> Ensemble:
        """Submit ``jobs`` and return at once when all are accepted; the first may run before the last is.

        name: of letters, digits, ``-`` and ``_``; may be used again.
        payload: a directory with a Pipfile, a zip file of one, or the digest of a payload that was stored
            before. None: whatever ``worker.zip`` is when a job starts (see ``post``).
        function: such as ``worker.work``: a module of the payload and a function in it.
        jobs: dicts, the function's argument each; any iterable, consumed as it is sent. What JSON cannot say
            is refused, except that numpy's numbers and arrays become numbers and lists.
        timeout_s: a job that runs longer is stopped and fails.
        retries: how often a job whose function raised is run again.
        max_attempts: how often a job may take its worker down before it is set aside.
        seed: a whole number from 0, below 2**63, from which the random numbers of each job are derived: see
            docs/payloads.md. None: a random one is chosen; ``status().seed`` tells which.
        resume: append what is missing to the ensemble of that name or id, whose submission broke off because
            its client was killed or Redis was away. Everything else has to be as it was: jobs that are there
            are compared, not sent again, and EnsembleError says what differs; nothing is cancelled then. One
            that is complete already is returned as it is.

        Raises PayloadError, ConfigError and FileStoreError before any job is accepted. EnsembleError names
        the job whose description is wrong; jobs that were accepted before it are cancelled, as they are when
        ``jobs`` raises. QueueError when Redis is away for longer than a minute.
        """
        spec = EnsembleSpec(
            name=name,
            function=function,
            payload="",
            queue=self.endpoints.queue,
            timeout_s=None if timeout_s is None else rules.whole_seconds(timeout_s),
            retries=retries,
            max_attempts=max_attempts,
            seed=None if seed is None else _seed(seed),
        )
        queue = self._queue
        if resume:
            ensemble = queue.patiently(queue.ensembles.find, name, incomplete=True)
            spec = replace(spec, name=ensemble.rpartition("-")[0])
        rules.check(spec)
        if payload is not None:
            digest = payloads.place(self._files, payload, function)
            spec = replace(spec, payload=digest)
        if not resume:
            return self._ensemble(submission.submit(queue, spec, jobs))
        submission.resume(queue, ensemble, spec, jobs)
        return self._ensemble(ensemble)

    def post(self, payload: str | Path, as_name: str = names.PAYLOAD_NAME) -> str:
        """Store a payload, a directory or zip file, for the jobs that stock RQ enqueues; returns its digest.

        Jobs that start afterwards use it; workers notice within seconds. Raises PayloadError, ConfigError and
        FileStoreError.
        """
        return payloads.post(self._files, payload, as_name)

    def collecting(self) -> Collecting:
        """For ``with``: a stack that ends by itself waits, for a while, until the block has ended.

        As long as it is meant to collect results; ``follow`` takes it, and returns when no job runs any more.
        """
        return Collecting(self._queue)

    def ensembles(self) -> list[Ensemble]:
        """All ensembles of the stack, the latest first."""
        queue = self._queue
        return [self._ensemble(ensemble) for ensemble in queue.patiently(queue.ensembles.ids)]

    def ensemble(self, name_or_id: str, *, incomplete: bool = False) -> Ensemble:
        """The ensemble with that id, else the latest with that name (EnsembleError if there is none).

        incomplete: of those with that name rather the latest that has not all its jobs, if there is one.
        """
        queue = self._queue
        return self._ensemble(queue.patiently(queue.ensembles.find, name_or_id, incomplete=incomplete))

    def audit(self) -> Audit:
        """Whether each job of each ensemble, and of stock RQ clients, is in one place or has one record.

        Takes seconds per million jobs; changes nothing, and may be done while jobs run.
        """
        return self._queue.patiently(self._queue.ledger.everything)

    def repair(self, name: str | None = None, *, write: bool = False) -> list[Repair]:
        """Put right what an audit finds wrong and can be derived, of one ensemble or of all; what was done.

        write: without it, nothing changes, and what would be done is returned. May be repeated, and done
            while jobs run: a job that has a record keeps it, one that has none and is nowhere runs again.
            What it cannot put right, another audit names.
        """
        ensemble = self.ensemble(name).id if name else ""
        return self._queue.patiently(lambda: list(repair(self._queue.redis, ensemble, write=write)))

    def workers(self) -> list[WorkerStatus]:
        """The workers that have reported within the last minute."""
        return self._queue.patiently(workers.workers, self._queue.redis)

    def queue_depth(self) -> int:
        """How many jobs wait, of all ensembles and of stock RQ clients."""
        return self._queue.patiently(workers.queue_depth, self._queue.redis, self.endpoints.queue)

    def output(self, job_id: str) -> str:
        """The end of what a job has printed: while it runs, about a second old, or after it failed.

        "" when it has printed nothing, or has finished. Raises EnsembleError when there is no such job.
        """
        if not self._queue.patiently(output.is_known, self._queue.redis, job_id):
            raise EnsembleError(
                f"no job {job_id!r} here: its id is the ensemble's, a dash and its index; finished jobs are "
                "forgotten after an hour, their results are kept"
            )
        return self._queue.patiently(output.read, self._queue.redis, job_id)

    def payload(self, name: str = names.PAYLOAD_NAME) -> str:
        """Digest of the payload that is meant: by its digest's first characters, a file's name, an ensemble.

        Raises PayloadError when there is none, or more than one.
        """
        return locks.named(self._files, self._queue, name)

    def payload_lock(self, digest: str) -> str:
        """Text of the Pipfile.lock that a payload's environment is made from: its own, or one made for it.

        Raises PayloadError while there is none; the first worker that gets a job with the payload makes one.
        """
        return locks.of_payload(self._files, digest)

    def job(self, job_id: str) -> KnownJob:
        """The job with that id, of an ensemble or of a stock RQ client; with its record if it has ended.

        Raises EnsembleError when there is none.
        """
        return self._queue.patiently(jobs.find, self._queue.redis, job_id)

    def ran_on(self, job: KnownJob) -> list[Provenance]:
        """What jobs of its ensemble ran on with the payload that it ran, or would run, with."""
        if not job.ensemble:
            return []
        counted = self.ensemble(job.ensemble).provenance()
        return [ran_on for ran_on, _ in counted if ran_on.payload == job.payload]

    def provenance_document(self, ensemble: Ensemble) -> dict[str, Any]:
        """What the jobs of an ensemble ran on, and how many of them: a JSON object, see docs/payloads.md."""
        return provenance.document(ensemble.status(), ensemble.provenance(), self.payload_lock)

    @property
    def files(self) -> FileStore:
        """The stack's file store."""
        return self._files

    def _ensemble(self, ensemble: str) -> Ensemble:
        return Ensemble(self._queue, lambda: self._files, ensemble)

    @cached_property
    def _queue(self) -> Connection:
        return Connection(self.endpoints.redis_url, ca_file=self.endpoints.ca_file)

    @cached_property
    def _files(self) -> FileStore:
        from cloudburst.filestore.client import FileStore  # HTTP takes a quarter of the time of the others

        where = self.endpoints
        return FileStore(where.filestore_url, where.filestore_token, ca_file=where.ca_file)


def _seed(given: int) -> int:
    try:
        seed = operator.index(given)  # numpy's whole numbers, too
    except TypeError:
        seed = -1
    if not 0 <= seed < 2**seeds.BITS:
        raise EnsembleError(f"seed: should be a whole number from 0, below 2**{seeds.BITS}, got {given!r}")
    return seed
