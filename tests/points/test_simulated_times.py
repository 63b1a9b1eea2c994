"""A century of daily values in shard groups of the length that a deployment sets, in a real InfluxDB 1.6.

Of shard groups and their times, InfluxDB 2 has the same code.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from cloudburst.points import line
from cloudburst.stack.swarm.buckets import SHARD_S
from tests.influx import DATABASE, Influx, running

pytestmark = pytest.mark.slow

FIRST, LAST = datetime(1678, 1, 1, tzinfo=UTC), datetime(2261, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.fixture
def influx(tmp_path: Path) -> Iterator[Influx]:
    with running(tmp_path) as database:
        database.span(SHARD_S)
        yield database


def write(influx: Influx, *times: datetime) -> None:
    body = "\n".join(line.encode("flow", {"m3_s": 1.0}, {"ensemble": "floods"}, time) for time in times)
    written = requests.post(f"{influx.url}/api/v2/write?bucket={DATABASE}", body, timeout=60)
    assert written.status_code == 204, written.text


def found(influx: Influx, *where: str) -> int:
    rows = influx.rows(" ".join(['SELECT count("m3_s") AS "points" FROM "flow"', *where]))
    return int(rows[0]["points"]) if rows else 0


def test_a_century_makes_a_handful_of_shards(influx: Influx) -> None:
    write(influx, *(datetime(1925, 1, 1, tzinfo=UTC) + timedelta(day) for day in range(36_500)))

    assert found(influx) == 36_500
    assert 1 < influx.shards <= 11


def test_the_first_and_the_last_time_are_there_after_a_restart(influx: Influx) -> None:
    write(influx, FIRST, LAST)
    influx.stop()
    influx.start()

    assert found(influx, f"WHERE time <= '{FIRST:%Y-%m-%dT%H:%M:%SZ}'") == 1
    assert found(influx, f"WHERE time >= '{LAST:%Y-%m-%dT%H:%M:%SZ}'") == 1
    write(influx, FIRST, LAST)
    assert found(influx, f"WHERE time >= '{FIRST:%Y-%m-%dT%H:%M:%SZ}'") == 2
