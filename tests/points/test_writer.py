"""The worker's way to the database, against the real local endpoint and against one that misbehaves."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from cloudburst.errors import PointsError
from cloudburst.points.database import Login
from cloudburst.points.writer import Answer, PointWriter, open_writer
from tests.conftest import free_port
from tests.points.endpoint import TOKEN, Endpoint
from tests.points.jobs import is_bad, values_of
from tests.points.misbehaving import Misbehaving, Write
from tests.wait import wait_until


class Writing:
    """A writer, and what it has answered."""

    def __init__(self, login: Login, spool_dir: Path, **settings) -> None:
        self.called = threading.Event()
        self.spool_dir = spool_dir
        self.writer = PointWriter(login, spool_dir, called=self.called.set, **settings)
        self.answers: dict[str, Answer] = {}

    def submit(self, lines: bytes, token: str) -> None:
        self.writer.submit([lines], token)

    def look(self) -> None:
        for answer in self.writer.poll():
            assert answer.token not in self.answers, "answered twice"
            self.answers[answer.token] = answer

    def answer(self, token: str, timeout_s: float = 15) -> Answer:
        def look() -> Answer | None:
            self.look()
            return self.answers.get(token)

        answer = wait_until(look, timeout_s, f"an answer for {token}")
        assert self.called.is_set()
        return answer

    def states(self, count: int) -> list[str]:
        """Of the submissions "0", "1" and so on."""
        return [self.answer(str(i)).state for i in range(count)]

    def spooled_files(self) -> list[Path]:
        return sorted(self.spool_dir.glob("*.lp"))

    def wait_for_empty_spool(self) -> None:
        wait_until(lambda: not self.spooled_files(), 20, "an empty spool")


@pytest.fixture
def writing(tmp_path: Path):
    """Makes writers, by default with a short patience and on one spool directory."""
    all_of_them: list[Writing] = []

    def make(login: Login, **settings) -> Writing:
        made = Writing(login, tmp_path / "spool", **{"patience_s": 0.3, **settings})
        all_of_them.append(made)
        return made

    yield make
    for each in all_of_them:
        each.writer.close(0)


@pytest.fixture
def misbehaving() -> Iterator[Misbehaving]:
    server = Misbehaving()
    yield server
    server.end()


def lines(first: int, count: int = 1) -> bytes:
    return b"".join(b"m v=%d %d\n" % (i, i + 1) for i in range(first, first + count))


# -- the database is there --------------------------------------------------------------------------------


def test_acknowledged_points_are_in_the_database(endpoint, writing):
    endpoint.start()
    write = writing(endpoint.login, patience_s=10)

    for i in range(50):
        write.submit(lines(i * 10, 10), str(i))

    assert set(write.states(50)) == {"acknowledged"}
    assert endpoint.values() == list(range(500))


def test_what_comes_together_while_a_write_is_under_way_shares_the_next_one(misbehaving, writing):
    first, go = threading.Event(), threading.Event()

    def slow(write: Write) -> None:
        first.set()
        go.wait(10)
        write.reply(204)

    misbehaving.behave = slow
    write = writing(misbehaving.login, patience_s=10)
    write.submit(lines(0), "0")
    assert first.wait(10)
    for i in range(1, 100):
        write.submit(lines(i), str(i))
    go.set()

    assert set(write.states(100)) == {"acknowledged"}
    assert misbehaving.bodies == [lines(0), lines(1, 99)]


def test_a_large_submission_is_cut_into_several_writes_and_answered_once(misbehaving, writing):
    write = writing(misbehaving.login, patience_s=10)
    text = b"".join(b'm v="two\nlines %0100d" %d\n' % (i, i) for i in range(10_000))

    write.submit(text, "0")

    assert write.states(1) == ["acknowledged"]
    assert b"".join(misbehaving.bodies) == text
    assert len(misbehaving.bodies) == 3
    assert all(body.startswith(b"m v=") and body.endswith(b"\n") for body in misbehaving.bodies)


def test_malformed_points_are_rejected_and_those_of_other_jobs_are_not(misbehaving, endpoint, writing):
    endpoint.start()
    go = threading.Event()

    def pass_on(write: Write) -> None:
        go.wait(10)
        write.reply(*write.pass_on(endpoint.url))

    misbehaving.behave = pass_on
    write = writing(misbehaving.login, patience_s=10)
    for i in range(40):
        write.submit(b"no line protocol\n" if i in (3, 20, 21) else lines(i), str(i))
    go.set()

    good = [i for i in range(40) if i not in (3, 20, 21)]
    assert [i for i, state in enumerate(write.states(40)) if state == "acknowledged"] == good
    assert write.answer("3").message == "line 1: unable to parse 'no line protocol': invalid field format"
    assert endpoint.values() == good
    assert len(misbehaving.bodies) < 40  # halving, not one by one


def test_points_with_another_type_than_before_are_rejected_with_the_reason(endpoint, writing):
    endpoint.start()
    write = writing(endpoint.login, patience_s=10)

    write.submit(b"m v=1 1\n", "0")
    write.submit(b"m v=1i 2\n", "1")
    write.submit(b"m v=3 3\n", "2")

    assert write.states(3) == ["acknowledged", "rejected", "acknowledged"]
    assert "already exists as type float" in write.answer("1").message
    assert endpoint.values() == [1.0, 3.0]


def test_a_database_that_wants_less_at_a_time_gets_less(misbehaving, writing):
    taken: list[bytes] = []

    def small_only(write: Write) -> None:
        if len(write.body) > 60:
            write.reply(413)
        else:
            taken.append(write.body)
            write.reply(204)

    misbehaving.behave = small_only
    write = writing(misbehaving.login, patience_s=10)
    text = b"".join(b'm v="a\nb" %d\n' % i for i in range(20))

    write.submit(text, "0")
    write.answer("0")
    write.submit(b'm v="' + b"x" * 100 + b'" 1\n', "1")

    assert write.states(2) == ["acknowledged", "rejected"]
    assert b"".join(taken) == text
    assert all(body.startswith(b"m v=") for body in taken)


def test_a_line_without_newline_does_not_run_into_the_next_job_s(misbehaving, writing):
    write = writing(misbehaving.login, patience_s=10)

    for i in range(3):
        write.submit(lines(i).rstrip(), str(i))

    assert write.states(3) == ["acknowledged"] * 3
    assert b"".join(misbehaving.bodies) == lines(0, 3)


# -- the database is away ---------------------------------------------------------------------------------


def test_points_are_spooled_while_the_database_is_away_and_delivered_in_order_later(endpoint, writing):
    write = writing(endpoint.login)

    write.submit(lines(0), "0")
    assert write.answer("0").state == "spooled"
    began = time.monotonic()
    for i in range(1, 5):
        write.submit(b"m v=%d 1\n" % i, str(i))  # the same point, again and again
        assert write.answer(str(i)).state == "spooled"
    assert time.monotonic() - began < 0.3 * 4  # the patience is spent once, not for each job

    endpoint.start()
    write.wait_for_empty_spool()
    assert endpoint.values() == [4.0]
    write.submit(lines(5), "5")
    assert write.answer("5").state == "acknowledged"


def test_a_database_that_is_busy_for_a_moment_gets_the_points(misbehaving, writing):
    answers = iter([503, 429, 500, 204])
    misbehaving.behave = lambda write: write.reply(next(answers))
    write = writing(misbehaving.login, patience_s=10)

    write.submit(lines(0), "0")

    assert write.states(1) == ["acknowledged"]
    assert misbehaving.bodies == [lines(0)] * 4


def test_a_database_that_hangs_costs_no_more_than_the_patience(misbehaving, writing):
    misbehaving.behave = Write.hang
    write = writing(misbehaving.login)
    began = time.monotonic()

    write.submit(lines(0), "0")
    assert write.answer("0").state == "spooled"
    for i in range(1, 20):
        write.submit(lines(i), str(i))
        assert write.answer(str(i)).state == "spooled"

    assert time.monotonic() - began < 5


@pytest.mark.parametrize("behave", [Write.cut, lambda write: write.reply(502, b"<html>\xff")])
def test_cut_connections_and_answers_of_proxies_are_waited_out(misbehaving, writing, behave):
    misbehaving.behave = behave
    write = writing(misbehaving.login)
    write.submit(lines(0), "0")
    assert write.states(1) == ["spooled"]

    before = len(misbehaving.bodies)
    misbehaving.behave = lambda write: write.reply(204)

    write.wait_for_empty_spool()
    assert misbehaving.bodies[before:] == [lines(0)] or misbehaving.bodies[-1] == lines(0)


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_database_that_asks_to_be_left_alone_is(misbehaving, writing, form):
    until = datetime.now(UTC) + timedelta(seconds=3)
    header = "3" if form == "seconds" else format_datetime(until.replace(microsecond=0), usegmt=True)
    asked: list[float] = []

    def busy(write: Write) -> None:
        asked.append(time.monotonic())
        write.reply(503, Retry_After=header) if len(asked) == 1 else write.reply(204)

    misbehaving.behave = busy
    write = writing(misbehaving.login)

    write.submit(lines(0), "0")
    assert write.states(1) == ["spooled"]  # at once: the pause is longer than the patience
    assert len(asked) == 1
    write.wait_for_empty_spool()

    assert asked[1] - asked[0] > 1.5


@pytest.mark.parametrize(
    "header", ["nan", "inf", "-5", "1e999", "Mon, 01 Jan 0001 00:00:00 -0000", "soon", ""]
)
def test_a_pause_that_makes_no_sense_is_not_waited_for(misbehaving, writing, header):
    asked: list[bytes] = []

    def busy(write: Write) -> None:
        asked.append(write.body)
        write.reply(503, Retry_After=header) if len(asked) < 3 else write.reply(204)

    misbehaving.behave = busy
    write = writing(misbehaving.login)

    write.submit(lines(0), "0")

    assert write.states(1) == ["spooled"]
    write.wait_for_empty_spool()


@pytest.mark.parametrize(
    "answer", [b"[" * 100_000, b'{"message": "' + b"x" * 1_000_000 + b'"}', b"no reason", b""]
)
def test_whatever_a_database_says_about_a_refusal_is_told_in_short(misbehaving, writing, answer):
    misbehaving.behave = lambda write: write.reply(400, answer)
    write = writing(misbehaving.login, patience_s=10)

    write.submit(lines(0), "0")

    assert write.states(1) == ["rejected"]


@pytest.mark.parametrize(
    ("token", "org", "bucket", "setting"),
    [
        ("wrong", "cloudburst", "cloudburst", "check INFLUX_TOKEN"),
        (TOKEN, "cloudburst", "wrong", "check INFLUX_BUCKET and INFLUX_ORG"),
        (TOKEN, "wrong", "cloudburst", "check INFLUX_BUCKET and INFLUX_ORG"),
    ],
)
def test_a_wrong_setting_spools_at_once_and_is_named_once(
    running_endpoint, writing, caplog, token, org, bucket, setting
):
    write = writing(Login(running_endpoint.url, token, org, bucket), patience_s=30)

    for i in range(3):
        write.submit(lines(i), str(i))

    assert write.states(3) == ["spooled"] * 3
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert setting in errors[0]
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("status", [200, 302, 405])
def test_a_web_server_that_is_no_influxdb_is_not_trusted_with_points(misbehaving, writing, caplog, status):
    misbehaving.behave = lambda write: write.reply(status, b"<html>Welcome</html>")
    write = writing(misbehaving.login, patience_s=30)

    write.submit(lines(0), "0")

    assert write.states(1) == ["spooled"]
    assert "it is no InfluxDB, check INFLUX_URL" in caplog.text


def test_going_and_coming_back_is_logged_once(endpoint, writing, caplog):
    caplog.set_level(logging.INFO)
    write = writing(endpoint.login)
    for i in range(3):
        write.submit(lines(i), str(i))
        write.answer(str(i))
    endpoint.start()

    def talk() -> list[str]:
        return [record.message for record in caplog.records if endpoint.url in record.message]

    wait_until(lambda: len(talk()) == 2, 20, "the log of both")
    assert talk() == [
        f"points: {endpoint.url} does not answer ([Errno 111] Connection refused);"
        " until it takes them they are kept on disk",
        f"points: {endpoint.url} takes them again",
    ]


# -- the spool --------------------------------------------------------------------------------------------


def test_the_next_worker_delivers_first_what_an_earlier_one_has_spooled(endpoint, writing):
    earlier = writing(endpoint.login)
    earlier.submit(b"m v=1 1\n", "0")
    earlier.submit(b"m v=2 2\n", "1")
    assert earlier.states(2) == ["spooled"] * 2
    earlier.writer.close(5)

    later = writing(endpoint.login)
    later.submit(b"m v=3 1\n", "0")
    assert later.answer("0").state == "spooled"
    endpoint.start()

    later.wait_for_empty_spool()
    assert endpoint.values() == [3.0, 2.0]


def test_how_many_points_wait_since_when_and_why_is_told_until_they_are_delivered(endpoint, writing):
    before = time.time()
    earlier = writing(endpoint.login)
    assert earlier.writer.waiting() is None
    earlier.submit(lines(0, 20), "0")
    earlier.submit(lines(20, 3), "1")
    assert earlier.states(2) == ["spooled"] * 2
    waiting = earlier.writer.waiting()
    earlier.writer.close(5)

    assert waiting.points == 23
    assert before <= waiting.since <= time.time()
    assert "does not answer" in waiting.reason

    later = writing(endpoint.login)
    assert later.writer.waiting().points == 23
    assert later.writer.waiting().since == pytest.approx(waiting.since, abs=1)
    endpoint.start()
    wait_until(lambda: later.writer.waiting() is None, 20, "nothing to wait")


def test_a_spooled_line_that_is_refused_for_good_is_put_aside_and_holds_up_nothing(endpoint, writing, caplog):
    write = writing(endpoint.login)
    write.submit(lines(0) + b"no line protocol\n" + lines(1), "0")
    write.submit(lines(2), "1")
    assert write.states(2) == ["spooled"] * 2

    endpoint.start()

    write.wait_for_empty_spool()
    assert endpoint.values() == [0, 1, 2]
    assert (write.spool_dir / "refused.txt").read_text().splitlines()[1:] == ["no line protocol"]
    assert "spooled points are refused for good" in caplog.text


def test_a_hundred_thousand_spooled_lines_that_are_refused_hold_up_nothing(misbehaving, endpoint, writing):
    endpoint.start()
    misbehaving.behave = lambda write: write.reply(503)
    write = writing(misbehaving.login)
    write.submit(b'odd v="text" 1\n', "0")
    assert write.answer("0").state == "spooled"
    write.submit(b"".join(b"odd v=%d %d\n" % (i, i + 2) for i in range(100_000)), "1")
    assert write.answer("1").state == "spooled"
    write.submit(lines(0, 10), "2")
    assert write.answer("2").state == "spooled"
    already = len(misbehaving.bodies)

    misbehaving.behave = lambda write: write.reply(*write.pass_on(endpoint.url))

    write.wait_for_empty_spool()
    assert endpoint.values() == list(range(10))
    assert len(misbehaving.bodies) - already < 200
    refused = (write.spool_dir / "refused.txt").read_text().splitlines()
    assert {line for line in refused if not line.startswith("#")} >= {
        f"odd v={i} {i + 2}" for i in range(100_000)
    }
    assert "already exists as type string" in refused[0]


def test_a_full_spool_makes_jobs_wait_instead_of_losing_points(endpoint, writing, caplog):
    write = writing(endpoint.login, spool_limit_bytes=20)
    write.submit(lines(0), "fits")
    assert write.answer("fits").state == "spooled"
    write.submit(lines(100, 10), "waits")

    wait_until(lambda: "the spool is full" in caplog.text, what="the warning")
    write.look()
    assert "waits" not in write.answers
    endpoint.start()

    assert write.answer("waits", 20).state in {"acknowledged", "spooled"}
    write.wait_for_empty_spool()
    assert endpoint.values() == [0, *range(100, 110)]


def test_points_larger_than_the_spool_wait_for_the_database_too(endpoint, writing):
    write = writing(endpoint.login, spool_limit_bytes=5)
    write.submit(lines(0), "0")

    endpoint.start()

    assert write.answer("0", 20).state == "acknowledged"


def test_a_disk_that_refuses_makes_jobs_wait_too(endpoint, writing, caplog):
    write = writing(endpoint.login)
    write.spool_dir.rmdir()  # stands for any error of the file system; root may write everywhere
    write.submit(lines(0), "0")

    wait_until(lambda: "cannot be kept on disk" in caplog.text, what="the warning")
    write.look()
    assert write.answers == {}
    endpoint.start()

    assert write.answer("0", 20).state == "acknowledged"


def test_a_file_that_was_not_finished_is_not_delivered(endpoint, writing, tmp_path):
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "000000000007.tmp").write_bytes(b"m v=1 1\nm v=")
    (tmp_path / "spool" / "000000000003.lp").write_bytes(b"m v=2 2\n")
    endpoint.start()

    write = writing(endpoint.login)

    write.wait_for_empty_spool()
    assert endpoint.values() == [2.0]
    assert list(write.spool_dir.iterdir()) == []


def test_somebody_may_empty_the_spool_by_hand(endpoint, writing):
    write = writing(endpoint.login)
    write.submit(lines(0), "0")
    assert write.states(1) == ["spooled"]
    for path in write.spooled_files():
        path.unlink()

    endpoint.start()

    def is_direct_again() -> bool:
        token = str(len(write.answers))
        write.submit(lines(int(token)), token)
        return write.answer(token).state == "acknowledged"

    wait_until(is_direct_again, 20, "writes without the spool")


# -- the end ----------------------------------------------------------------------------------------------


def test_closing_writes_what_is_left(endpoint, writing):
    endpoint.start()
    write = writing(endpoint.login, patience_s=10)
    for i in range(200):
        write.submit(lines(i), str(i))

    write.writer.close(10)

    assert set(write.states(200)) == {"acknowledged"}
    assert endpoint.values() == list(range(200))
    with pytest.raises(PointsError, match="the worker is stopping"):
        write.submit(lines(0), "late")


def test_closing_spools_what_the_database_does_not_take_without_waiting_for_it(writing, caplog):
    write = writing(Login(f"http://127.0.0.1:{free_port()}", TOKEN, "o", "b"), patience_s=30)
    began = time.monotonic()
    write.submit(lines(0), "0")
    write.writer.close(10)

    assert time.monotonic() - began < 5
    assert write.states(1) == ["spooled"]
    assert [path.read_bytes() for path in write.spooled_files()] == [lines(0)]
    assert "for the next worker with this state directory" in caplog.text


def test_closing_delivers_the_spool_if_the_database_is_there(endpoint, writing):
    write = writing(endpoint.login)
    for i in range(5):
        write.submit(lines(i), str(i))
        assert write.answer(str(i)).state == "spooled"
    endpoint.start()

    write.writer.close(20)

    assert write.spooled_files() == []
    assert endpoint.values() == [0, 1, 2, 3, 4]


def test_without_a_database_there_is_no_writer(tmp_path):
    assert open_writer(Login("", "", "", ""), tmp_path, called=lambda: None) is None


# -- everything at once -----------------------------------------------------------------------------------


def misbehave_at_random(server: Misbehaving, endpoint: Endpoint, seed: int) -> None:
    """Now and then some writes in a row are passed on without an answer, refused, cut off or left hanging."""
    chance = random.Random(seed)
    storm = 0

    def pass_on(write: Write, *, answered: bool) -> None:
        try:
            answer = write.pass_on(endpoint.url)
        except OSError:
            answered = False
        if answered:
            write.reply(*answer)
        else:
            write.cut()

    def behave(write: Write) -> None:
        nonlocal storm
        if not storm and chance.random() < 0.06:
            storm = chance.randint(1, 8)
        storm = max(storm - 1, 0)
        kind = chance.choice(["lose", "lose", "busy", "cut", "hang"]) if storm else "take"
        if kind == "busy":
            write.reply(503, Retry_After="0")
        elif kind == "hang":
            server.over.wait(0.6)
            write.cut()
        elif kind == "cut":
            write.cut()
        else:
            pass_on(write, answered=kind == "take")

    server.behave = behave


@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_no_point_is_lost_or_doubled(endpoint, misbehaving, tmp_path, seed):
    endpoint.start()
    misbehave_at_random(misbehaving, endpoint, seed)
    chance = random.Random(seed)
    spool = tmp_path / "spool"
    states: dict[int, str] = {}
    jobs = range(400)

    def work(until: int, *, kill_database: bool = False) -> None:
        """Write what is not final yet, as a worker does; it is killed after so many answers."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.points.writing_process", misbehaving.url, TOKEN, str(spool)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        process.stdin.write("".join(f"{number}\n" for number in jobs if number not in states))
        process.stdin.close()
        for answered, line in enumerate(process.stdout):
            number, state = line.split()
            states[int(number)] = state
            if kill_database and answered == until // 2:
                endpoint.kill()
                endpoint.start()
            if answered == until:
                process.kill()
        process.stdout.close()
        process.wait()

    work(until=chance.randint(60, 100))
    work(until=chance.randint(60, 100), kill_database=True)
    work(until=len(jobs))
    misbehaving.behave = lambda write: write.reply(*write.pass_on(endpoint.url))
    rest = Writing(misbehaving.login, spool)
    rest.wait_for_empty_spool()
    rest.writer.close(5)

    assert set(states) == set(jobs)
    assert {n for n, state in states.items() if state == "rejected"} <= {n for n in jobs if is_bad(n)}
    refused = spool / "refused.txt"
    aside = refused.read_text() if refused.exists() else ""
    bad_but_spooled = [n for n in jobs if is_bad(n) and states[n] == "spooled"]
    assert all(f"this is no line protocol {n}\n" in aside for n in bad_but_spooled)
    assert not [n for n in jobs if is_bad(n) and states[n] == "acknowledged"]
    expected = sorted(value for n in jobs if not is_bad(n) for value in values_of(n))
    assert sorted(endpoint.values()) == expected


# -- summaries, large submissions, damage -----------------------------------------------------------------


def test_a_summary_that_is_refused_is_told_and_costs_nothing_else(endpoint, writing):
    endpoint.start()
    write = writing(endpoint.login, patience_s=10)
    write.submit(b'result peak="high" 1\n', "0")
    write.answer("0")

    write.writer.submit([lines(1)], "1", summary=b"result peak=1 2\n")
    write.writer.submit([], "2", summary=b"result peak=2 3\n")
    write.writer.submit([b"m v=1i 9\n"], "3", summary=b"result other=3 4\n")

    for token in ("1", "2"):
        assert write.answer(token).state == "acknowledged"
        assert "already exists as type string" in write.answer(token).refused_summary
    assert write.answer("3").state == "rejected"
    assert write.answer("3").refused_summary == ""


def test_a_large_submission_is_read_as_it_is_written_and_lets_others_pass(misbehaving, writing):
    write = writing(misbehaving.login, patience_s=10)
    read: list[int] = []

    def pieces() -> Iterator[bytes]:
        for i in range(20):
            read.append(i)
            yield b'm v="%0400000d" %d\n' % (i, i)

    def reply(to: Write) -> None:
        if len(misbehaving.bodies) == 2:
            write.writer.submit([b"small v=1 1\n"], "small")
        to.reply(204)

    misbehaving.behave = reply
    write.writer.submit(pieces(), "large")

    assert write.answer("large").state == "acknowledged"
    first = next(i for i, body in enumerate(misbehaving.bodies) if b"small" in body)
    assert first < 8
    assert sum(body.count(b"\n") for body in misbehaving.bodies if b"m v=" in body) >= 20


def test_points_that_cannot_be_read_again_are_rejected_and_others_are_not(endpoint, writing):
    endpoint.start()
    write = writing(endpoint.login, patience_s=10)

    def broken() -> Iterator[bytes]:
        yield lines(0)
        yield lines(1)
        raise OSError(5, "Input/output error")

    write.writer.submit(broken(), "0")
    write.submit(lines(5), "1")

    assert write.states(2) == ["rejected", "acknowledged"]
    assert "Input/output error" in write.answer("0").message


def test_damaged_files_in_the_spool_hold_up_nothing(endpoint, writing, tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    damaged = [b"", b"m v=1", b"\xff\x00\xfe" * 100, b"m v=1 1\nm v=", b'm v="never ends\n', b"\0" * 5000]
    for i, content in enumerate(damaged):
        (spool / f"{i:012d}.lp").write_bytes(content)
    (spool / f"{len(damaged):012d}.lp").mkdir()
    (spool / f"{len(damaged) + 1:012d}.lp").symlink_to("/nowhere")
    (spool / f"{len(damaged) + 2:012d}.lp").write_bytes(lines(7))
    (spool / "7.lp").write_bytes(lines(8))
    endpoint.start()

    write = writing(endpoint.login)

    wait_until(lambda: {7, 8} <= set(endpoint.values()), 20, "the good files to arrive")
    write.submit(lines(9), "0")
    assert write.states(1) == ["acknowledged"]
