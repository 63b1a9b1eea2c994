"""Points of one series too many do not reach the database: the writer, with a real Redis and endpoint."""

from __future__ import annotations

import logging
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from cloudburst.errors import QueueError
from cloudburst.model import EnsembleSpec
from cloudburst.points import line
from cloudburst.points.parse import beginnings_of, keys_of, series_of
from cloudburst.points.series import REMEMBERED, SeriesLimit
from cloudburst.points.writer import Answer, PointWriter
from cloudburst.rqwire.connection import connect
from cloudburst.rqwire.ensembles import Ensembles
from cloudburst.rqwire.series import SeriesCounts
from tests.conftest import RedisServer
from tests.points.endpoint import Endpoint
from tests.wait import wait_until

LIMIT = 10


@pytest.fixture
def ensemble(redis_server: RedisServer) -> str:
    return made(redis_server)


def made(redis_server: RedisServer) -> str:
    return Ensembles(redis_server.client()).create(EnsembleSpec("e", "worker.work", "d" * 64))


def limit_of(redis_server: RedisServer, limit: int = LIMIT) -> SeriesLimit:
    return SeriesLimit(SeriesCounts(connect(redis_server.url_of("worker"), timeout_s=0.5), limit))


class Writing:
    """A writer with a limit, and what it has answered."""

    def __init__(self, endpoint: Endpoint, spool_dir: Path, limit: SeriesLimit) -> None:
        self.called = threading.Event()
        self.writer = PointWriter(
            endpoint.login, spool_dir, called=self.called.set, series=limit, patience_s=0.3
        )
        self.answers: dict[str, Answer] = {}

    def submit(self, lines: bytes, token: str, ensemble: str, summary: bytes = b"") -> None:
        self.writer.submit([lines] if lines else [], token, ensemble=ensemble, summary=summary)

    def answered(self, token: str) -> Answer | None:
        self.answers |= {answer.token: answer for answer in self.writer.poll()}
        return self.answers.get(token)

    def answer(self, token: str) -> Answer:
        return wait_until(lambda: self.answered(token), 15, f"an answer for {token}")


@pytest.fixture
def writing(endpoint, tmp_path, redis_server):
    endpoint.start()
    writing = Writing(endpoint, tmp_path / "spool", limit_of(redis_server))
    yield writing
    writing.writer.close(0)


def lines(*runs: int, points: int = 2) -> bytes:
    return b"".join(b"m,run=%d v=%d %d\n" % (run, i, 1 + i) for i in range(points) for run in runs)


def test_what_is_too_much_is_left_out_and_all_else_arrives(writing, endpoint, redis_server, ensemble):
    other = made(redis_server)

    writing.submit(b"", "own", ensemble, summary=b"result v=0 1\n")
    writing.answer("own")
    writing.submit(lines(*range(15)), "0", ensemble)
    first = writing.answer("0")
    writing.submit(lines(20, 21), "1", ensemble, summary=b"result v=1 2\n")
    writing.submit(lines(30), "2", other)
    writing.submit(lines(40), "3", "")

    assert first.state == "acknowledged"
    assert first.left_out.startswith("its jobs write more than 10 series of points, and those of further")
    assert "the tag run has most values" in first.left_out
    assert writing.answer("1") == Answer("1", "acknowledged", left_out=first.left_out)
    assert [writing.answer(token) for token in "23"] == [
        Answer("2", "acknowledged"),
        Answer("3", "acknowledged"),
    ]
    written = [int(point["tags"]["run"]) for point in endpoint.points("m")]
    assert len([run for run in written if run < 20]) == 2 * LIMIT
    assert sorted(run for run in written if run >= 20) == [30, 30, 40, 40]
    assert endpoint.values("result") == [0, 1]


def test_a_job_of_which_nothing_is_left_is_answered_for(writing, endpoint, ensemble, tmp_path):
    writing.submit(lines(*range(LIMIT)), "0", ensemble)
    writing.answer("0")
    endpoint.kill()

    writing.submit(lines(99), "1", ensemble)
    without_the_database = writing.answer("1")
    writing.submit(lines(1), "2", ensemble)
    writing.answer("2")
    writing.submit(lines(98), "3", ensemble)
    behind_the_spool = writing.answer("3")

    assert (without_the_database.state, behind_the_spool.state) == ("acknowledged", "spooled")
    assert without_the_database.left_out == behind_the_spool.left_out != ""
    assert [path.read_bytes() for path in (tmp_path / "spool").glob("*.lp")] == [lines(1)]


def test_another_worker_knows_what_this_one_has_written(writing, endpoint, redis_server, ensemble, tmp_path):
    writing.submit(lines(*range(LIMIT)), "0", ensemble)
    writing.answer("0")
    other = Writing(endpoint, tmp_path / "other", limit_of(redis_server))

    other.submit(lines(*range(LIMIT), points=3), "again", ensemble)
    other.submit(lines(99), "more", ensemble)

    assert not other.answer("again").left_out
    assert other.answer("more").left_out
    assert len(endpoint.points("m")) == 3 * LIMIT
    other.writer.close(0)


def test_while_redis_is_away_what_needs_it_waits(writing, endpoint, redis_server, ensemble, caplog):
    caplog.set_level(logging.DEBUG, "cloudburst.points")
    writing.submit(lines(1), "0", ensemble)
    writing.answer("0")
    redis_server.kill()

    writing.submit(lines(1, points=5), "known", ensemble)
    known = writing.answer("known")
    writing.submit(lines(2), "new", ensemble)
    wait_until(lambda: caplog.text.count("cannot be counted") > 1, 15, "a second try")

    assert known.state == "acknowledged"
    assert writing.answered("new") is None
    redis_server.start()
    assert writing.answer("new") == Answer("new", "acknowledged")
    assert len(endpoint.points("m")) == 7


def test_a_worker_that_stops_does_not_wait_for_redis(writing, redis_server, ensemble):
    redis_server.kill()
    writing.submit(lines(1), "0", ensemble)

    started = time.monotonic()
    writing.writer.close(10)

    assert time.monotonic() - started < 5
    assert writing.answered("0") is None  # it is run again


def test_points_go_on_where_redis_does_not_let_us_count(endpoint, redis_server, ensemble, tmp_path, caplog):
    redis_server.url_of("worker")
    redis_server.client().execute_command("ACL", "SETUSER", "worker", "-pfadd", "-evalsha", "-eval")
    client = redis.Redis(port=redis_server.port, username="worker", password="worker-password")
    endpoint.start()
    writing = Writing(endpoint, tmp_path / "spool", SeriesLimit(SeriesCounts(client, LIMIT)))

    writing.submit(lines(*range(50)), "0", ensemble)

    assert writing.answer("0") == Answer("0", "acknowledged")
    assert len(endpoint.points("m")) == 100
    assert "series of points are not counted" in caplog.text
    writing.writer.close(0)


# -- which series lines are of ----------------------------------------------------------------------------


def test_texts_with_newlines_and_tags_with_spaces_are_read_as_the_database_does(redis_server, ensemble):
    limit = limit_of(redis_server, 3)
    text = "\n".join(f"{n} v=1 {n}" for n in range(50))
    written = [line.encode("a b", {"v": 1, "text": text}, {"the tag": "x, y=z", "other": n}, 1) for n in "12"]

    assert limit.refused({ensemble: "".join(f"{each}\n" for each in written).encode()}) == {}
    more = line.encode("a b", {"text": f'"{text}'}, {"the tag": "x"}, 1)
    assert limit.refused({ensemble: f"{written[0]}\n{more}\n".encode()}) == {}
    beyond = f"{line.encode('a b', {'v': 1, 'text': text}, {'the tag': 'many'}, 1)}\n"
    (refused,) = limit.refused({ensemble: f"{more}\n{beyond}".encode()}).values()

    assert "the tag" in refused.why
    assert refused.without(f"{more}\n{beyond}{more}\n".encode()) == f"{more}\n{more}\n".encode()


@pytest.mark.parametrize("tag", ["x", "x y", "x,y", "x=y", "ä ö", "x\\y", "\\ y"])
def test_each_key_is_found_and_beginnings_of_it_are_told_apart(tag):
    encoded = f"{line.encode('m', {'v': 1.5}, {'tag': tag}, 1)}\n".encode()

    (key,) = keys_of(encoded)
    (beginning,) = beginnings_of(encoded)

    assert dict(series_of(key.decode()).tags) == {"tag": tag}
    assert beginning == key or beginning.endswith(b"\\")
    assert not key.endswith(b"\\")


def test_tags_in_another_order_are_the_same_series(redis_server, ensemble):
    limit = limit_of(redis_server, 1)

    assert limit.refused({ensemble: b"m,a=1,b=2 v=1 1\n"}) == {}
    assert limit.refused({ensemble: b"m,b=2,a=1 v=1 1\n"}) == {}
    assert limit.refused({ensemble: b"m,b=2,a=3 v=1 1\n"})[ensemble].keys == {b"m,b=2,a=3"}


def many_values() -> Iterator[str]:
    return (f"run={n}" for n in range(40_000))


def many_tags() -> Iterator[str]:
    return (",".join(f"t{n}.{k}=1" for k in range(7000)) for n in range(12))


def many_tags_of_many_series() -> Iterator[str]:
    return (",".join(f"t{n}.{k}=1" for k in range(32)) for n in range(3000))


def long_values() -> Iterator[str]:
    return (f"t={'x' * 60_000}{n}" for n in range(16))


@pytest.mark.parametrize("tags", [many_values, many_tags, many_tags_of_many_series, long_values])
def test_no_write_takes_much_memory(redis_server, ensemble, tags):
    limit = limit_of(redis_server, 1_000_000)
    lines = "".join(f"m,{its} v=1 1\n" for its in tags()).encode()

    tracemalloc.start()
    limit.refused({ensemble: lines})
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 32 << 20


def test_what_is_remembered_is_bounded_and_what_was_forgotten_is_still_known(redis_server, ensemble):
    limit = limit_of(redis_server, REMEMBERED + 3000)
    runs = [b"m,run=%d v=1 1\n" % n for n in range(REMEMBERED + 3000)]
    batches = [b"".join(runs[begin : begin + 10_600]) for begin in range(0, len(runs), 10_600)]

    for batch in [*batches, *batches]:
        assert limit.refused({ensemble: batch}) == {}

    assert len(limit._known) <= REMEMBERED
    assert limit.refused({ensemble: b"m,run=new v=1 1\n"})


def test_nothing_is_decided_while_redis_is_away(redis_server, ensemble):
    limit = limit_of(redis_server)
    redis_server.pause()
    with pytest.raises(QueueError, match="cannot be counted"):
        limit.refused({ensemble: lines(1)})
    redis_server.resume()

    assert limit.refused({ensemble: lines(1)}) == {}
