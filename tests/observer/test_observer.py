"""What workers and the observer write about the stack, in a real database."""

from __future__ import annotations

import signal
import time

import pytest
import redis

from cloudburst import names
from cloudburst.config import ObserverConfig
from cloudburst.errors import ConfigError
from cloudburst.model import EnsembleSpec
from cloudburst.observer.ensembles import YOUNG_S, EnsemblePoints, interval
from cloudburst.observer.failures import KINDS, READ
from cloudburst.observer.rounds import Rounds
from cloudburst.rqwire import readings
from cloudburst.rqwire.ensembles import Ensembles
from cloudburst.rqwire.leases import Leases, Outcome
from cloudburst.rqwire.workers import workers
from tests.conftest import RedisServer
from tests.observer.conftest import Observed
from tests.wait import wait_until


def newest(observed: Observed, measurement: str, where: str = "") -> dict:
    """The latest point of a measurement; {} when there is none."""
    condition = f"WHERE {where}" if where else ""
    rows = observed.influx.rows(f'SELECT * FROM "{measurement}" {condition} ORDER BY time DESC LIMIT 1')
    return rows[0] if rows else {}


def of(ensemble: str) -> str:
    return f"\"ensemble\" = '{ensemble}'"


def test_what_is_written_is_what_names_say(observed):
    observed.run("worker.add", {"a": 1, "b": 2})
    observed.run("worker.say", {"n": 1})

    def complete() -> bool:
        return all(newest(observed, measurement) for measurement in names.OBSERVED)

    wait_until(complete, 20, "all measurements")
    for measurement, (tags, fields) in names.OBSERVED.items():
        found = {row["tagKey"] for row in observed.influx.rows(f'SHOW TAG KEYS FROM "{measurement}"')}
        assert found == set(tags), measurement
        found = {row["fieldKey"] for row in observed.influx.rows(f'SHOW FIELD KEYS FROM "{measurement}"')}
        assert found == set(fields), measurement


def test_a_node_writes_how_it_is_and_shows_it_to_others(observed):
    observed.run("worker.add", *({"a": n, "b": 1} for n in range(30)))

    node = wait_until(lambda: newest(observed, names.MEASUREMENT_NODE), what="a point of the node")
    ended = observed.influx.rows('SELECT sum("jobs_ended") AS "jobs" FROM "cloudburst_node"')[0]["jobs"]
    (worker,) = workers(observed.redis)

    assert node["node"] == "a"
    assert node["slots"] == 2
    assert 0 <= node["cpu_percent"] <= 100
    assert 0 < node["memory_used_bytes"] < node["memory_total_bytes"]
    assert 0 < node["disk_free_bytes"] < node["disk_total_bytes"]
    wait_until(lambda: newest(observed, names.MEASUREMENT_NODE)["environments_bytes"] > 0, 20)
    assert ended >= 0
    assert worker.reading is not None
    assert worker.reading.memory_total_bytes == node["memory_total_bytes"]


def test_an_ensemble_is_followed_and_its_end_is_written_once(observed):
    ensemble = observed.submit("worker.add", *({"a": n, "b": 1} for n in range(40)))
    records = observed.wait(ensemble)

    def done() -> dict | None:
        point = newest(observed, names.MEASUREMENT_ENSEMBLE, of(ensemble))
        return point if point and point["state"] == "done" else None

    end = wait_until(done, what="the end of the ensemble")
    points = observed.influx.rows(f'SELECT * FROM "cloudburst_ensemble" WHERE {of(ensemble)}')
    time.sleep(1.2)  # two more rounds, which must not write it again

    assert end["total"] == end["finished"] == end["ended"] == 40
    assert end["waiting"] == end["running"] == end["failed"] == 0
    assert end["progress_percent"] == 100
    assert end["left_s"] == 0
    assert end["jobs_per_s"] > 0
    assert end["jobs_per_dot"] == "1u"
    assert points[0]["total"] == 0, "its curve begins at nothing"
    last = max(record.started_at + record.duration_s for record in records)
    assert end["time"] / 1000 == pytest.approx(last, abs=3)
    assert observed.influx.rows(f'SELECT * FROM "cloudburst_ensemble" WHERE {of(ensemble)}') == points


def test_a_short_ensemble_is_measured_while_it_runs_and_as_soon_as_it_has_ended(observed):
    points = EnsemblePoints(observed.redis, "default")
    list(points.lines(time.time()))  # the round before

    ensemble = observed.submit("worker.sleep", *({"s": 0.5} for _ in range(4)))
    young = "\n".join(points.quick_lines(time.time()))
    observed.wait(ensemble)
    ended = "\n".join(points.quick_lines(time.time()))

    assert f"cloudburst_begun,ensemble={ensemble}" in young
    assert 'state="running"' in young
    assert 'state="done"' in ended
    assert list(points.quick_lines(time.time())) == []


def test_an_older_ensemble_waits_for_the_next_round_until_it_has_ended(observed):
    points = EnsemblePoints(observed.redis, "default")
    ensemble = observed.submit("worker.sleep", *({"s": 0.5} for _ in range(4)))
    later = time.time() + 2 * YOUNG_S

    list(points.lines(later))
    assert list(points.quick_lines(later + 1)) == []
    observed.wait(ensemble)
    assert 'state="done"' in "\n".join(points.quick_lines(later + 2))


def test_the_state_says_what_there_is_to_say(observed):
    note = "a package is installed"
    ensemble = observed.submit("worker.sleep", {"s": 0.5})
    observed.redis.hset(f"cb:ens:{ensemble}", "note", note)
    said = "\n".join(EnsemblePoints(observed.redis, "default").lines(time.time()))
    observed.wait(ensemble)

    assert f'state_said="running: {note}"' in said


def test_another_observer_writes_the_same_points_of_what_has_ended(observed):
    observed.run("worker.add", {"a": 1, "b": 2})

    first, second = (list(EnsemblePoints(observed.redis, "default").lines(time.time())) for _ in range(2))

    assert len(first) >= 3
    assert first == second


def test_failures_are_counted_by_fingerprint_and_gone_when_retried(observed):
    ensemble = observed.submit("worker.say", {"n": 1}, {"n": 2}, {"n": 1})
    observed.wait(ensemble)
    (group,) = observed.ensembles.failures(ensemble)

    def written(jobs: int) -> dict | None:
        point = newest(observed, names.MEASUREMENT_FAILURE, of(ensemble))
        return point if point and point["jobs"] == jobs else None

    point = wait_until(lambda: written(3), what="three failures")
    assert point["fingerprint"] == group.fingerprint
    assert "ValueError" in point["error"]


def test_the_queue_is_measured(observed):
    ensemble = observed.submit("worker.sleep", *({"s": 0.7} for _ in range(8)))

    def busy() -> dict | None:
        point = newest(observed, names.MEASUREMENT_QUEUE)
        # All fields: the database shows a point while it still takes over its last ones.
        whole = point and None not in point.values()
        return point if whole and point["slots_busy"] == 2 and point["waiting"] > 0 else None

    point = wait_until(busy, 20, what="a busy queue")
    observed.wait(ensemble)

    assert point["workers"] == 1
    assert point["slots"] == 2
    assert point["ensembles"] >= 1
    assert 0 < point["oldest_s"] < 60
    assert newest(observed, names.MEASUREMENT_REDIS)["aof_ok"] == 1
    assert newest(observed, names.MEASUREMENT_DISK)["free_bytes"] > 0


def test_it_survives_a_database_and_a_redis_that_are_away(observed):
    queue = names.MEASUREMENT_QUEUE
    wait_until(lambda: newest(observed, queue), what="a first point")
    observed.influx.stop()
    stopped_ms = time.time() * 1000
    time.sleep(2)
    observed.influx.start()
    started_ms = time.time() * 1000

    def kept() -> list[dict]:
        times = f"time > {stopped_ms + 500:.0f}ms AND time < {started_ms - 500:.0f}ms"
        return observed.influx.rows(f'SELECT "waiting" FROM "{queue}" WHERE {times}')

    wait_until(kept, 20, "what was measured while the database was away")

    observed.redis_server.kill()
    killed_ms = time.time() * 1000
    wait_until(lambda: newest(observed, names.MEASUREMENT_DISK)["time"] > killed_ms + 500, 20, "the disk")
    observed.start_redis()
    back_ms = time.time() * 1000
    wait_until(lambda: newest(observed, queue)["time"] > back_ms, 20, "the queue")
    assert "Traceback" not in observed.log("observer")


def test_lost_leases_and_jobs_set_aside_are_counted(redis_server: RedisServer):
    client = redis_server.client()
    ensembles = Ensembles(client)
    ensemble = ensembles.create(EnsembleSpec("lost", "worker.work", "", max_attempts=2))
    ensembles.append(ensemble, "worker.work", 0, [b"{}"])
    leases = Leases(client, queue="default", worker="w", node="n", lease_s=1)

    def now() -> tuple[int, int, int]:
        leases.reap()
        reading, _ = readings.read(client, "default")
        return reading.running, reading.leases_lost, reading.jobs_set_aside

    assert now() == (0, 0, 0)
    leases.claim(1)
    assert now() == (1, 0, 0)
    wait_until(lambda: now() == (0, 1, 0), what="a lost lease")
    leases.claim(1)
    wait_until(lambda: now() == (0, 2, 1), what="another one, the last that the job may lose")


def test_a_round_costs_the_same_with_many_jobs_and_kinds_of_failures(redis_server: RedisServer):
    client = redis_server.client()
    ensembles = Ensembles(client)
    jobs = 5 * READ
    ensemble = ensembles.create(EnsembleSpec("many", "worker.work", ""))
    ensembles.append(ensemble, "worker.work", 0, [b"{}"] * jobs)
    ensembles.seal(ensemble)
    leases = Leases(client, queue="default", worker="w", node="n", lease_s=60)
    claims = leases.claim(jobs)
    for first in range(0, jobs, READ):
        some = claims[first : first + READ]
        leases.finish(
            [Outcome(claim, "failed", 0.0, 0.1, error="E", fingerprint=claim.job_id) for claim in some]
        )
    rounds = Rounds(client, ObserverConfig("", "", "", "", ""))
    list(rounds.lines(time.time()))
    client.hset(f"cb:ens:{ensemble}", "note", "so that it is written again")
    before = client.info("commandstats")
    lines = list(rounds.lines(time.time()))
    after = client.info("commandstats")

    assert len([text for text in lines if text.startswith(names.MEASUREMENT_FAILURE)]) == KINDS + 1
    calls = {
        name: values["calls"] - before.get(name, {"calls": 0})["calls"] for name, values in after.items()
    }
    assert sum(calls.values()) < 40
    assert not {"cmdstat_keys", "cmdstat_scan"} & calls.keys()


@pytest.mark.parametrize(
    ("jobs", "dot"), [(0, "1u"), (2000, "1u"), (2001, "10u"), (1_000_000, "1000u"), (3_000_000, "10000u")]
)
def test_a_picture_of_results_has_at_most_2000_dots(jobs, dot):
    assert interval(jobs) == dot


@pytest.mark.parametrize("missing", ["CLOUDBURST_REDIS_URL", "INFLUX_URL"])
def test_what_is_not_set_is_named(missing):
    environ = {"CLOUDBURST_REDIS_URL": "redis://h", "INFLUX_URL": "http://h"}

    with pytest.raises(ConfigError, match=missing):
        ObserverConfig.from_environ(environ | {missing: ""})


def test_it_stops_when_it_is_told(observed):
    process = observed.processes[-1]
    assert process.poll() is None

    process.send_signal(signal.SIGTERM)

    assert process.wait(5) == 0
    observed.observer()


def test_redis_is_reached_only_when_it_answers(observed):
    with pytest.raises(redis.RedisError):
        readings.read(redis.Redis(port=1), "default")
