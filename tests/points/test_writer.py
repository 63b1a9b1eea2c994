"""The worker's way to the database, against the real local endpoint and against one that misbehaves."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloudburst.points.database import Login
from cloudburst.points.writer import Answer, PointWriter, open_writer
from tests.conftest import free_port
from tests.wait import wait_until

TOKEN = "a-token"


class Endpoint:
    """The local points endpoint as a process that can be stopped and started."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.directory = directory
        self.login = Login(f"http://127.0.0.1:{self.port}", TOKEN, "cloudburst", "cloudburst")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environ = {
            "CLOUDBURST_POINTS_DB": str(self.directory / "points.db"),
            "CLOUDBURST_POINTS_PORT": str(self.port),
            "CLOUDBURST_POINTS_TOKEN": TOKEN,
        }
        self.process = subprocess.Popen([sys.executable, "-m", "cloudburst.points"], env=os.environ | environ)
        wait_until(self._answers, 20, "the endpoint")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def values(self, measurement: str = "m") -> list[float]:
        url = f"http://127.0.0.1:{self.port}/cloudburst/points?measurement={measurement}"
        request = urllib.request.Request(url, headers={"Authorization": f"Token {TOKEN}"})
        with urllib.request.urlopen(request) as answer:
            return [json.loads(line)["fields"]["v"] for line in answer]

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=1):
                return True
        except OSError:
            return False


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Endpoint]:
    endpoint = Endpoint(tmp_path)
    yield endpoint
    endpoint.stop()


class Writing:
    """A writer, and what it has answered."""

    def __init__(self, login: Login, spool_dir: Path, **settings) -> None:
        self.called = threading.Event()
        self.writer = PointWriter(login, spool_dir, called=self.called.set, **settings)
        self.answers: dict[str, Answer] = {}

    def answer(self, token: str, timeout_s: float = 15) -> Answer:
        def look() -> Answer | None:
            self.answers.update({answer.token: answer for answer in self.writer.poll()})
            return self.answers.get(token)

        answer = wait_until(look, timeout_s, f"an answer for {token}")
        assert self.called.is_set()
        return answer


def lines(first: int, count: int = 1) -> bytes:
    return b"".join(b"m v=%d %d\n" % (i, i + 1) for i in range(first, first + count))


def test_acknowledged_points_are_in_the_database(endpoint, tmp_path):
    endpoint.start()
    writing = Writing(endpoint.login, tmp_path / "spool")

    for i in range(50):
        writing.writer.submit(lines(i * 10, 10), f"job {i}")

    assert {writing.answer(f"job {i}").state for i in range(50)} == {"acknowledged"}
    assert endpoint.values() == list(range(500))


def test_points_are_spooled_while_the_database_is_away_and_delivered_when_it_is_back(endpoint, tmp_path):
    writing = Writing(endpoint.login, tmp_path / "spool", patience_s=0.5)

    writing.writer.submit(lines(0), "first")
    assert writing.answer("first").state == "spooled"
    began = time.monotonic()
    for i in range(1, 5):
        writing.writer.submit(lines(i), str(i))
    assert {writing.answer(str(i)).state for i in range(1, 5)} == {"spooled"}
    assert time.monotonic() - began < 2  # the patience is spent once, not for each job

    endpoint.start()
    wait_until(lambda: endpoint.values() == list(range(5)), 20, "the spool to be delivered")
    writing.writer.submit(lines(5), "after")
    wait_until(lambda: not list((tmp_path / "spool").glob("*.lp")), what="an empty spool")
    assert writing.answer("after").state in {"acknowledged", "spooled"}


def test_the_next_worker_delivers_what_an_earlier_one_has_spooled(endpoint, tmp_path):
    first = Writing(endpoint.login, tmp_path / "spool", patience_s=0.1)
    first.writer.submit(lines(0, 3), "job")
    assert first.answer("job").state == "spooled"
    first.writer.close(5)

    endpoint.start()
    Writing(endpoint.login, tmp_path / "spool")

    wait_until(lambda: endpoint.values() == [0, 1, 2], 20, "the spool to be delivered")


def test_malformed_points_are_rejected_and_those_of_other_jobs_are_not(endpoint, tmp_path):
    endpoint.start()
    writing = Writing(endpoint.login, tmp_path / "spool")

    for i in range(8):
        writing.writer.submit(b"no line protocol\n" if i == 3 else lines(i), f"job {i}")

    states = [writing.answer(f"job {i}").state for i in range(8)]
    assert states == ["acknowledged"] * 3 + ["rejected"] + ["acknowledged"] * 4
    assert writing.answer("job 3").message
    assert endpoint.values() == [0, 1, 2, 4, 5, 6, 7]


def test_a_spooled_line_that_is_refused_for_good_does_not_hold_up_the_others(endpoint, tmp_path):
    writing = Writing(endpoint.login, tmp_path / "spool", patience_s=0.1)
    writing.writer.submit(lines(0) + b"no line protocol\n" + lines(1), "job")
    assert writing.answer("job").state == "spooled"

    endpoint.start()

    wait_until(lambda: not list((tmp_path / "spool").glob("*.lp")), 20, "an empty spool")
    assert endpoint.values() == [0, 1]
    assert "no line protocol" in (tmp_path / "spool" / "refused.txt").read_text()


def test_a_wrong_token_spools_and_says_which_setting_is_wrong(endpoint, tmp_path, caplog):
    endpoint.start()
    login = Login(endpoint.login.url, "wrong", "cloudburst", "cloudburst")
    writing = Writing(login, tmp_path / "spool", patience_s=0.1)

    writing.writer.submit(lines(0), "job")

    assert writing.answer("job").state == "spooled"
    assert "check INFLUX_TOKEN" in caplog.text


def test_a_full_spool_makes_jobs_wait_instead_of_losing_points(endpoint, tmp_path):
    writing = Writing(endpoint.login, tmp_path / "spool", patience_s=0.1, spool_limit_bytes=20)
    writing.writer.submit(lines(0), "fits")
    assert writing.answer("fits").state == "spooled"
    writing.writer.submit(lines(100, 10), "waits")

    with pytest.raises(AssertionError, match="waited"):
        writing.answer("waits", 1.5)
    endpoint.start()

    assert writing.answer("waits", 20).state in {"acknowledged", "spooled"}
    wait_until(lambda: len(endpoint.values()) == 11, 20, "all points")


def test_without_a_database_there_is_no_writer(tmp_path):
    assert open_writer(Login("", "", "", ""), tmp_path, called=lambda: None) is None


class Misbehaving(http.server.BaseHTTPRequestHandler):
    """Answers each write as the test says: a status, or silence."""

    behave: Callable[[Misbehaving], None]

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).behave(self)

    def reply(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def misbehaving() -> Iterator[type[Misbehaving]]:
    handler = type("Handler", (Misbehaving,), {"seen": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.login = Login(f"http://127.0.0.1:{server.server_port}", TOKEN, "o", "b")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield handler
    server.shutdown()


def test_a_database_that_is_busy_for_a_moment_gets_the_points_once(misbehaving, tmp_path):
    answers = iter([503, 429, 204])

    def behave(request: Misbehaving) -> None:
        status = next(answers)
        if status == 204:
            misbehaving.seen.append(request.body)
        request.reply(status, Retry_After="0")

    misbehaving.behave = behave
    writing = Writing(misbehaving.login, tmp_path / "spool", patience_s=10)

    writing.writer.submit(lines(0), "job")

    assert writing.answer("job").state == "acknowledged"
    assert [body.strip() for body in misbehaving.seen] == [lines(0).strip()]


def test_a_database_that_wants_less_at_a_time_gets_less(misbehaving, tmp_path):
    def behave(request: Misbehaving) -> None:
        if len(request.body) > 40:
            request.reply(413)
        else:
            misbehaving.seen.append(request.body)
            request.reply(204)

    misbehaving.behave = behave
    writing = Writing(misbehaving.login, tmp_path / "spool")

    writing.writer.submit(lines(0, 20), "job")

    assert writing.answer("job").state == "acknowledged"
    assert b"\n".join(body.strip() for body in misbehaving.seen) == lines(0, 20).strip()
