"""What can a clumsy query, or the points of one job, do to the rest of a master?

InfluxDB 2 (its program: CLOUDBURST_TEST_INFLUXD) as a deployment has it: settings, memory, buckets, gateway;
beside it a Redis and a file store. Under each load, four things are asked for every 100 ms: Redis' PING, the
file store's health, a write of one point of another ensemble, a cheap query. When the kernel ends InfluxDB it
is started again after two seconds, as by Swarm. Needs root, for a control group. Writes results/guard.json.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

import requests

import measure
import services

sys.path.append(str(Path(__file__).resolve().parents[1]))
from cloudburst import names
from cloudburst.points.database import Away, Database, Login
from cloudburst.stack.swarm.buckets import SHARD_S
from tests import influx as database
from tests.certificates import Authority
from tests.gateway.conftest import READ, WRITE, Gateway, bearer, started
from tests.influx2 import Influx2

YEAR_NS = 31_557_600 * 10**9
INFLUXQL = (
    "SELECT count(x) FROM m WHERE time > '1700-01-01' AND time < '2200-01-01' GROUP BY time({}) fill(0)"
)
FLUX = (
    'from(bucket: "cloudburst") |> range(start: 1700-01-01T00:00:00Z, stop: 2200-01-01T00:00:00Z)'
    " |> window(every: {}, createEmpty: true) |> count()"
)
QUERIES = {
    "InfluxQL by second": INFLUXQL.format("1s"),
    "InfluxQL by month": INFLUXQL.format("30d"),
    "Flux by second": FLUX.format("1s"),
    "Flux by month": FLUX.format("1mo"),
}
LAST = "SELECT last(n) FROM probe WHERE time > now() - 10m"
HOURS, TAGS = "250 years of hours", "200,000 values of a tag"
GOALS = [
    measure.Goal(
        f"{who}, {load}", f"longest {what} ms", ours=load, must=1000, higher=False, peers=["nothing"]
    )
    for load in (*QUERIES, HOURS, TAGS)
    for what, who in (("ping", "Redis"), ("file", "file store"))
]
V1 = Path("/sys/fs/cgroup/memory")
GROUP = (V1 if V1.exists() else V1.parent) / "cloudburst-guard"


class Influx(Influx2):
    """In a control group of its own; started again whenever the kernel ends it."""

    ended = 0

    def prepare(self) -> None:
        GROUP.mkdir(exist_ok=True)
        (GROUP / ("memory.limit_in_bytes" if V1.exists() else "memory.max")).write_text(str(2 << 30))
        program = self.directory / "influxd"
        enter = f"echo $$ >{GROUP}/cgroup.procs; echo 500 >/proc/self/oom_score_adj"
        program.write_text(f'#!/bin/sh\n{enter}; exec {database.REAL} "$@"\n')
        program.chmod(0o755)
        database.REAL = str(program)
        self.start()
        self.make(names.BUCKET_STACK)
        (bucket,) = self.ask("GET", f"buckets?name={names.BUCKET}")["buckets"]
        rule = {"type": "expire", "everySeconds": 0, "shardGroupDurationSeconds": SHARD_S}
        self.ask("PATCH", f"buckets/{bucket['id']}", json={"retentionRules": [rule]})
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while self._process and self._process.wait() == -9:
            self.ended += 1
            time.sleep(2)
            self._start()


def ask(method: str, url: str, **options: object) -> requests.Response:
    answer = requests.request(method, url, timeout=120, **options)  # type: ignore[arg-type]
    answer.raise_for_status()
    return answer


def query(gateway: Gateway, text: str) -> requests.Response:
    if text.startswith("SELECT"):
        asked = {"db": names.BUCKET, "q": text}
        return ask("GET", f"{gateway.inside}/query", headers=bearer(READ), params=asked)
    headers = bearer(READ) | {"Content-Type": "application/vnd.flux"}
    return ask("POST", f"{gateway.inside}/api/v2/query?org={names.ORG}", headers=headers, data=text)


def answered(question: Callable[[], object]) -> bool:
    with contextlib.suppress(requests.RequestException, Away):
        question()
        return True
    return False


def write(client: Database, lines: Iterator[str], _until: float = 0) -> None:
    """By what a worker writes with, 5,000 at a time, each until the database takes it."""
    while some := "\n".join(islice(lines, 5000)).encode():
        while not answered(partial(client.write, some)):
            time.sleep(0.5)


def again(question: Callable[[], object], until: float) -> None:
    while time.monotonic() < until:
        answered(question)


def own_mib() -> float:
    """The database's memory that is its own, not the disk's."""
    stat = dict(line.split() for line in (GROUP / "memory.stat").read_text().splitlines())
    return int(stat["total_rss" if V1.exists() else "anon"]) / (1 << 20)


def probe(question: Callable[[], object], over: threading.Event) -> Iterator[tuple[float, bool]]:
    while not over.wait(0.1):
        began = time.monotonic()
        good = answered(question)
        yield 1000 * (time.monotonic() - began), good


def under(
    load: Callable[[float], object], probes: dict[str, Callable[[], object]], influx: Influx, at_once: int = 1
) -> measure.Values:
    """What the probes took while ``load`` goes on in as many threads; it is told when to end."""
    over, ended, peak, began = threading.Event(), influx.ended, 0.0, time.monotonic()
    with ThreadPoolExecutor() as pool:
        probing = {name: pool.submit(list, probe(asked, over)) for name, asked in probes.items()}
        loads = [pool.submit(load, began + 45) for _ in range(at_once)]
        while not all(one.done() for one in loads):
            peak = max(peak, own_mib())
            time.sleep(0.1)
        values = {"s": time.monotonic() - began, "InfluxDB MiB": peak}
        over.set()
    services.until(lambda: answered(probes["query"]), "the database to answer", 300)
    values["InfluxDB ended"] = influx.ended - ended
    for name, future in probing.items():
        took = sorted(future.result())
        refused = sum(not good for _, good in took)
        values |= {f"longest {name} ms": took[-1][0], f"p99 {name} ms": took[len(took) * 99 // 100][0]}
        values |= {f"{name} asked": len(took), f"{name} refused": refused}
    return values


def main() -> None:
    options = measure.arguments(__doc__, jobs=2_190_000, repeats=1).parse_args()
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as ending:
        place = Path(directory)
        influx, redis = Influx(place), services.Redis(place / "redis")
        influx.prepare()
        ending.callback(influx.stop)
        ending.callback(redis.stop)
        (place / "gateway").mkdir()
        gateway = ending.enter_context(started(place / "gateway", Authority.make(place / "ca"), influx.port))
        services.until(lambda: gateway.tokens_made, "the database's tokens", 20)
        one, other = (
            Database(Login(gateway.inside, WRITE, names.ORG, names.BUCKET), timeout_s=60) for _ in range(2)
        )
        health = partial(ask, "GET", f"{gateway.outside}/health", verify=gateway.ca_file)
        probes = {
            "ping": redis.client.ping,
            "file": health,
            "write": lambda: other.write(f"probe,ensemble=other n=1 {time.time_ns()}".encode()),
            "query": partial(query, gateway, LAST),
        }
        write(one, (f"m,ensemble=e x=1 {year * YEAR_NS}" for year in range(-270, 230)))
        hours = (f"h,ensemble=h x={n} {n * 3600 * 10**9 - 220 * YEAR_NS}" for n in range(options.jobs))
        tags = (f"t,ensemble=t,job=j{n} x=1 {n}" for n in range(200_000))
        ways = {"nothing": partial(under, lambda _: time.sleep(20), probes, influx)}
        for name, text in QUERIES.items():
            load = partial(again, partial(query, gateway, text))
            ways[name] = partial(under, load, probes, influx, at_once=4)
        ways[HOURS] = partial(under, partial(write, one, hours), probes, influx)
        ways[TAGS] = partial(under, partial(write, one, tags), probes, influx)
        runs = measure.interleave(ways, options.repeats)
        found = query(gateway, "SELECT count(n) FROM probe").json()["results"][0]["series"][0]["values"][0][1]
        taken = sum(sum(way["write asked"]) - sum(way["write refused"]) for way in runs.values())
        measure.report("guard", GOALS, runs, options, facts={"points taken": taken, "points there": found})


if __name__ == "__main__":
    main()
