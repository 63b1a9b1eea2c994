"""The tests' own bookkeeping: what must hold in Redis once all ensembles have ended.

It reads keys as they are and knows nothing of the scripts, so that a mistake in them is not repeated here.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import redis

from cloudburst.model import JobRecord
from tests.chaos import hostile_jobs

STATES = ("finished", "failed", "cancelled")


def breaches(client: redis.Redis, *, queue: str = "default", spoiled: Collection[str] = ()) -> list[str]:
    """Everything that is wrong, in words; empty when each accepted job has exactly one record.

    ``spoiled`` are stock jobs whose hashes are not what they should be: of them nothing is asked here.
    """
    found: list[str] = []
    records: dict[str, dict[str, str]] = {}
    for ensemble in client.zrange("cb:ensembles", 0, -1):
        found += _ensemble(client, ensemble.decode(), records)
    found += _leftovers(client, queue)
    found += _jobs(client, queue, records, spoiled)
    return found


def wrong(descriptions: Sequence[dict[str, Any]], records: Iterable[JobRecord]) -> list[str]:
    """Records that do not say what their jobs did: those of good jobs exactly, of hostile ones roughly."""
    found = []
    for record in records:
        asked = descriptions[record.index]
        value = record.value
        match asked.get("what", "work"):
            case "hostile":
                right = record.state in hostile_jobs.KINDS[asked["kind"]]
            case "executor":
                right = record.state == "failed"
            case _ if asked.get("fail"):
                right = record.state == "failed" and "told to fail" in record.error
            case _:
                right = record.state == "finished" and value == _returned(asked)
        if not right:
            what = record.error[:200] or repr(value)[:200]
            found.append(f"{record.job_id} ({asked.get('kind', 'good')}): {record.state}, {what}")
    return found


def _returned(asked: dict[str, Any]) -> dict[str, Any]:
    """What ``among_hostile_ones`` of the payload returns for that description."""
    text = json.dumps(asked, sort_keys=True)
    return {"n": asked["n"], "sum": zlib.crc32(text.encode()), "peak": float(asked["n"]), "left": []}


def _ensemble(client: redis.Redis, ensemble: str, records: dict[str, dict[str, str]]) -> list[str]:
    """Final records against accepted jobs, and counters against records."""
    spec = _text(client.hgetall(f"cb:ens:{ensemble}"))
    accepted = {f"{ensemble}-{index}" for index in range(int(spec["submitted"]))}
    found = []
    entries: Counter[str] = Counter()
    states: Counter[str] = Counter()
    fingerprints: Counter[str] = Counter()
    for entry, raw in client.xrange(f"cb:ens:{ensemble}:results"):
        record = _text(raw)
        job = record["job"]
        entries[job] += 1
        states[record["state"]] += 1
        records[job] = record | {"entry": entry.decode()}
        if job != f"{ensemble}-{record['index']}":
            found.append(f"{job}: its record has index {record['index']}")
        if not 0 <= int(record["attempt"]) <= int(spec["max_attempts"]):
            found.append(f"{job}: attempt {record['attempt']}, at most {spec['max_attempts']} are allowed")
        if record["state"] == "finished" and int(record["attempt"]) < 1:
            found.append(f"{job}: finished without an attempt")
        if record["state"] == "failed":
            fingerprints[record["fingerprint"]] += 1
    found += [f"{job}: {n} records" for job, n in entries.items() if n > 1]
    found += [f"{job}: lost, it has no record" for job in sorted(accepted - set(entries))]
    found += [f"{job}: recorded, but never accepted" for job in sorted(set(entries) - accepted)]
    for state in STATES:
        if int(spec.get(state, 0)) != states[state]:
            found.append(f"{ensemble}: counts {spec.get(state, 0)} {state}, has {states[state]} records")
    if int(spec.get("running", 0)) != 0:
        found.append(f"{ensemble}: counts {spec['running']} running when none is")
    failures = {name: int(n) for name, n in _text(client.hgetall(f"cb:ens:{ensemble}:failures")).items()}
    if failures != dict(fingerprints):
        found.append(f"{ensemble}: failures are counted as {failures}, recorded as {dict(fingerprints)}")
    examples = _text(client.hgetall(f"cb:ens:{ensemble}:examples"))
    if set(examples) != set(fingerprints):
        found.append(f"{ensemble}: has examples of {set(examples)}, not of {set(fingerprints)}")
    return found


def _leftovers(client: redis.Redis, queue: str) -> list[str]:
    """Places in which only jobs that are not final may be."""
    places: dict[str, list[bytes]] = {
        f"rq:queue:{queue}": client.lrange(f"rq:queue:{queue}", 0, -1),
        **{
            key: client.zrange(key, 0, -1)
            for key in (f"cb:lease:{queue}", f"rq:wip:{queue}", f"rq:scheduled:{queue}")
        },
    }
    return [f"{place}: still holds {b' '.join(ids[:5]).decode()}" for place, ids in places.items() if ids]


def _jobs(
    client: redis.Redis, queue: str, records: dict[str, dict[str, str]], spoiled: Collection[str]
) -> list[str]:
    """Job hashes and stock registries against records; hashes of finished jobs may be forgotten."""
    found = []
    registered = {
        "finished": _ids(client, f"rq:finished:{queue}"),
        "failed": _ids(client, f"rq:failed:{queue}"),
        "canceled": _ids(client, f"rq:canceled:{queue}"),
    }
    for job, record in records.items():
        raw = _text(client.hgetall(f"rq:job:{job}"))
        status = {"cancelled": "canceled"}.get(record["state"], record["state"])
        if raw:
            if raw["status"] != status:
                found.append(f"{job}: status {raw['status']}, recorded as {record['state']}")
            if raw.get("cb_entry") != record["entry"]:
                found.append(
                    f"{job}: points at record {raw.get('cb_entry')}, its record is {record['entry']}"
                )
        elif status != "finished":
            found.append(f"{job}: {status}, but its hash is gone")
        for registry, ids in registered.items():
            wanted = registry == status and bool(raw)
            if (job in ids) != wanted:
                found.append(f"{job}: {status}, {'not in' if wanted else 'in'} rq:{registry}:{queue}")
        if raw and status == "failed":  # RQ keeps the results of earlier runs: the last one counts
            latest = client.xrevrange(f"rq:results:{job}", count=1)
            if not latest or _text(latest[0][1])["type"] != "2":
                found.append(f"{job}: {status}, but its last entry in rq:results is {latest}")
    for key in client.scan_iter("rq:job:*", count=1000):
        job = key.decode().removeprefix("rq:job:")
        if job.removesuffix(":dependents") in spoiled:
            continue
        status = client.hget(key, "status")
        if job not in records and client.hexists(key, "cb_ens"):
            found.append(f"{job}: stuck, its status is {status!r} and it has no record")
    return found


def _ids(client: redis.Redis, key: str) -> set[str]:
    return {member.decode() for member in client.zrange(key, 0, -1)}


def _text(raw: dict[bytes, bytes]) -> dict[str, Any]:
    """Fields as text; what is not text (captured output) is not looked at."""
    return {name.decode(): value.decode("utf-8", "replace") for name, value in raw.items()}
