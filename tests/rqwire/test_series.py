"""Series of points are counted per ensemble, for all workers together, and refused beyond a limit."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import redis

from cloudburst.model import EnsembleSpec
from cloudburst.rqwire.ensembles import Ensembles
from cloudburst.rqwire.series import MOST_TAGS, Labels, SeriesCounts
from tests.conftest import RedisServer


@pytest.fixture
def counts(redis_server: RedisServer) -> SeriesCounts:
    return SeriesCounts(redis.Redis.from_url(redis_server.url_of("worker")), 50)


@pytest.fixture
def ensemble(ensembles: Ensembles) -> str:
    return ensembles.create(EnsembleSpec("e", "worker.work", "d" * 64))


def runs(values: Iterable[int], **tags: str) -> list[Labels]:
    return [(("", "flow"), *tags.items(), ("run", str(value))) for value in values]


def refused(counts: SeriesCounts, ensemble: str, series: list[Labels]) -> int:
    return sum(counts.count({ensemble: series})[ensemble].refused)


def test_new_series_are_refused_beyond_the_limit_and_known_ones_never(counts, ensemble, redis_server):
    other_worker = SeriesCounts(redis.Redis.from_url(redis_server.url_of("worker")), 50)

    assert refused(counts, ensemble, runs(range(40))) == 0
    assert refused(other_worker, ensemble, runs(range(30, 70))) == 20
    assert refused(other_worker, ensemble, runs(range(50))) == 0
    assert counts.count({ensemble: runs([3, 99, 49])})[ensemble] == ([False, True, False], "run")
    assert redis_server.refused() == set()


def test_an_ensemble_has_room_however_many_another_has(counts, ensembles, ensemble):
    other = ensembles.create(EnsembleSpec("other", "worker.work", "d" * 64))

    found = counts.count({ensemble: runs(range(20_000)), other: runs(range(50))})

    assert sum(found[ensemble].refused) == 19_950
    assert sum(found[other].refused) == 0


def test_the_tag_with_most_values_is_named_though_each_job_has_one_value(counts, ensemble):
    for run in range(50):
        series = runs([run], a=str(run % 7), gauge="north", zone=str(run % 20))
        assert refused(counts, ensemble, series) == 0

    last = counts.count({ensemble: runs([99], a="new", gauge="new", zone="new")})

    assert last[ensemble] == ([True], "run")


def test_measurements_count_as_well(counts, ensemble):
    found = counts.count({ensemble: [(("", f"run-{n}"), ("gauge", "north")) for n in range(60)]})

    assert sum(found[ensemble].refused) == 10
    assert found[ensemble].tag == ""


def test_what_a_job_says_takes_little_memory(counts, ensemble, client):
    """2,000 tags of a job's choice, with long names and long values."""
    counts.limit = 100_000
    before = client.info("memory")["used_memory"]

    for begin in range(0, 2000, 500):
        series = [(("", "flow"), (f"{n}" + "x" * 5000, "y" * 50_000)) for n in range(begin, begin + 500)]
        assert refused(counts, ensemble, series) == 0
    many = [(("", "flow"), *((f"tag{n}", f"{n} {run}") for n in range(1000))) for run in range(200)]
    assert refused(counts, ensemble, many) == 0

    keys = client.keys(f"cb:ens:{ensemble}:*")
    assert len(keys) == 2 + MOST_TAGS
    assert client.scard(f"cb:ens:{ensemble}:series") == 2200
    assert sum(client.memory_usage(key, samples=0) for key in keys) < 400_000
    assert max(map(len, keys)) < 200
    client.script_flush()  # which is counted as well
    assert client.info("memory")["used_memory"] - before < 4 << 20


def test_series_are_counted_when_memory_is_full(counts, ensemble, client):
    client.config_set("maxmemory", 1)

    assert refused(counts, ensemble, runs(range(60))) == 10


@pytest.mark.parametrize("key", ["series", "tags", "tag:run"])
@pytest.mark.parametrize("command", [("set", "x"), ("rpush", "x")])
def test_whatever_lies_in_the_place_of_a_count_makes_nothing_fail(counts, ensemble, client, key, command):
    name, value = command
    refused(counts, ensemble, runs(range(10)))
    client.delete(f"cb:ens:{ensemble}:{key}")
    getattr(client, name)(f"cb:ens:{ensemble}:{key}", value)

    assert refused(counts, ensemble, runs(range(10, 70))) in (10, 20)  # as what was in its place is gone

    assert counts.count({ensemble: runs([99])})[ensemble] == ([True], "run")
    assert client.pfcount(f"cb:ens:{ensemble}:tag:run") > 40


def test_nothing_is_kept_of_an_ensemble_that_there_is_not(counts, client):
    assert refused(counts, "gone", runs(range(99))) == 0
    assert client.keys("*gone*") == []
