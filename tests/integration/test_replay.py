"""A job that ran on a worker runs again in the foreground: alike, and step by step on a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from rq import Queue
from rq.serializers import JSONSerializer

from cloudburst.rqwire.connection import connect
from tests.integration.conftest import BIN, Shell
from tests.wait import wait_until

pytestmark = pytest.mark.slow

WORKER = """
import os, sys
AHEAD = "wave" in sys.modules
from cloudburst import results

def work(params):
    flow = params["seed"] * 2
    print("flow", flow)
    results.write("flow", {"value": float(flow)}, tags={"pipe": "1"}, time=params["seed"])
    if flow == 6:
        complain(flow)
    return {"flow": flow, "replay": os.environ.get("CLOUDBURST_REPLAY", "")}

def complain(flow):
    with open("left.txt", "w") as file:
        file.write("left")
    raise ValueError("flow %d is too much" % flow)

async def wait(params):
    doubled = params["seed"] * 2
    return {"doubled": doubled}

def environment(params):
    names = sorted(n for n in os.environ if n.startswith(("CLOUDBURST_", "INFLUX", "OMP_", "REDIS", "FILE_")))
    return {"ahead": AHEAD, "cwd": os.getcwd(), "found": os.listdir("."), "temp": os.environ["TMPDIR"]} | {
        name: os.environ[name] for name in names
    }

def client(params):
    import urllib.request
    lines = b"a,t=1 v=1 1\\nb v=2 2"
    url = os.environ["INFLUX_URL"] + "/api/v2/write?org=o&bucket=b"
    return urllib.request.urlopen(urllib.request.Request(url, data=lines, method="POST")).status

def crash(params):
    import ctypes
    print("before", flush=True)
    ctypes.string_at(0)

def hang(params):
    import time
    print("hanging", flush=True)
    time.sleep(600)

def draw(params):
    import random
    return {"drawn": random.random(), "seed": os.environ["CLOUDBURST_SEED"]}

def pause(params):
    number = params["seed"] + 40
    breakpoint()
    return number
"""


@pytest.fixture(scope="module")
def payload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("payload")
    (directory / "Pipfile").write_text("[packages]\n")
    (directory / "worker.py").write_text(WORKER)
    (directory / "cloudburst.toml").write_text('preload = ["wave"]\n')
    return directory


@pytest.fixture(scope="module")
def ran(local: Shell, payload: Path) -> str:
    """An ensemble of five jobs that has ended; the one with index 3 has failed."""
    return run(local, payload, "worker.work", range(5))


def run(local: Shell, payload: Path, function: str, seeds=(1,)) -> str:
    jobs = "".join(json.dumps({"seed": seed}) + "\n" for seed in seeds)
    done = local.cloudburst("submit", "flows", "-p", payload, "-f", function, "--watch", stdin=jobs)
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout.strip()


def test_a_job_that_failed_on_a_worker_fails_alike_here(local, ran):
    done = local.cloudburst("replay", f"{ran}-3")

    assert done.returncode == 1
    assert done.stdout == "flow 6\n"
    traceback = done.stderr[done.stderr.index("Traceback") :]
    assert traceback.splitlines()[1].endswith('worker.py", line 11, in work')  # none of our frames
    assert "ValueError: flow 6 is too much" in traceback
    assert "this job failed with the same error" in done.stderr.splitlines()[-1]


def test_a_job_that_finished_returns_the_same_and_sends_no_points(local, payload):
    ensemble = run(local, payload, "worker.wait", range(3))

    done = local.cloudburst("replay", f"{ensemble}-2")

    assert done.returncode == 0
    assert json.loads(done.stdout) == {"doubled": 4}
    assert done.stderr.splitlines()[-1].endswith("this job returned the same value")


def test_it_draws_the_same_random_numbers(local, payload):
    ensemble = run(local, payload, "worker.draw", range(3))
    records = sorted(map(json.loads, results(local, ensemble)), key=lambda record: record["index"])
    values = [record["value"] for record in records]

    replayed = [local.cloudburst("replay", f"{ensemble}-{index}") for index in range(3)]

    assert [json.loads(done.stdout) for done in replayed] == values
    assert len({value["drawn"] for value in values}) == 3


def results(local: Shell, ensemble: str) -> list[str]:
    return local.cloudburst("results", ensemble, "--json").stdout.splitlines()


def test_its_points_are_counted_and_shown_when_asked_for(local, ran):
    done, verbose = local.cloudburst("replay", f"{ran}-1"), local.cloudburst("replay", f"{ran}-1", "-v")

    assert "points, not sent: 1 flow" in done.stderr
    assert "point:" not in done.stderr
    assert "point: flow,pipe=1 value=2.0 1" in verbose.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"flow": 2, "replay": "1"}
    assert 'another value: {"flow": 2, "replay": ""}' in done.stderr.splitlines()[-1]


def test_points_of_an_influxdb_client_stay_here(local, payload):
    ensemble = run(local, payload, "worker.client")

    done = local.cloudburst("replay", f"{ensemble}-0")

    assert done.stdout == "204\n"
    assert "points, not sent: 2 by an InfluxDB client" in done.stderr


def test_a_replay_has_the_variables_and_the_preloaded_modules_of_the_node_in_an_empty_directory(
    local, payload
):
    ensemble = run(local, payload, "worker.environment")
    (there,) = map(json.loads, local.cloudburst("results", ensemble, "--json").stdout.splitlines())

    done = local.cloudburst(
        "replay", f"{ensemble}-0", CLOUDBURST_REDIS_URL="redis://secret", FILE_HOST_TOKEN="s"
    )

    here = json.loads(done.stdout)
    own = {"CLOUDBURST_REPLAY", "CLOUDBURST_PAYLOAD_DIR", "INFLUX_URL", "INFLUX_TOKEN", "cwd", "temp"}
    own |= {"INFLUXDB_V2_URL", "INFLUXDB_V2_TOKEN", "CLOUDBURST_POINTS", "CLOUDBURST_EXECUTOR"}
    assert set(here) - set(there["value"]) == {"CLOUDBURST_REPLAY"}
    assert {k: v for k, v in here.items() if k not in own} == {
        k: v for k, v in there["value"].items() if k not in own
    }
    assert here["ahead"] is True
    assert here["found"] == []
    assert here["temp"] == here["cwd"]
    assert not Path(here["cwd"]).exists()


def test_its_directory_is_kept_when_asked_for(local, ran):
    done = local.cloudburst("replay", f"{ran}-3", "--keep")

    (line,) = [line for line in done.stderr.splitlines() if "which is kept" in line]
    assert Path(line.partition("kept: ")[2], "left.txt").read_text() == "left"


def test_a_crash_is_told_as_on_a_node(local, payload):
    ensemble = run(local, payload, "worker.crash")

    done = local.cloudburst("replay", f"{ensemble}-0")

    assert (done.returncode, done.stdout) == (1, "before\n")
    assert "Fatal Python error: Segmentation fault" in done.stderr
    assert "its executor was killed by SIGSEGV (a crash in native code)" in done.stderr


def test_a_job_whose_hash_is_forgotten_is_replayed_from_its_record(local, ran):
    url = local.endpoints()["redis_url"]
    connect(url).delete(f"rq:job:{ran}-4")

    done = local.cloudburst("replay", f"{ran}-4")

    assert json.loads(done.stdout.splitlines()[-1])["flow"] == 8


def test_a_stock_job_is_replayed_with_the_worker_zip_that_it_ran_with(local, payload, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "Pipfile").write_text("[packages]\n")
    (other / "worker.py").write_text("def work(params):\n    return 'another'\n")
    queue = Queue(connection=connect(local.endpoints()["redis_url"]), serializer=JSONSerializer)
    local.cloudburst("payload", "post", payload)
    job = queue.enqueue("worker.work", {"seed": 3})
    wait_until(lambda: job.get_status() == "failed", 60, "the job to fail")
    local.cloudburst("payload", "post", other)

    done = local.cloudburst("replay", job.id)

    assert (done.returncode, done.stdout) == (1, "flow 6\n"), done.stderr
    assert done.stderr.splitlines()[-1] == "replay: there this job failed with the same error"


@pytest.mark.parametrize("job", ["nothing", "nothing-3", "{ran}-99", "{ran}"])
def test_a_job_that_does_not_exist_is_refused_in_one_line(local, ran, job):
    done = local.cloudburst("replay", job.format(ran=ran))

    assert done.returncode == 8
    assert len(done.stderr.splitlines()) == 1
    assert "no job" in done.stderr


# -- on a terminal -------------------------------------------------------------------------------------


class Terminal:
    """A command on a pseudo-terminal: what it has drawn, and what is typed."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master
        self._data = bytearray()
        self._seen = 0
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        with suppress(OSError):
            while data := os.read(self._master, 65536):
                self._data.extend(data)

    def expect(self, text: str) -> str:
        """Wait until it has drawn ``text`` behind what was expected before; what it has drawn up to it."""
        wait_until(lambda: text.encode() in self._data[self._seen :], 60, f"{text!r}; so far {self.text}")
        end = self._data.index(text.encode(), self._seen) + len(text)
        drawn = self._data[self._seen : end].decode()
        self._seen = end
        return drawn

    @property
    def text(self) -> str:
        return self._data.decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> int:
        code = self.process.wait(60)
        self._reading.join(10)
        return code


ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C means us
os.execv(sys.argv[1], sys.argv[1:])
"""


@contextmanager
def terminal(local: Shell, *arguments: str) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL, str(BIN / "cloudburst"), *arguments],
        env=local.environ | {"TERM": "dumb"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_a_failed_job_is_stepped_through_from_its_first_line_to_the_error(local, ran):
    with terminal(local, "replay", f"{ran}-3", "--pdb") as shown:
        shown.expect("(Pdb)")
        assert 'flow = params["seed"] * 2' in shown.text
        shown.type("n\n")
        shown.expect("(Pdb)")
        shown.type("p flow\n")
        assert "6" in shown.expect("(Pdb)")
        shown.type("c\n")
        shown.expect("ValueError: flow 6 is too much")
        shown.expect("(Pdb)")
        shown.type("p flow + 100\n")  # in the frame that raised
        assert "106" in shown.expect("(Pdb)")
        shown.type("up\n")
        assert "complain(flow)" in shown.expect("(Pdb)")
        shown.type("q\n")

        assert shown.end() == 1
        assert "failed with the same error" in shown.text


def test_a_coroutine_is_stepped_through_from_its_own_first_line(local, payload):
    ensemble = run(local, payload, "worker.wait")
    with terminal(local, "replay", f"{ensemble}-0", "--pdb") as shown:
        shown.expect("(Pdb)")
        assert 'doubled = params["seed"] * 2' in shown.text
        shown.type("c\n")

        assert shown.end() == 0
        assert '{"doubled": 2}' in shown.text


def test_leaving_the_debugger_ends_the_replay(local, ran):
    with terminal(local, "replay", f"{ran}-3", "--pdb") as shown:
        shown.expect("(Pdb)")
        shown.type("q\n")

        assert shown.end() == 130


def test_ctrl_c_stops_the_job_and_removes_its_directory(local, payload):
    job = submitted(local, payload, "worker.hang")
    with terminal(local, "replay", job) as shown:
        shown.expect("hanging")
        shown.type("\x03")

        assert shown.end() == 130
    left = (local.home / "local" / "replay" / "scratch").iterdir()
    assert [directory for directory in left if directory.name.startswith(job)] == []
    local.cloudburst("cancel", job.rpartition("-")[0])


def submitted(local: Shell, payload: Path, function: str) -> str:
    done = local.cloudburst("submit", "flows", "-p", payload, "-f", function, stdin='{"seed": 1}\n')
    assert done.returncode == 0, done.stderr
    return f"{done.stdout.strip()}-0"


def test_a_breakpoint_of_the_users_own_works_without_an_option(local, payload):
    done = local.cloudburst("submit", "flows", "-p", payload, "-f", "worker.pause", stdin='{"seed": 2}\n')
    ensemble = done.stdout.strip()
    with terminal(local, "replay", f"{ensemble}-0") as shown:
        shown.expect("(Pdb)")
        shown.type("p number\n")
        assert "42" in shown.expect("(Pdb)")
        shown.type("c\n")

        assert shown.end() == 0
