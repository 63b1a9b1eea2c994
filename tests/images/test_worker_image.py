"""The worker in its image: it becomes user 10001, works, and is healthy while Redis is away."""

from __future__ import annotations

import os
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from redis import Redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from tests.images.conftest import ADDRESSES, PASSWORDS, WRITE, Secrets
from tests.images.engine import SUBNET, Engine
from tests.swarm.process import Failed
from tests.wait import wait_until

CAPABILITIES = ("SETUID", "SETGID", "SETPCAP", "KILL", "CHOWN", "DAC_OVERRIDE", "FOWNER")
"""As in the compose file."""


@pytest.fixture(scope="module")
def worker(stack: Engine, secrets: Secrets) -> Iterator[str]:
    stack.start(
        "worker",
        "cloudburst-tests/worker",
        *("--user", "0", "--volume", "worker-state:/var/lib/cloudburst"),
        *(word for capability in CAPABILITIES for word in ("--cap-add", capability)),
        *secrets.mounted("queue-password", "filestore-token", "influx-token", "builds.json"),
        *("--env", "REDIS_HOST=queue", "--env", "REDIS_USERNAME=worker"),
        *("--env", "REDIS_PASSWORD_FILE=/run/secrets/queue-password"),
        *("--env", "FILE_HOST=filestore", "--env", "FILE_HOST_TOKEN_FILE=/run/secrets/filestore-token"),
        *("--env", "INFLUX_URL=http://gateway:8086", "--env", "INFLUX_TOKEN_FILE=/run/secrets/influx-token"),
        *("--env", "CLOUDBURST_BUILDS_FILE=/run/secrets/builds.json", "--env", "CLOUDBURST_GRACE_S=5"),
        *("--env", "CLOUDBURST_LEASE_S=3", "--env", "CLOUDBURST_EXECUTOR_UIDS=20000-29999"),
        address=ADDRESSES["worker"],
    )
    yield "worker"
    stack.docker("rm", "--force", "worker")
    stack.docker("volume", "rm", "worker-state")


@pytest.fixture(scope="module")
def redis_client(stack: Engine) -> Redis:
    return Redis(f"{SUBNET}.{ADDRESSES['queue']}", username="client", password=PASSWORDS["client"])


@pytest.fixture(scope="module")
def payload(stack: Engine, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A payload without dependencies, in the file store."""
    path: Path = tmp_path_factory.mktemp("payload") / "worker.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("Pipfile", "[packages]\n")
        archive.writestr(
            "worker.py",
            "import os\n\ndef work(given):\n"
            "    status = open('/proc/self/status').read().splitlines()\n"
            "    caps = [line.split()[1] for line in status if line.startswith('Cap')]\n"
            "    return {'uid': os.getuid(), 'caps': caps, 'sum': given['a'] + 1}\n",
        )
    with path.open("rb") as file:
        answer = requests.post(
            f"http://{SUBNET}.{ADDRESSES['filestore']}:25478/upload",
            files={"file": ("worker.zip", file)},
            headers={"Authorization": f"Bearer {WRITE}"},
            timeout=10,
        )
    assert answer.ok, answer.text


def main_process(engine: Engine, name: str) -> int:
    """The worker's process ID on this machine."""
    for line in engine.docker("top", name, "-eo", "pid,args").splitlines()[1:]:
        pid, args = line.split(maxsplit=1)
        if args == "python -P -m cloudburst.worker":
            return int(pid)
    raise AssertionError(engine.logs(name))


def test_it_becomes_user_10001_with_what_it_takes_to_start_executors(stack: Engine, worker: str) -> None:
    stack.wait_healthy(worker)
    status = Path(f"/proc/{main_process(stack, worker)}/status").read_text()
    values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)

    assert values["Uid"].split() == ["10001"] * 4
    assert values["Groups"].split() in ([], ["10001"])
    assert values["NoNewPrivs"] == "1"
    # chown, dac_override, fowner, kill, setgid, setuid, setpcap
    assert values["CapPrm"] == "00000000000001eb"
    assert values["CapAmb"] == "0000000000000000", "or its children would have them, too"


def test_it_runs_jobs(stack: Engine, worker: str, payload: None, redis_client: Redis) -> None:
    queue = Queue(connection=redis_client, serializer=JSONSerializer)
    job = queue.enqueue("worker.work", {"a": 1})

    def done() -> bool:
        return Job.fetch(job.id, redis_client, serializer=JSONSerializer).is_finished

    try:
        wait_until(done, 60, "the job")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{stack.logs(worker)}") from None
    value = Job.fetch(job.id, redis_client, serializer=JSONSerializer).return_value()
    assert value["sum"] == 2
    assert 20000 <= value["uid"] <= 29999
    assert set(value["caps"][:3]) == {"0000000000000000"}, "inheritable, permitted, effective"


def test_it_is_healthy_while_redis_is_away_and_stops_when_told(stack: Engine, worker: str) -> None:
    stack.wait_healthy(worker)
    beats = ["exec", worker, "/usr/local/lib/cloudburst/beats"]
    stack.docker("pause", "queue")
    try:
        wait_until(lambda: "Redis does not" in stack.logs(worker), 60, "the worker to miss Redis")
        stack.docker(*beats)
    finally:
        stack.docker("unpause", "queue")
    # when its loop does not turn
    pid = main_process(stack, worker)
    os.kill(pid, signal.SIGSTOP)
    try:
        stack.docker("exec", worker, "touch", "-d", "-2 minutes", "/var/lib/cloudburst/worker")
        with pytest.raises(Failed):
            stack.docker(*beats)
    finally:
        os.kill(pid, signal.SIGCONT)

    stack.docker("stop", "--time", "30", worker)

    assert stack.inspect(worker)["State"]["ExitCode"] == 0, stack.logs(worker)


def test_it_has_the_tools_of_builds(engine: Engine) -> None:
    image = "cloudburst-tests/worker"
    for program in (["git", "--version"], ["uv", "--version"], ["python", "-m", "pipenv", "--version"]):
        run = [
            "run",
            "--rm",
            "--network=none",
            "--read-only",
            "--tmpfs=/tmp",
            "--entrypoint",
            program[0],
            image,
        ]
        assert engine.docker(*run, *program[1:])
