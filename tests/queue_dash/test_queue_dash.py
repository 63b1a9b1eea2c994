"""queue-dash over real Redis and real RQ jobs."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.serializers import JSONSerializer

from cloudburst.queue_dash import reading
from tests.conftest import RedisServer
from tests.queue_dash.started import queue_dash


class Bomb:
    """A pickle that creates a file when it is run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_plain_data_is_read_from_json_and_from_pickles_alike() -> None:
    value = {"seed": 1, "factors": [0.5, None, True], "name": "Ω"}

    assert reading.loads(json.dumps(value).encode()) == value
    assert [reading.loads(pickle.dumps(value, protocol=p)) for p in range(6)] == [value] * 6


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb"

    shown = reading.loads(pickle.dumps({"seed": 1, "bomb": Bomb(bomb)}))

    assert shown == {"seed": 1, "bomb": f"<{Path.__module__}.Path.touch, not shown>"}
    assert not bomb.exists()


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (pickle.dumps((1, {2})), [1, [2]]),
        (pickle.dumps({1: b"abc"}), {"1": "<3 bytes>"}),
        (pickle.dumps(float("nan")), "nan"),
        (pickle.dumps(print), "<builtins.print>"),
        (b"\x80\x04broken", "<8 bytes that cannot be read: UnpicklingError>"),
        (b"\x93NUMPY", "<6 bytes that cannot be read: UnpicklingError>"),
    ],
)
def test_what_comes_out_is_always_json(data: bytes, shown: object) -> None:
    assert reading.loads(data) == shown
    json.dumps(reading.loads(data), allow_nan=False)


def test_a_value_that_unfolds_without_end_is_cut() -> None:
    value: list[Any] = []
    for _ in range(100):
        value = [value, value]

    assert len(json.dumps(reading.loads(pickle.dumps(value)))) < 10 * reading.LARGEST


@pytest.fixture
def dash(redis_server: RedisServer, tmp_path: Path) -> Iterator[str]:
    """The URL of a queue-dash process."""
    url_file = tmp_path / "redis-url"
    url_file.write_text(redis_server.url_of("dash"))
    with queue_dash(CLOUDBURST_REDIS_URL_FILE=str(url_file)) as url:
        yield url
    assert redis_server.refused() == set()


def test_every_page_shows_jobs_of_every_serializer(
    dash: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    # given: finished, failed and waiting jobs, written as JSON and as pickles
    client = redis_server.client()
    jobs: list[Job] = []
    for serializer in (JSONSerializer, None):
        queue = Queue(connection=client, serializer=serializer)
        jobs += [
            queue.enqueue("builtins.dict", seed=1),
            queue.enqueue("builtins.int", "no number", meta={"a": 1}),
        ]
        SimpleWorker([queue], connection=client, serializer=serializer).work(burst=True)
        jobs.append(queue.enqueue("builtins.dict", seed=2))
    bomb = tmp_path / "bomb"
    jobs.append(Queue(connection=client).enqueue("builtins.print", Bomb(bomb)))
    # and a worker that seems to be busy with the bomb
    client.hset("rq:worker:w", mapping={"state": "busy", "current_job": jobs[-1].id, "queues": "default"})
    client.sadd("rq:workers", "rq:worker:w")

    # when every page is opened
    pages = ["", "/0/view/workers", "/0/view/jobs", "/0/data/queues.json", "/0/data/workers.json"]
    for registry in ("queued", "started", "finished", "failed"):
        pages.append(f"/0/data/jobs/default/{registry}/20/asc/1.json")
    for job in jobs:
        pages += [f"/0/view/job/{job.id}", f"/0/data/job/{job.id}.json"]
    status = {page: requests.get(dash + page, timeout=5).status_code for page in pages}

    # then each is shown, with the returned values, and nothing was run
    assert set(status.values()) == {200}, status
    results = [requests.get(f"{dash}/0/data/job/{job.id}.json", timeout=5).json()["result"] for job in jobs]
    assert results == [{"seed": 1}, None, None, {"seed": 1}, None, None, None]
    workers = requests.get(f"{dash}/0/data/workers.json", timeout=5).json()["workers"]
    assert "not shown" in workers[0]["current_job"]["call_string"]
    assert not bomb.exists()


def test_nothing_can_be_changed(dash: str, redis_server: RedisServer) -> None:
    queue = Queue(connection=redis_server.client())
    job = queue.enqueue("builtins.dict")

    answers = [
        requests.post(f"{dash}/job/{job.id}/delete", timeout=5),
        requests.post(f"{dash}/queue/default/queued/empty", timeout=5),
        requests.get(f"{dash}/requeue/default", timeout=5),
    ]

    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert "cloudburst retry" in answers[0].json()["error"]
    assert queue.job_ids == [job.id]


def test_other_names_for_this_machine_are_refused(dash: str) -> None:
    answer = requests.get(dash, headers={"Host": "rebound.example"}, timeout=5)

    assert (answer.status_code, "this machine only" in answer.text) == (403, True)


def test_a_job_that_is_gone_is_404_and_an_absent_redis_503(dash: str, redis_server: RedisServer) -> None:
    assert requests.get(f"{dash}/0/data/job/gone.json", timeout=5).status_code == 404

    redis_server.kill()

    assert requests.get(f"{dash}/0/data/queues.json", timeout=5).status_code == 503
    redis_server.start()


def test_without_a_redis_url_it_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cloudburst.queue_dash"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, "CLOUDBURST_REDIS_URL is not set" in done.stderr) == (2, True)
