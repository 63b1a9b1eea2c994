"""The stack on this machine, with real services, through everything that can happen to it."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
import requests
from rq import Queue
from rq.serializers import JSONSerializer

from cloudburst import config
from cloudburst.errors import StackError
from cloudburst.stack import local, probes, records
from cloudburst.stack.local import Started
from cloudburst.stack.paths import Paths, read_text
from cloudburst.stack.records import SERVICES
from cloudburst.stack.refusals import explained
from cloudburst.stack.settings import Wishes
from cloudburst.stack.status import StackStatus
from cloudburst.stack.status import status as read_status
from tests.conftest import free_port
from tests.wait import wait_until

ANY_PORTS: dict[str, Any] = {"redis_port": 0, "file_port": 0, "influx_port": 0, "dash_port": 0}
DAEMON = """
import os, subprocess, sys, time

SLEEP = "import os, time; print(os.getpid(), flush=True); time.sleep(300)"

def work(params):
    if os.fork() == 0:
        with open(params["pid_file"], "w") as file:
            subprocess.Popen([sys.executable, "-c", SLEEP], stdout=file, start_new_session=True)
        os._exit(0)
    time.sleep(300)
"""
FLAGS = ["--redis-port=0", "--file-port=0", "--influx-port=0", "--dash-port=0"]


@dataclass
class Stack:
    """One stack in a home of its own."""

    home: Path
    lines: list[str] = field(default_factory=list)
    tuning: dict[str, str] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        return os.environ | {"CLOUDBURST_HOME": str(self.home)} | self.tuning

    @property
    def paths(self) -> Paths:
        return Paths(self.home / "local")

    def up(self, **wishes: Any) -> Started:
        self.lines.clear()
        return local.up(
            self.environ, "local", Wishes(**(ANY_PORTS | {"slots": 1} | wishes)), self.lines.append
        )

    def down(self, *, purge: bool = False) -> bool:
        return local.down(self.environ, "local", self.lines.append, purge=purge)

    def status(self) -> StackStatus:
        return read_status(self.environ, "local")

    def pids(self) -> dict[str, int]:
        return {name: record.process.pid for name, record in records.read(self.paths).items()}

    def processes(self) -> list[psutil.Process]:
        """Every process that has anything to do with this home: its environment, arguments or directory."""
        found = []
        for process in psutil.process_iter():
            try:
                traces = [*process.environ().values(), *process.cmdline(), process.cwd()]
            except (psutil.Error, OSError):
                continue
            if process.pid != os.getpid() and any(str(self.home) in trace for trace in traces):
                found.append(process)
        return found

    def cli(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("cloudburst")), "stack", *arguments],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack that was never started; no process of it may be left behind."""
    stack = Stack(tmp_path / "home")
    yield stack
    left = stack.processes()
    for process in left:
        process.kill()
    assert left == []


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that several tests break and repair, one after the other."""
    stack = Stack(tmp_path_factory.mktemp("home"))
    stack.up()
    yield stack
    stack.down()
    left = stack.processes()
    for process in left:
        process.kill()
    assert left == []


@pytest.fixture
def well(shared: Stack) -> Stack:
    """The shared stack, running as it should."""
    shared.up()
    assert shared.status().state == "running"
    return shared


def test_every_service_does_its_work_on_this_machine_only(well: Stack) -> None:
    where = config.endpoints(well.environ)

    with redis.Redis.from_url(where.redis_url) as client:
        settings = client.config_get()
        assert (settings["appendonly"], settings["maxmemory-policy"], settings["save"]) == (
            "yes",
            "noeviction",
            "",
        )
    token = {"Authorization": f"Bearer {where.filestore_token}"}
    files = {"file": ("a.txt", b"contents")}
    assert requests.post(f"{where.filestore_url}/upload", files=files, headers=token, timeout=5).ok
    assert requests.get(f"{where.influx_url}/health", timeout=5).ok
    assert "RQ" in requests.get(where.queue_dash_url, timeout=5).text
    addresses = {
        connection.laddr.ip
        for pid in well.pids().values()
        for connection in psutil.Process(pid).net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


def test_secrets_are_in_private_files_and_nowhere_else(well: Stack) -> None:
    where = config.endpoints(well.environ)
    password = where.redis_url.split(":")[2].split("@")[0]
    secrets = {password, where.filestore_token, where.influx_token}

    for name, pid in well.pids().items():
        process = psutil.Process(pid)
        public = " ".join([*process.cmdline(), *process.environ().values()])
        assert not any(secret in public for secret in secrets), name
        assert not any(secret in well.paths.log(name).read_text() for secret in secrets), name
    private = [well.paths.endpoints, *(well.paths.root / "secrets").iterdir(), *well.paths.run.iterdir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert stat.S_IMODE(well.paths.root.stat().st_mode) == 0o700
    with pytest.raises(redis.AuthenticationError):
        probes.client(where.redis_url.replace(f":{password}@", "")).ping()


def test_a_second_start_changes_nothing_and_says_since_when_it_runs(well: Stack) -> None:
    before = well.pids()

    again = well.up()

    assert not again.changed
    assert again.since == pytest.approx(psutil.Process(before["queue"]).create_time(), abs=5)
    assert (well.pids(), well.lines) == (before, [])


def test_a_killed_service_is_reported_and_started_again_alone(well: Stack) -> None:
    before = well.pids()
    psutil.Process(before["filestore"]).kill()
    wait_until(
        lambda: not psutil.pid_exists(before["filestore"]) or zombie(before["filestore"]), 5, "its end"
    )
    found = well.status()

    well.up()

    gone = f"its process (pid {before['filestore']}) was killed or crashed"
    assert (found.state, found.services[1].detail) == ("partial", gone)
    assert well.lines[0] == f"filestore: {gone}; starting it again"
    changed = {name for name, pid in well.pids().items() if pid != before[name]}
    assert (changed, well.status().state) == ({"filestore"}, "running")


def test_a_killed_worker_is_started_again_alone(well: Stack) -> None:
    before = well.pids()
    psutil.Process(before["worker"]).kill()
    wait_until(lambda: zombie(before["worker"]), 5, "its end")

    well.up()

    assert "was killed or crashed" in well.lines[0]
    changed = {name for name, pid in well.pids().items() if pid != before[name]}
    assert (changed, well.status().state) == ({"worker"}, "running")


def test_no_process_of_a_job_outlives_its_worker(stack: Stack) -> None:
    # given a running job, whose code has started a daemon: the job's child no longer, and in another session
    stack.tuning = {"CLOUDBURST_LEASE_S": "2", "CLOUDBURST_GRACE_S": "1"}
    where = stack.up().endpoints
    payload = io.BytesIO()
    with zipfile.ZipFile(payload, "w") as archive:
        archive.writestr("Pipfile", "[packages]\n")
        archive.writestr("worker.py", DAEMON)
    token = {"Authorization": f"Bearer {where.filestore_token}"}
    files = {"file": ("worker.zip", payload.getvalue())}
    requests.post(f"{where.filestore_url}/upload", files=files, headers=token, timeout=5).raise_for_status()
    pid_file = stack.home / "daemon"
    with redis.Redis.from_url(where.redis_url) as client:
        queue = Queue(connection=client, serializer=JSONSerializer)
        queue.enqueue("worker.work", {"pid_file": str(pid_file)})
        daemon = int(wait_until(lambda: read_text(pid_file), 60, "the daemon"))

    # when the worker is killed, and the stack started again
    psutil.Process(stack.pids()["worker"]).kill()
    stack.up()

    # then the daemon is gone, by its executor's guard or by the start; the job runs again, and nothing of it
    # outlives a stop either
    assert zombie(daemon)
    wait_until(lambda: int(read_text(pid_file) or daemon) != daemon, 60, "the job's next attempt")
    stack.down()
    assert stack.processes() == []


def test_a_killed_queue_keeps_its_data_and_the_worker_goes_on(well: Stack) -> None:
    before = well.pids()
    where = config.endpoints(well.environ)
    with redis.Redis.from_url(where.redis_url) as client:
        client.set("kept", "yes")
        wait_until(lambda: not client.info("persistence")["aof_pending_bio_fsync"], 5, "the fsync")
        psutil.Process(before["queue"]).kill()
        wait_until(lambda: zombie(before["queue"]), 5, "its end")

        well.up()

        assert client.get("kept") == b"yes"
    after = well.pids()
    assert after["queue"] != before["queue"]
    assert after["worker"] == before["worker"]


def test_half_of_a_script_that_a_power_cut_left_is_taken_off_before_the_queue_starts(well: Stack) -> None:
    where = config.endpoints(well.environ)
    with redis.Redis.from_url(where.redis_url) as client:
        client.eval("redis.call('SET', 'torn-1', 1) redis.call('SET', 'torn-2', 1)", 0)
        wait_until(lambda: not client.info("persistence")["aof_pending_bio_fsync"], 5, "the fsync")
        queue = well.pids()["queue"]
        psutil.Process(queue).kill()
        wait_until(lambda: zombie(queue), 5, "its end")
        (file,) = (well.paths.root / "redis").rglob("*.aof")
        file.write_bytes(file.read_bytes()[: file.read_bytes().rindex(b"torn-2")])

        well.up()

        assert client.get("torn-1") is None
    assert b"torn-1" not in file.read_bytes()


def test_a_pid_that_is_another_process_now_is_a_stale_pid_file(well: Stack) -> None:
    # given: the record of queue-dash names a process that is not it
    own = well.pids()["queue-dash"]
    path = well.paths.record("queue-dash")
    record = json.loads(path.read_text())
    record["process"]["pid"] = os.getpid()
    path.write_text(json.dumps(record))
    psutil.Process(own).kill()

    well.up()

    assert f"stale pid file: pid {os.getpid()} is now" in "\n".join(well.lines)
    assert psutil.pid_exists(os.getpid())
    assert well.status().state == "running"


def test_a_pid_file_from_before_the_machine_was_restarted_is_stale(well: Stack) -> None:
    pid = well.pids()["queue-dash"]
    psutil.Process(pid).kill()
    wait_until(lambda: zombie(pid), 5, "its end")
    path = well.paths.record("queue-dash")
    record = json.loads(path.read_text())
    record["process"]["started_at"] = psutil.boot_time() - 100
    path.write_text(json.dumps(record))

    well.up()

    assert well.lines[0].startswith("queue-dash: stale pid file: the machine was restarted since")


def test_a_service_that_does_not_answer_is_restarted(well: Stack) -> None:
    # given: it has long been started
    pid = well.pids()["influx"]
    path = well.paths.record("influx")
    record = json.loads(path.read_text())
    record["process"]["started_at"] -= 3600
    path.write_text(json.dumps(record))
    psutil.Process(pid).suspend()

    well.up()

    assert well.lines[0] == f"influx: stopping (pid {pid} does not answer)"
    assert well.pids()["influx"] != pid
    assert well.status().state == "running"


def test_a_lost_pid_file_leads_to_a_left_over_process_that_is_replaced(well: Stack) -> None:
    pid = well.pids()["filestore"]
    well.paths.record("filestore").unlink()

    well.up()

    assert any(
        line.startswith("half-started stack: queue, influx, queue-dash, worker there") for line in well.lines
    )
    assert any(line.startswith("left over: ") and str(pid) in line for line in well.lines)
    assert zombie(pid)


def test_a_broken_pid_file_leads_to_a_left_over_process_that_is_replaced(well: Stack) -> None:
    pid = well.pids()["queue-dash"]
    well.paths.record("queue-dash").write_text("{")

    well.up()

    assert any(line.startswith("left over: ") and str(pid) in line for line in well.lines)
    assert (zombie(pid), well.status().state) == (True, "running")


def test_another_number_of_slots_restarts_the_worker_gracefully(well: Stack) -> None:
    before = well.pids()

    well.up(slots=2)

    assert "worker: stopping, which may take up to 40 s (slots 1 → 2)" in well.lines
    changed = {name for name, pid in well.pids().items() if pid != before[name]}
    assert changed == {"worker"}
    queue = well.status().queue
    assert queue is not None
    assert [worker.slots for worker in queue.workers] == [2]


def test_another_port_moves_the_service_and_tells_those_that_use_it(well: Stack) -> None:
    before, where = well.pids(), config.endpoints(well.environ)

    after = well.up(file_port=free_port())

    assert after.endpoints.filestore_url != where.filestore_url
    assert config.endpoints(well.environ) == after.endpoints
    changed = {name for name, pid in well.pids().items() if pid != before[name]}
    assert changed == {"filestore", "worker"}


def test_another_influxdb_takes_the_place_of_our_own_until_an_empty_url(well: Stack) -> None:
    url, own = "http://influx.example:8086", config.endpoints(well.environ)

    started = well.up(influx_url=url, influx_token="theirs", influx_org="lab")

    assert "influx" not in well.pids()
    assert (started.endpoints.influx_url, started.endpoints.influx_token) == (url, "theirs")
    worker = psutil.Process(well.pids()["worker"]).environ()
    assert (worker["INFLUX_URL"], worker["INFLUX_ORG"]) == (url, "lab")
    assert "INFLUX_TOKEN" not in worker
    assert well.status().state == "running"

    assert well.up(influx_url="").endpoints == own


def test_variables_for_builds_reach_the_worker_and_a_later_start_knows_them_still(
    well: Stack,
) -> None:
    said = {"CLOUDBURST_BUILD_TOKEN": "s3cret-of-builds", "PIP_INDEX_URL": "https://mirror.example/simple"}
    before = well.pids()

    well.up(builds=said)
    psutil.Process(well.pids()["worker"]).kill()
    well.up()

    pids = well.pids()
    assert {name for name in pids if pids[name] != before[name]} == {"worker"}
    worker = psutil.Process(pids["worker"]).environ()
    assert worker["PIP_INDEX_URL"] == said["PIP_INDEX_URL"]
    assert Path(worker["CLOUDBURST_BUILD_TOKEN_FILE"]).read_text() == "s3cret-of-builds"
    assert "s3cret-of-builds" not in " ".join(worker.values())
    well.up(builds=dict.fromkeys(said, ""))
    assert "CLOUDBURST_BUILD_TOKEN_FILE" not in psutil.Process(well.pids()["worker"]).environ()


def test_status_shows_services_queue_and_workers(well: Stack) -> None:
    where = config.endpoints(well.environ)
    with redis.Redis.from_url(where.redis_url) as client:
        client.rpush("rq:queue:other", "x")

    shown = well.cli("status", "--local")
    out, err = shown.communicate()

    assert (shown.returncode, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[:2] for line in lines[1:6]] == [[name, "running"] for name in SERVICES]
    assert "0 jobs waiting" in out
    assert "0 of 1 slots busy" in out


def test_two_starts_at_once_are_one_after_the_other(stack: Stack) -> None:
    starts = [stack.cli("up", "--local", "-n1", *FLAGS) for _ in range(2)]
    results = [(*start.communicate(), start.returncode) for start in starts]

    assert [code for _, _, code in results] == [0, 0], results
    said = sorted(err for _, err, _ in results)
    assert ["nothing to do" in text for text in said] == [True, False] or "waiting for it" in "".join(said)
    assert sum("nothing to do" in text for text in said) == 1
    assert sum("another start or stop of this stack is under way" in text for text in said) <= 1
    stack.down()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_a_start_leaves_no_process(stack: Stack, number: signal.Signals) -> None:
    start = stack.cli("up", "--local", *FLAGS)
    wait_until(lambda: stack.paths.record("queue").exists(), 20, "the first service")

    start.send_signal(number)
    _, err = start.communicate(timeout=30)

    assert start.returncode == 130
    assert f"start interrupted ({number.name})" in err
    assert stack.processes() == []
    assert stack.status().state == "stopped"


def test_a_start_that_is_killed_is_a_half_started_stack_that_the_next_start_completes(stack: Stack) -> None:
    start = stack.cli("up", "--local", "-n1", *FLAGS)
    wait_until(lambda: stack.paths.record("queue").exists(), 20, "the first service")
    start.kill()
    start.communicate()
    before = stack.pids()
    assert stack.status().state == "partial"

    stack.up()

    assert stack.lines[0].startswith("half-started stack: queue")
    assert stack.status().state == "running"
    assert before.items() <= stack.pids().items()
    stack.down()


def test_a_port_in_use_is_reported_with_its_owner_and_starts_nothing(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        with pytest.raises(StackError) as raised:
            stack.up(influx_port=port)

    assert f"port {port} (influx) is in use by" in str(raised.value)
    assert f"(pid {os.getpid()}): stop that, or use another port: --influx-port 0" in str(raised.value)
    assert stack.processes() == []
    assert not stack.paths.settings.exists()


def test_a_directory_that_cannot_be_written_is_named(stack: Stack) -> None:
    stack.paths.root.mkdir(parents=True)
    (stack.paths.root / "run").write_text("in the way")

    with pytest.raises(StackError, match=r"home/local/run: File exists: .* CLOUDBURST_HOME chooses another"):
        stack.up()


def test_a_damaged_queue_is_not_started_and_whoever_starts_it_is_told_what_to_do(stack: Stack) -> None:
    file = stack.paths.root / "redis/appendonly.aof"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"*1\r\n$8\r\nFLUSHALL\r\n" + b"damage" * 100)

    with pytest.raises(StackError) as raised:
        stack.up()

    assert str(raised.value) == (
        f"queue: {file} is damaged at byte 18 of 618, and not only cut short at its end.\n"
        "Redis is not started: accepted jobs and results stand behind the damage. Nothing was changed.\n"
        'Restore a back-up, or give up what stands behind: docs/troubleshooting.md, "A damaged queue".'
    )
    assert file.stat().st_size == 618
    assert stack.pids() == {}


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (
            errno.EACCES,
            "Permission denied: it has to be yours to write; CLOUDBURST_HOME chooses another place",
        ),
        (errno.ENOSPC, "No space left on device: make room on that disk; CLOUDBURST_HOME chooses another"),
        (errno.EMFILE, "Too many open files: allow more open files (ulimit -n 4096)"),
        (errno.ENOMEM, "Cannot allocate memory: this machine has no room for more processes"),
        (errno.ENOTDIR, "Not a directory: it is in the way; CLOUDBURST_HOME chooses another place"),
        (errno.EHOSTUNREACH, "No route to host"),
    ],
)
def test_what_the_system_refuses_is_told_with_what_helps_against_that(number: int, says: str) -> None:
    with pytest.raises(StackError) as caught, explained():
        raise OSError(number, os.strerror(number), "/some/file")

    assert str(caught.value).startswith(f"/some/file: {says}")


def test_services_do_not_start_with_the_packages_of_another_python(stack: Stack, tmp_path: Path) -> None:
    environ = {**stack.environ, "PYTHONPATH": str(tmp_path), "PYTHONHOME": "/nowhere", "PYTHONUTF8": "1"}

    kept = local._service_environ(environ, stack.paths)

    assert {"PYTHONPATH", "PYTHONHOME"}.isdisjoint(kept)
    assert kept["PYTHONUTF8"] == "1"


def test_a_service_that_dies_at_start_shows_its_last_words_and_takes_the_others_with_it(stack: Stack) -> None:
    (stack.paths.root / "redis").mkdir(parents=True)
    # Redis 6.2 reads the first, a snapshot of a version to come; 7 the second.
    (stack.paths.root / "redis/appendonly.aof").write_text("REDIS0099")
    (stack.paths.root / "redis/appendonlydir").write_text("in the way")

    with pytest.raises(StackError) as raised:
        stack.up()

    message = str(raised.value)
    assert message.startswith("queue: died at start (exit code 1); the end of")
    assert str(stack.paths.log("queue")) in message
    assert "append" in message.lower()
    assert stack.processes() == []
    assert stack.status().state == "stopped"


def test_stopping_leaves_data_and_no_process_and_the_next_start_finds_it_all_again(stack: Stack) -> None:
    first = stack.up()
    with redis.Redis.from_url(first.endpoints.redis_url) as client:
        client.set("kept", "yes")

    assert stack.down()
    assert stack.processes() == []
    assert stack.status().state == "stopped"
    assert not stack.paths.endpoints.exists()
    assert not stack.down()

    second = stack.up()
    assert second.endpoints == first.endpoints
    with redis.Redis.from_url(second.endpoints.redis_url) as client:
        assert client.get("kept") == b"yes"
    assert stack.down(purge=True)
    assert not stack.paths.root.exists()


def test_stopping_a_half_started_stack_with_lost_pid_files_leaves_no_process(stack: Stack) -> None:
    stack.up()
    stack.paths.record("worker").unlink()
    stack.paths.record("queue").unlink()

    assert stack.down()

    assert stack.processes() == []


def test_purging_asks_and_refuses_where_nobody_can_be_asked(stack: Stack) -> None:
    stack.paths.root.mkdir(parents=True)

    refused = stack.cli("down", "--local", "--purge")
    _, err = refused.communicate()
    assert (refused.returncode, "add -y" in err) == (2, True)
    assert stack.paths.root.exists()

    agreed = stack.cli("down", "--local", "--purge", "-y")
    assert agreed.wait() == 0
    assert not stack.paths.root.exists()
    agreed.communicate()


def test_an_older_client_finds_redis_without_a_password_and_its_own_token(stack: Stack) -> None:
    environ = stack.environ | {
        "CLOUDBURST_TOKEN": "fixed",
        "REDIS_HOST": "elsewhere",
        "FILE_HOST": "elsewhere",
    }
    wishes = Wishes(slots=1, auth=False, token="fixed", **ANY_PORTS)

    started = local.up(environ, "local", wishes, stack.lines.append)

    port = started.settings.ports["queue"]
    assert started.endpoints.redis_url == f"redis://127.0.0.1:{port}/0"
    with redis.Redis(port=port) as client:
        assert client.ping()
    upload = f"{started.endpoints.filestore_url}/upload?token=fixed"
    assert requests.post(upload, files={"file": ("worker.zip", b"x")}, timeout=5).status_code == 200
    stack.down()


def test_a_stack_that_was_never_started_says_so(stack: Stack) -> None:
    shown = stack.cli("status", "--local")
    out, _ = shown.communicate()

    assert (shown.returncode, "was never started here; start it: ./buildstack.sh --local" in out) == (3, True)
    assert not stack.down()


def zombie(pid: int) -> bool:
    """Gone, or ended and not yet asked for by its parent: this test, or whatever is process 1 here."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
