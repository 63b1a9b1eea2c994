"""Does looking at an ensemble cost more when it is larger?

``status`` is what one refresh of ``cloudburst status`` and ``watch`` reads, ``audit counters`` the part of
an audit that is compared at once; both of an ensemble of a million jobs and of one of a thousand, half of
whose jobs have finished. The peer is what a stock RQ client does that wants to know how far it is:
``Job.fetch_many``, of the thousand jobs only. ``audit`` is the proof, job by job, which also walks all that
wait in the queue: its time grows with the jobs, its steps stay short. Writes
benchmarks/results/counters.json.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import redis
from rq.job import Job
from rq.serializers import JSONSerializer

import measure
import payloads
import services
from cloudburst.model import EnsembleSpec
from cloudburst.rqwire.ensembles import Ensembles, encode_description
from cloudburst.rqwire.leases import Leases, Outcome
from cloudburst.rqwire.ledger import Ledger

SMALL = 1000
TIMES = 300
LARGE, OTHER = "large", "small"
GOALS = [
    measure.Goal("status of the large ensemble", "status us", 1.3, 1.1, LARGE, OTHER, higher=False),
    measure.Goal("audit counters of the large one", "counters us", 1.3, 1.1, LARGE, OTHER, higher=False),
    measure.Goal("audit, job by job", "audit us/job", ours=LARGE, higher=False, peers=()),
    measure.Goal("one step of an audit in Redis", "step ms", ours=LARGE, higher=False, peers=()),
]


def main() -> None:
    options = measure.arguments(__doc__, jobs=1_000_000).parse_args()
    with services.bare_redis() as server:
        ensembles = {
            name: half_done(server.client, jobs) for name, jobs in ((OTHER, SMALL), (LARGE, options.jobs))
        }
        ways: dict[str, Callable[[], measure.Values]] = {
            LARGE: partial(looked_at, server, ensembles[LARGE], options.jobs),
            OTHER: partial(looked_at, server, ensembles[OTHER], SMALL),
            "rq fetch_many": partial(fetched, server.client, ensembles[OTHER]),
        }
        runs = measure.interleave(ways, options.repeats)
        memory: Any = server.client.info("memory")
        facts = {
            "client MB after audits": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
            "Redis MB": memory["used_memory"] / 1e6,
        }
        version = server.version
    measure.report("counters", GOALS, runs, options, versions={"redis-server": version}, facts=facts)


def half_done(client: redis.Redis, jobs: int) -> str:
    """An ensemble, half of whose jobs have finished; none of them in the list of the next one."""
    ensembles = Ensembles(client)
    ensemble = ensembles.create(EnsembleSpec(name="e", function="worker.noop", payload=""))
    chunk: list[bytes] = []
    first = 0
    for description in payloads.descriptions(jobs):
        chunk.append(encode_description(description, 0))
        if len(chunk) == SMALL:
            first = ensembles.append(ensemble, "worker.noop", first, chunk)
            chunk = []
    ensembles.seal(ensemble)
    leases = Leases(client, queue="default", worker="w", node="n", lease_s=3600)
    before = ensembles.status(ensemble).finished
    while ensembles.status(ensemble).finished < before + jobs // 2:
        claims = leases.claim(250)
        leases.finish([Outcome(claim, "finished", 1e9, 0.001, value=b'{"a":1.5}') for claim in claims])
    return ensemble


def looked_at(server: services.Redis, ensemble: str, jobs: int) -> measure.Values:
    ensembles, ledger = Ensembles(server.client), Ledger(server.client)
    values = {
        "status us": _each_us(lambda: ensembles.status(ensemble)),
        "counters us": _each_us(lambda: ledger.counters(ensemble)),
    }
    usage = services.Usage(server.client)
    account = ledger.ensemble(ensemble)
    spent = usage.since()
    if account.breach_count or account.placed != jobs:
        raise SystemExit(f"the audit found {account}")
    steps = usage.commands()["evalsha"]["calls"]
    values |= {"audit us/job": spent["seconds"] * 1e6 / jobs, "step ms": spent["cpu_s"] * 1e3 / steps}
    return values


def fetched(client: redis.Redis, ensemble: str) -> measure.Values:
    ids = [f"{ensemble}-{index}" for index in range(SMALL)]

    def fetch() -> None:
        jobs = Job.fetch_many(ids, connection=client, serializer=JSONSerializer)
        sum(job is not None and job.get_status(refresh=False) == "finished" for job in jobs)

    return {"status us": _each_us(fetch, 5)}


def _each_us(call: Callable[[], object], times: int = TIMES) -> float:
    began = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - began) / times * 1e6


if __name__ == "__main__":
    main()
