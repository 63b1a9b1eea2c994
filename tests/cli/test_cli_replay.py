"""``cloudburst replay`` where no worker runs: jobs of ensembles and of stock clients, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rq import Queue
from rq.serializers import JSONSerializer

from tests.cli.shell import Shell, last_line, odd_fails
from tests.wait import wait_until

pytestmark = pytest.mark.slow

WORKER = """
import os

def work(params):
    if params["seed"] % 2:
        raise ValueError("seed %d is odd" % params["seed"])
    return {"double": 2 * params["seed"]}

def meta(params):
    return os.environ.get("CLOUDBURST_JOB_META")
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where replays keep environments: all tests use the same."""
    return tmp_path_factory.mktemp("replay")


@pytest.fixture
def model(shell: Shell, kept: Path) -> None:
    home = shell.directory / "home" / shell.stack.endpoints.stack
    home.mkdir(parents=True)
    (home / "replay").symlink_to(kept)
    (shell.directory / "model" / "worker.py").write_text(WORKER)


def submitted(shell: Shell) -> str:
    jobs = "".join(f'{{"seed": {seed}}}\n' for seed in range(2))
    return shell("submit", "floods", "-p", "model", "-f", "worker.work", stdin=jobs).stdout.strip()


def test_jobs_are_compared_with_their_records_if_they_have_one_and_redis_stays_as_it_is(shell, model):
    ensemble = submitted(shell)
    waiting = shell("replay", f"{ensemble}-0")
    with shell.worker(odd_fails):
        wait_until(lambda: shell.stack.ensemble(ensemble).status().complete, 20, "the jobs to end")
    before = {key: shell.redis.dump(key) for key in shell.redis.keys("*")}

    finished, failed = (shell("replay", f"{ensemble}-{index}") for index in (0, 1))

    assert (waiting.returncode, waiting.stdout) == (0, '{"double": 0}\n')
    assert "no record yet" in last_line(waiting.stderr)
    assert (finished.returncode, finished.stdout) == (0, '{"double": 0}\n')
    assert last_line(finished.stderr) == "replay: on node-1 this job returned the same value"
    assert (failed.returncode, failed.stdout) == (1, "")
    assert last_line(failed.stderr).startswith("replay: on node-1 this job failed")
    assert {key: shell.redis.dump(key) for key in shell.redis.keys("*")} == before


def test_a_stock_job_is_replayed_with_the_current_worker_zip(shell, model):
    shell("payload", "post", "model")
    queue = Queue(connection=shell.redis, serializer=JSONSerializer)
    job = queue.enqueue("worker.work", {"seed": 4})
    with_meta = queue.enqueue("worker.meta", {}, meta={"run": 7})

    done, told = shell("replay", job.id), shell("replay", with_meta.id)

    assert (done.returncode, done.stdout) == (0, '{"double": 8}\n'), done.stderr
    assert json.loads(json.loads(told.stdout)) == {"run": 7}


def test_a_pickled_stock_job_is_refused(shell, model):
    shell("payload", "post", "model")
    job = Queue(connection=shell.redis).enqueue("worker.work", {"seed": 4})

    done = shell("replay", job.id)

    assert done.returncode == 8
    assert "was pickled by its client" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_payload_that_cannot_be_built_is_said_as_a_worker_says_it(shell, model):
    (shell.directory / "model" / "Pipfile").write_text('[requires]\npython_version = "3.99"\n')
    ensemble = submitted(shell)

    done = shell("replay", f"{ensemble}-0")

    assert done.returncode == 4
    assert "requires Python 3.99" in done.stderr
