"""The records of ensembles, and what they say that their jobs ran on."""

from __future__ import annotations

from typing import Any, cast

from cloudburst import nested
from cloudburst.model import JobRecord, JobState, Provenance
from cloudburst.rqwire import encoding
from cloudburst.rqwire.connection import Redis


class Records:
    """Reads result streams. What the number in a record stands for is never changed, so it is read once."""

    def __init__(self, client: Redis) -> None:
        self._redis = client
        self._ran_on: dict[str, dict[int, Provenance]] = {}
        """Of each ensemble what numbers in its records stand for, as far as it was read."""

    def page(self, ensemble: str, after: str, *, block_s: float, count: int) -> list[tuple[str, JobRecord]]:
        """Up to ``count`` records behind the entry ``after``, with their entries; waits up to ``block_s``."""
        block = int(block_s * 1000) or None
        reply = cast(
            "Any", self._redis.xread({f"cb:ens:{ensemble}:results": after}, count=count, block=block)
        )
        if not reply:
            return []
        rows = reply[0][1] if isinstance(reply, list) else next(iter(reply.values()))[0]
        return [
            (entry.decode(), _record(fields, self._payload(ensemble, _ran(fields)))) for entry, fields in rows
        ]

    def provenance(self, ensemble: str) -> list[tuple[Provenance, dict[JobState, int]]]:
        """What its jobs ran on, in the order of the first records, each with how many records per state.

        Not counted are records of jobs that never started, or were lost with their worker each time.
        """
        counts: dict[int, dict[JobState, int]] = {}
        ran = cast("dict[bytes, bytes]", self._redis.hgetall(f"cb:ens:{ensemble}:ran"))
        for field, count in ran.items():
            number, _, state = field.decode().partition(":")
            if number and int(count):
                counts.setdefault(int(number), {})[cast(JobState, state)] = int(count)
        if counts.keys() - self._ran_on.get(ensemble, {}).keys():
            self._read_provenance(ensemble)
        return [(self._ran_on[ensemble][number], counts[number]) for number in sorted(counts)]

    def _payload(self, ensemble: str, number: str) -> str:
        """The digest of the payload that a number in a record stands for."""
        if not number:
            return ""
        if int(number) not in self._ran_on.get(ensemble, {}):
            self._read_provenance(ensemble)
        return self._ran_on[ensemble][int(number)].payload

    def _read_provenance(self, ensemble: str) -> None:
        texts = cast("dict[bytes, bytes]", self._redis.hgetall(f"cb:ens:{ensemble}:provenance"))
        self._ran_on[ensemble] = {int(number): Provenance.from_json(text) for text, number in texts.items()}


def _ran(fields: dict[bytes, bytes]) -> str:
    """The number of what a record's job ran on, "" for none; most have number 0, and do not say so."""
    return fields.get(b"ran", b"0").decode()


def _record(fields: dict[bytes, bytes], payload: str) -> JobRecord:
    value = fields[b"value"]
    return JobRecord(
        index=int(fields[b"index"]),
        job_id=fields[b"job"].decode(),
        state=cast(JobState, fields[b"state"].decode()),
        attempt=int(fields[b"attempt"]),
        node=fields[b"node"].decode(),
        started_at=int(fields[b"started_ms"]) / 1000,
        duration_s=float(fields[b"duration_ms"]) / 1000,
        value=nested.read(value) if value else None,
        error=fields[b"error"].decode("utf-8", "replace"),
        fingerprint=fields[b"fingerprint"].decode(),
        description=encoding.description(fields[b"data"]),
        payload=payload,
    )
