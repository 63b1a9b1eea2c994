"""The records of ensembles, and what they say that their jobs ran on."""

from __future__ import annotations

import logging
from typing import Any, cast, get_args

import redis

from cloudburst import nested
from cloudburst.errors import QueueError
from cloudburst.model import JobRecord, JobState, Provenance
from cloudburst.rqwire import encoding
from cloudburst.rqwire.connection import Redis

log = logging.getLogger(__name__)


class Records:
    """Reads result streams. What the number in a record stands for is never changed, so it is read once.

    What is no record is left out, with a warning, once; QueueError names a key that cannot be read at all.
    """

    def __init__(self, client: Redis) -> None:
        self._redis = client
        self._told: set[bytes] = set()
        """Entries that are no records."""
        self._ran_on: dict[str, dict[int, Provenance]] = {}
        """Of each ensemble what numbers in its records stand for, as far as it was read."""

    def page(self, ensemble: str, after: str, *, block_s: float, count: int) -> list[tuple[str, JobRecord]]:
        """Up to ``count`` records behind the entry ``after``, with their entries; waits up to ``block_s``."""
        key = f"cb:ens:{ensemble}:results"
        block = int(block_s * 1000) or None
        while rows := self._rows(key, after, block, count):
            page = []
            for entry, fields in rows:
                record = _record(fields, self._payload(ensemble, _ran(fields)))
                if record is not None:
                    page.append((entry.decode(), record))
                elif entry not in self._told:
                    self._told.add(entry)
                    log.warning("%s: entry %s is no record: it is left out", key, entry.decode())
            if page:
                return page
            after = rows[-1][0].decode()  # none of these was one
        return []

    def _rows(self, key: str, after: str, block: int | None, count: int) -> list[tuple[bytes, _Fields]]:
        try:
            reply = cast("Any", self._redis.xread({key: after}, count=count, block=block))
        except redis.ResponseError as error:
            raise _unreadable(key, "a stream", error) from error
        if not reply:
            return []
        rows = reply[0][1] if isinstance(reply, list) else next(iter(reply.values()))[0]
        return cast("list[tuple[bytes, _Fields]]", rows)

    def provenance(self, ensemble: str) -> list[tuple[Provenance, dict[JobState, int]]]:
        """What its jobs ran on, in the order of the first records, each with how many records per state.

        Not counted are records of jobs that never started, or were lost with their worker each time.
        """
        counts: dict[int, dict[JobState, int]] = {}
        for field, raw in self._hash(f"cb:ens:{ensemble}:ran").items():
            number, _, state = field.partition(b":")
            count = encoding.whole(raw)
            if number.isdigit() and count > 0 and encoding.text(state) in get_args(JobState):
                by_state = counts.setdefault(encoding.whole(number, -1), {})
                by_state[cast(JobState, encoding.text(state))] = count
        if counts.keys() - self._ran_on.get(ensemble, {}).keys():
            self._read_provenance(ensemble)
        known = self._ran_on.get(ensemble, {})
        return [(known[number], counts[number]) for number in sorted(counts) if number in known]

    def _payload(self, ensemble: str, number: bytes) -> str:
        """The digest of the payload that a number in a record stands for."""
        wanted = encoding.whole(number, -1)
        if wanted < 0:
            return ""
        if wanted not in self._ran_on.get(ensemble, {}):
            self._read_provenance(ensemble)
        found = self._ran_on[ensemble].get(wanted)
        return found.payload if found else ""

    def _read_provenance(self, ensemble: str) -> None:
        texts = self._hash(f"cb:ens:{ensemble}:provenance").items()
        read = {encoding.whole(number, -1): Provenance.from_json(text) for text, number in texts}
        self._ran_on[ensemble] = {number: ran_on for number, ran_on in read.items() if ran_on is not None}

    def _hash(self, key: str) -> _Fields:
        try:
            return cast("_Fields", self._redis.hgetall(key))
        except redis.ResponseError as error:
            raise _unreadable(key, "a hash", error) from error


_Fields = dict[bytes, bytes]


def _unreadable(key: str, kind: str, error: redis.ResponseError) -> Exception:
    if "WRONGTYPE" not in str(error):
        return error
    return QueueError(f"{key} should be {kind}, and is something else: `cloudburst audit --repair`")


def _ran(fields: _Fields) -> bytes:
    """The number of what a record's job ran on, "" for none; most have number 0, and do not say so."""
    return fields.get(b"ran", b"0")


def _record(fields: _Fields, payload: str) -> JobRecord | None:
    """None for what no worker has written; what is wrong in a part of it counts as missing."""
    index, state = fields.get(b"index", b""), encoding.text(fields.get(b"state"))
    if not index.isdigit() or len(index) > encoding.MOST_DIGITS or state not in get_args(JobState):
        return None
    return JobRecord(
        index=int(index),
        job_id=encoding.text(fields.get(b"job")),
        state=cast(JobState, state),
        attempt=encoding.whole(fields.get(b"attempt")),
        node=encoding.text(fields.get(b"node")),
        started_at=encoding.number(fields.get(b"started_ms")) / 1000,
        duration_s=encoding.number(fields.get(b"duration_ms")) / 1000,
        value=nested.read(value) if (value := fields.get(b"value")) else None,
        error=encoding.text(fields.get(b"error")),
        fingerprint=encoding.text(fields.get(b"fingerprint")),
        description=encoding.description(fields.get(b"data", b"")),
        payload=payload,
    )
