"""The client's side of the queue: ensembles and their records.

It is long because it is a list: one short method for each thing that a client can ask for.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, cast

from cloudburst import names
from cloudburst.errors import EnsembleError
from cloudburst.model import (
    EnsembleSpec,
    EnsembleState,
    EnsembleStatus,
    FailureGroup,
    JobRecord,
    JobState,
    Provenance,
)
from cloudburst.rqwire import encoding, seeds
from cloudburst.rqwire.appending import Accepted, Chunk
from cloudburst.rqwire.connection import Redis, found
from cloudburst.rqwire.descriptions import encode_description
from cloudburst.rqwire.records import Records
from cloudburst.rqwire.scripts import Scripts

__all__ = ["INDEX", "Ensembles", "Identity", "encode_description"]

INDEX = "cb:ensembles"
"""Sorted set of all ensembles' ids by the time they were created."""

CHUNK = 1000
"""Records or ids per call where a whole ensemble is walked: a few milliseconds of Redis' time each."""

SLICE = 100
"""The same for jobs that change their state: some 3 ms of Redis' time."""

WITHDRAW_SLICE = 500
"""The same for ids that are taken out of the queue's list."""

MOST_WARNINGS = 10
WARNING_CHARS = 1000

WITHDRAW_BEHIND = 10_000
"""Ids of closed jobs are looked for behind so many of other ensembles at either end of the queue's list."""

_Example = tuple[str, dict[bytes, bytes], Any, Any]
"""A failed job: its id, its hash, its record and its latest RQ result as redis-py gives them."""

_NO_UPGRADE = {
    "missing": "no ensemble {ensemble!r} here: `cloudburst status` lists those there are",
    "cancelled": "{ensemble} was cancelled: submit it again with the new payload",
    "incomplete": "{ensemble} failed before it was complete: submit it again with the new payload",
    "ended": "{ensemble}: all its jobs have ended ({failed:,} of them failed), so none is left to run on "
    "another payload; --rerun-failed (rerun_failed=True) runs those that failed again",
}

_ENTRY = re.compile(r"[0-9]{1,18}-[0-9]{1,18}")

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class Identity:
    """What a client calls an ensemble that it is about to begin; others may not have the same idea."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.token = secrets.token_hex(8)
        self.choose()

    def choose(self) -> None:
        """Choose an id."""
        self.ensemble = f"{self._name}-{''.join(secrets.choice(_ALPHABET) for _ in range(6))}"


class Ensembles:
    """All ensembles of one Redis. Raises EnsembleError, and what redis-py raises."""

    def __init__(self, client: Redis) -> None:
        self._redis = client
        self._call = Scripts(client)
        self._records = Records(client)

    def create(self, spec: EnsembleSpec, identity: Identity | None = None) -> str:
        """Begin an ensemble that takes jobs until ``seal``; returns its id, ``<name>-<six characters>``.

        With an ``identity``, repeating a call changes nothing.
        """
        identity = identity or Identity(spec.name)
        fields = [text for item in _settings(spec).items() for text in item]
        fields += ["name", spec.name, "seed", seeds.new() if spec.seed is None else spec.seed]
        while not int(self._call("create", identity.ensemble, identity.token, *fields)):
            identity.choose()  # one in a thousand million is taken
        return identity.ensemble

    def append(self, ensemble: str, function: str, first: int, descriptions: Sequence[bytes]) -> int:
        """Append jobs, the first with index ``first``; returns the new size. Nobody else may do so meanwhile.

        ``descriptions`` are JSON objects, encoded. Repeating a call changes nothing. ``appending.Appender``
        does this for many chunks in a row.
        """
        before = self.accepted(ensemble)
        if before.count < first:
            raise EnsembleError(f"{ensemble}: jobs before index {before.count} are missing")
        if not (rest := descriptions[before.count - first :]):
            return before.count
        chunk = Chunk(before, rest)
        head, tail = encoding.data_frame(function)
        state, size, _ = self._call(
            "append", ensemble, before.count, before.digest, chunk.after.digest, head, tail, b"\n".join(rest)
        )
        if state != b"submitting":
            raise EnsembleError(f"{ensemble} takes no jobs any more: it is {state.decode()}")
        return int(size)

    def accepted(self, ensemble: str) -> Accepted:
        """How many jobs an ensemble has, and the digest of their descriptions."""
        count, digest = cast(
            "list[bytes | None]", self._redis.hmget(f"cb:ens:{ensemble}", ["submitted", "digest"])
        )
        return Accepted(encoding.whole(count), encoding.text(digest))

    def differences(self, ensemble: str, spec: EnsembleSpec) -> list[str]:
        """In what an ensemble's settings are not those of ``spec``: ``timeout: -1, not 90``.

        A seed is compared if ``spec`` gives one.
        """
        wanted = _settings(spec)
        if spec.seed is not None:
            wanted["seed"] = spec.seed
        there = cast("list[bytes | None]", self._redis.hmget(f"cb:ens:{ensemble}", list(wanted)))
        pairs = zip(wanted.items(), map(encoding.text, there), strict=True)
        return [f"{name}: {text}, not {value}" for (name, value), text in pairs if text != str(value)]

    def seal(self, ensemble: str, total: int | None = None) -> tuple[EnsembleState, int]:
        """Declare the ensemble complete with ``total`` jobs: none will be appended any more.

        Returns its state, "running" then, and how many jobs it has. If that is another number, nothing
        changes.
        """
        state, size = self._call("seal", ensemble, self.accepted(ensemble).count if total is None else total)
        return state_of(state.decode(), ended=False), int(size)

    def find(self, name: str, *, incomplete: bool = False) -> str:
        """The id of the ensemble with that id, else of the latest with that name (EnsembleError if none).

        incomplete: rather the latest with that name that is still being submitted, if there is one.
        """
        if self._redis.exists(f"cb:ens:{name}"):
            return name
        ids = [ensemble for ensemble in self.ids() if ensemble.rpartition("-")[0] == name]
        for ensemble in ids if incomplete else []:
            if self._redis.hget(f"cb:ens:{ensemble}", "state") == b"submitting":
                return ensemble
        if ids:
            return ids[0]
        raise EnsembleError(f"no ensemble {name!r} here: `cloudburst status` lists those there are")

    def ids(self, count: int = 0) -> list[str]:
        """All ids or the first ``count`` of them, latest first."""
        ids = cast("list[bytes]", self._redis.zrevrange(INDEX, 0, count - 1))
        return [encoding.name(ensemble) for ensemble in ids]

    def status(self, ensemble: str) -> EnsembleStatus:
        """The counters of one ensemble (EnsembleError if it does not exist)."""
        statuses = self.statuses([ensemble])
        if not statuses:
            raise EnsembleError(f"no ensemble {ensemble!r} here: `cloudburst status` lists those there are")
        return statuses[0]

    def statuses(self, ensembles: Iterable[str]) -> list[EnsembleStatus]:
        """Those of them that exist, in one round trip."""
        ids = list(ensembles)
        with self._redis.pipeline(transaction=False) as pipe:
            for ensemble in ids:
                pipe.hgetall(encoding.named(f"cb:ens:{ensemble}"))
            rows = found(pipe, dict)
        return [_status(ensemble, raw) for ensemble, raw in zip(ids, rows, strict=True) if raw]

    def spec(self, ensemble: str) -> EnsembleSpec:
        """What it was created with, but for the payload: that of now (EnsembleError if there is none)."""
        status = self.status(ensemble)
        names_ = ["queue", "timeout", "retries", "max_attempts"]
        queue, *numbers = cast("list[bytes | None]", self._redis.hmget(f"cb:ens:{ensemble}", names_))
        timeout, retries, attempts = map(encoding.whole, numbers)
        limit = timeout if timeout > 0 else None
        return EnsembleSpec(
            status.name,
            status.function,
            status.payload,
            encoding.text(queue),
            limit,
            retries,
            attempts,
            status.seed,
        )

    def note(self, ensemble: str, text: str) -> None:
        """Say what is being done before the ensemble's first job can start; "" when that is over."""
        self._redis.hset(f"cb:ens:{ensemble}", "note", text)

    def warn(self, ensemble: str, text: str) -> None:
        """Tell the ensemble's user something although its jobs go on. It is kept as long as the ensemble.

        Each text is kept once, in a line of at most 1,000 characters, and ten of them at most; saying one
        again changes nothing.
        """
        plain = "".join(letter if letter.isprintable() else " " for letter in text)[:WARNING_CHARS].strip()
        if plain:
            self._call("warn", ensemble, plain.encode("utf-8", "replace"), MOST_WARNINGS)

    def records(
        self, ensemble: str, after: str = "0-0", *, block_s: float = 0.0, count: int = CHUNK
    ) -> list[tuple[str, JobRecord]]:
        """Up to ``count`` records behind the entry ``after``, with their entries; waits up to ``block_s``."""
        return self._records.page(ensemble, after, block_s=block_s, count=count)

    def all_records(self, ensemble: str) -> Iterator[JobRecord]:
        """Every record that there is now, in the order in which the jobs ended."""
        after = "0-0"
        while page := self.records(ensemble, after):
            after = page[-1][0]
            yield from (record for _, record in page)

    def provenance(self, ensemble: str) -> list[tuple[Provenance, dict[JobState, int]]]:
        """What its jobs ran on, in the order of the first records, each with how many records per state.

        Not counted are records of jobs that never started, or were lost with their worker each time.
        """
        return self._records.provenance(ensemble)

    def failures(self, ensemble: str) -> list[FailureGroup]:
        """Failed jobs grouped by fingerprint, largest group first, each with one example."""
        key = f"cb:ens:{ensemble}"
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(f"{key}:failures")
            pipe.hgetall(f"{key}:examples")
            counts, examples = found(pipe, dict)
        groups: list[FailureGroup] = []
        largest = sorted(counts, key=lambda fingerprint: -encoding.whole(counts[fingerprint]))
        for some in (largest[first : first + CHUNK] for first in range(0, len(largest), CHUNK)):
            jobs = [encoding.name(examples.get(fingerprint, b"")) for fingerprint in some]
            groups += [
                _failure(encoding.text(fingerprint), encoding.whole(counts[fingerprint]), example)
                for fingerprint, example in zip(some, self._examples(key, jobs), strict=True)
            ]
        return groups

    def _examples(self, key: str, jobs: list[str]) -> Iterator[_Example]:
        """Id, hash, record and latest RQ result of each job, in two round trips for all."""
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in jobs:
                pipe.hgetall(encoding.named(f"rq:job:{job_id}"))
            hashes = found(pipe, dict)
            for job_id, job in zip(jobs, hashes, strict=True):
                entry: Any = encoding.text(job.get(b"cb_entry"))
                entry = entry if _ENTRY.fullmatch(entry) else "0-1"  # no record has that one
                pipe.xrange(f"{key}:results", entry, entry)
                pipe.xrevrange(encoding.named(f"rq:results:{job_id}"), count=1)
            rows = found(pipe, list)
        return zip(jobs, hashes, rows[::2], rows[1::2], strict=True)

    def retry(self, ensemble: str, *, fingerprint: str = "", cancelled: bool = False) -> int:
        """Queue failed jobs again, all or those of one fingerprint, or the cancelled ones; how many.

        EnsembleError for an ensemble that ended before all its jobs were there: it would look whole.
        """
        state, sealed, retries = cast(
            "list[bytes | None]", self._redis.hmget(f"cb:ens:{ensemble}", ["state", "sealed", "retries"])
        )
        if state in {b"cancelled", b"failed"} and not sealed:
            verb = "was cancelled" if state == b"cancelled" else "failed"
            raise EnsembleError(f"{ensemble} {verb} before it was complete: submit it again")
        return self._queue_again(ensemble, "canceled" if cancelled else "failed", fingerprint, retries)

    def _queue_again(self, ensemble: str, status: str, fingerprint: str, retries: bytes | None) -> int:
        return sum(
            int(self._call("retry", ensemble, status, fingerprint, retries or 0, first, SLICE))
            for first in range(0, self.status(ensemble).total, SLICE)
        )

    def upgrade(self, ensemble: str, payload: str, *, rerun_failed: bool = False) -> int:
        """Let the jobs that have not started run on another payload, given by its digest; how many.

        Jobs that failed only because the whole ensemble did are among them; ``rerun_failed``: so are all that
        failed. May be repeated. EnsembleError when there is nothing left to run, or it cannot go on.
        """
        refusal, waiting, again = self._call("upgrade", ensemble, payload, int(rerun_failed))
        if refusal:
            raise EnsembleError(_NO_UPGRADE[refusal.decode()].format(ensemble=ensemble, failed=again))
        if not again:
            return int(waiting)
        retries = cast("bytes | None", self._redis.hget(f"cb:ens:{ensemble}", "retries"))
        fingerprint = "" if rerun_failed else names.FINGERPRINT_ENSEMBLE
        return int(waiting) + self._queue_again(ensemble, "failed", fingerprint, retries)

    def cancel(self, ensemble: str) -> int:
        """Cancel all jobs that are not final, the running ones too; returns how many.

        An ensemble that is complete stays what it is.
        """
        return self._close(ensemble, "cancelled", "cancelled", running=True)

    def fail(self, ensemble: str, error: str, *, payload: str | None = None) -> int:
        """Fail all waiting jobs, because none of them can run; returns how many.

        An ensemble that is complete stays what it is, unless all its jobs have failed. With a ``payload``
        (digest, or ""), only as long as it is the ensemble's.
        """
        return self._close(
            ensemble, "failed", error, running=False, payload="-" if payload is None else payload
        )

    def _close(
        self,
        ensemble: str,
        state: Literal["cancelled", "failed"],
        reason: str,
        *,
        running: bool,
        payload: str = "-",
    ) -> int:
        closed = first = 0
        total = 1  # at least one call, for an ensemble without jobs: its state changes all the same
        exception = encoding.exception(reason)
        while first < total:
            args = (int(running), first, SLICE, exception, payload)
            slice_ = int(self._call("close", ensemble, state, reason, *args))
            if slice_ < 0:  # it was complete
                return closed
            closed += slice_
            first += SLICE
            total = self.status(ensemble).total  # which is final from the first call on
        self._withdraw(ensemble)
        return closed

    def _withdraw(self, ensemble: str) -> None:
        """Remove ids of closed jobs from both ends of the queue's list; workers drop those in its middle."""
        for end in ("tail", "head"):
            kept = 0
            while kept < WITHDRAW_BEHIND:
                removed, stayed = self._call("withdraw", ensemble, end, kept, WITHDRAW_SLICE)
                kept += stayed
                if removed + stayed == 0:
                    return


def _status(ensemble: str, raw: dict[bytes, bytes]) -> EnsembleStatus:
    """From its hash; what is missing there, or cannot be read, is nothing: the audit says what is wrong."""
    text = {encoding.text(key): encoding.text(value) for key, value in raw.items()}
    counters = ("submitted", "running", "finished", "failed", "cancelled")
    count = {name: encoding.whole(raw.get(name.encode())) for name in counters}
    ended = count["finished"] + count["failed"] + count["cancelled"]
    return EnsembleStatus(
        id=ensemble,
        name=text.get("name", ""),
        state=state_of(text.get("state", ""), ended=ended >= count["submitted"]),
        payload=text.get("payload", ""),
        function=text.get("function", ""),
        total=count["submitted"],
        waiting=count["submitted"] - count["running"] - ended,
        running=count["running"],
        finished=count["finished"],
        failed=count["failed"],
        cancelled=count["cancelled"],
        created_at=encoding.number(text.get("created_at")),
        error=text.get("error", ""),
        note=text.get("note", ""),
        appended_at=encoding.number(text.get("appended_at", text.get("created_at"))),
        seed=seeds.recorded(raw.get(b"seed"), encoding.named(ensemble)),
        warnings=tuple(text.get("warnings", "").splitlines()),
    )


def state_of(written: str, *, ended: bool) -> EnsembleState:
    """The state of an ensemble whose hash has ``written``: "open" there says that it has all its jobs.

    ``ended``: whether each of them has ended.
    """
    if written in {"submitting", "failed", "cancelled"}:
        return cast(EnsembleState, written)
    return "done" if ended else "running"


def _settings(spec: EnsembleSpec) -> dict[str, str | int]:
    """What is fixed when an ensemble begins, as its hash holds it."""
    return {
        "function": spec.function,
        "payload": spec.payload,
        "queue": spec.queue,
        "timeout": spec.timeout_s or -1,
        "retries": spec.retries,
        "max_attempts": spec.max_attempts,
    }


def _failure(fingerprint: str, count: int, example: _Example) -> FailureGroup:
    job_id, job, records, results = example
    return FailureGroup(
        fingerprint=fingerprint,
        count=count,
        job_id=job_id,
        index=encoding.whole(job.get(b"cb_index"), -1),
        error=encoding.text(records[0][1].get(b"error")) if records else "",
        traceback=encoding.exception_text(results[0][1].get(b"exc_string", b"")) if results else "",
        output=encoding.output_text(job.get(b"cb_output")),
        description=encoding.description(job.get(b"data", b"")),
    )
