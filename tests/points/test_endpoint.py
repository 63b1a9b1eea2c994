"""The local write endpoint answers as InfluxDB 2 does, and survives what happens to processes."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest

from cloudburst.points import body
from cloudburst.points.refusals import Refusal
from tests.points.endpoint import TOKEN, Endpoint
from tests.wait import wait_until

# -- answers ----------------------------------------------------------------------------------------------


def test_a_write_is_answered_with_204_and_can_be_read_at_once(running_endpoint):
    assert running_endpoint.write("one,t=a v=1,w=2i 5\none,t=b v=3 6") == (204, "")

    assert running_endpoint.points("one") == [
        {"time": 5, "tags": {"t": "a"}, "fields": {"v": 1.0, "w": 2}},
        {"time": 6, "tags": {"t": "b"}, "fields": {"v": 3.0}},
    ]


def test_points_are_read_by_tag_and_time(running_endpoint):
    running_endpoint.write("\n".join(f"some,node={n},odd={n % 2} v={n} {n}" for n in range(8)))

    assert [p["time"] for p in running_endpoint.points("some", tag="odd=1", start="2", end="7")] == [3, 5]
    status, text = running_endpoint.ask("GET", "/cloudburst/points?measurement=some&tag=odd=1&tag=node=3")
    assert (status, [json.loads(line)["time"] for line in text.splitlines()]) == (200, [3])
    assert running_endpoint.points("absent") == []
    _, found = running_endpoint.ask("GET", "/cloudburst/measurements")
    assert {"name": "some", "series": 8, "points": 8} in found["measurements"]


@pytest.mark.parametrize("query", ["", "measurement=m&tag=x", "measurement=m&start=yesterday"])
def test_a_selection_that_makes_no_sense_is_refused(running_endpoint, query):
    status, error = running_endpoint.ask("GET", f"/cloudburst/points?{query}")

    assert (status, error["code"]) == (400, "invalid")


@pytest.mark.parametrize("kind", ["Token", "Bearer", "bearer"])
def test_the_token_comes_as_influxdb_s_clients_send_it(running_endpoint, kind):
    assert running_endpoint.write("auth v=1 1", Authorization=f"{kind} {TOKEN}")[0] == 204


@pytest.mark.parametrize(
    "header",
    [{}, {"Authorization": "Token wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": TOKEN}],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/v2/write?org=cloudburst&bucket=cloudburst"),
        ("GET", "/cloudburst/points?measurement=m"),
        ("POST", "/api/v2/query"),
        ("GET", "/no/such/address"),
    ],
)
def test_nothing_is_answered_without_the_token(running_endpoint, method, path, header):
    answer = running_endpoint.ask(
        method, path, b"unauthorized v=1 1" if method == "POST" else None, token="", **header
    )

    assert answer == (401, {"code": "unauthorized", "message": "unauthorized access"})


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("org=cloudburst&bucket=other", 'bucket "other" not found'),
        ("org=cloudburst", 'bucket "" not found'),
        ("org=other&bucket=cloudburst", 'organization name "other" not found'),
    ],
)
def test_another_bucket_or_organisation_is_not_found(running_endpoint, query, message):
    status, error = running_endpoint.ask("POST", f"/api/v2/write?{query}", b"m v=1")

    assert (status, error["code"]) == (404, "not found")
    assert message in error["message"]


def test_a_malformed_line_is_named_and_nothing_of_the_body_is_stored(running_endpoint):
    status, error = running_endpoint.write("malformed v=1 1\nmalformed v= 2\nmalformed v=3 3")

    assert status == 400
    assert error == {
        "code": "invalid",
        "message": "line 2: unable to parse 'malformed v= 2': missing field value",
        "line": 2,
        "err": "missing field value",
    }
    assert running_endpoint.points("malformed") == []


def test_points_whose_fields_change_their_type_are_left_out_and_the_others_stored(running_endpoint):
    running_endpoint.write("types v=1 1")

    status, error = running_endpoint.write("types v=2 2\ntypes v=3i 3\ntypes v=4i 4")

    assert (status, error["code"]) == (422, "unprocessable entity")
    assert error["message"] == (
        'partial write: field type conflict: input field "v" on measurement "types" is type integer,'
        " already exists as type float dropped=2"
    )
    assert running_endpoint.values("types") == [1.0, 2.0]


def test_times_are_read_in_the_precision_of_the_request(running_endpoint):
    for precision in ("ns", "us", "ms", "s"):
        assert running_endpoint.write(f"precise,p={precision} v=1 7", f"&precision={precision}")[0] == 204

    assert {p["tags"]["p"]: p["time"] for p in running_endpoint.points("precise")} == {
        "ns": 7,
        "us": 7_000,
        "ms": 7_000_000,
        "s": 7_000_000_000,
    }
    status, error = running_endpoint.write("m v=1", "&precision=h")
    assert (status, error["message"]) == (
        400,
        "invalid precision; valid precision units are ns, us, ms, and s",
    )


def test_bodies_may_be_gzip(running_endpoint):
    lines = "\n".join(f"packed v={i} {i}" for i in range(5000)).encode()

    assert running_endpoint.write(gzip.compress(lines), Content_Encoding="gzip")[0] == 204
    assert running_endpoint.values("packed") == list(range(5000))


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (b"not gzip", "gzip", 400),
        (gzip.compress(b"m v=1" * 1000, mtime=0)[:-20], "gzip", 400),
        (b"m v=1", "br", 415),
        (b"m v=\xff", "identity", 400),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(running_endpoint, body, encoding, status):
    answer, error = running_endpoint.write(body, Content_Encoding=encoding)

    assert (answer, error["code"]) == (status, "invalid")


def test_all_members_of_a_gzip_body_are_stored(running_endpoint):
    members = [gzip.compress(f"members v={i} {i}\n".encode()) for i in range(3)]

    assert running_endpoint.write(b"".join(members), Content_Encoding="gzip")[0] == 204
    assert running_endpoint.values("members") == [0, 1, 2]
    assert running_endpoint.write(members[0] + b"junk", Content_Encoding="gzip")[0] == 400
    assert running_endpoint.write(members[0] + members[1][:-3], Content_Encoding="gzip")[0] == 400


def test_an_endless_body_that_holds_nothing_is_refused(running_endpoint):
    status, error = running_endpoint.write(gzip.compress(b"") * 20_000, Content_Encoding="gzip")

    assert (status, error["code"]) == (400, "invalid")
    assert "members" in error["message"]


@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
def test_a_write_of_a_client_that_offers_another_protocol_is_stored(running_endpoint, upgrade):
    lines = f"upgrade_{upgrade} v=1 1"
    connection = http.client.HTTPConnection("127.0.0.1", running_endpoint.port, timeout=20)
    connection.request(
        "POST",
        "/api/v2/write?org=cloudburst&bucket=cloudburst",
        lines,
        {"Authorization": f"Token {TOKEN}", "Connection": "Upgrade", "Upgrade": upgrade},
    )
    assert connection.getresponse().status == 204
    assert running_endpoint.values(f"upgrade_{upgrade}") == [1]


def test_a_client_that_falls_silent_in_the_middle_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(body, "IDLE_LIMIT_S", 0.1)

    async def silent():
        yield b"m v=1 1\n"
        await asyncio.sleep(30)

    async def read():
        return [chunk async for chunk in body._arriving(silent())]

    with pytest.raises(Refusal, match="nothing arrived"):
        asyncio.run(read())


def test_a_damaged_database_refuses_writes_so_that_they_are_kept_elsewhere(endpoint):
    # given a database of which some pages were lost
    endpoint.start()
    endpoint.write("\n".join(f"m,t={i} v=1 {i}" for i in range(5000)))
    endpoint.signal(signal.SIGTERM)
    endpoint.process.wait(20)
    with contextlib.closing(sqlite3.connect(endpoint.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with endpoint.database.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096 * 50)
    endpoint.start()

    # when
    status, error = endpoint.write("\n".join(f"m,t={i} v=2 {i}" for i in range(5000)))

    # then clients keep their points, and try again
    assert (status, error["code"]) == (503, "unavailable")
    assert "malformed" in error["message"]


def test_a_bomb_is_refused_before_it_is_unpacked(running_endpoint):
    pack = zlib.compressobj(9, wbits=31)
    bomb = b"".join(pack.compress(b"\n" * 2**20) for _ in range(100)) + pack.flush()

    status, error = running_endpoint.write(bomb, Content_Encoding="gzip")

    assert len(bomb) < 10**6
    assert (status, error["code"]) == (413, "request too large")
    resident = int(Path(f"/proc/{running_endpoint.process.pid}/statm").read_text().split()[1]) * 4096
    assert resident < 400_000_000


def test_a_body_that_is_too_large_is_refused_with_an_answer_that_arrives(running_endpoint):
    status, error = running_endpoint.write(b"large v=1 1\n" * 5_000_000)

    assert (status, error["code"]) == (413, "request too large")
    assert running_endpoint.points("large") == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v2/delete", 404, "not found"),
        ("PUT", "/api/v2/buckets", 405, "method not allowed"),
        ("GET", "/api/v2/buckets?limit=0", 400, "invalid"),
        ("GET", "/api/v2/buckets?limit=many", 400, "invalid"),
        ("GET", "/api/v2/buckets?offset=-1", 400, "invalid"),
        ("GET", "/api/v2/buckets/%2e%2e", 404, "not found"),
    ],
)
def test_what_it_does_not_do_is_an_error_in_json_too(running_endpoint, method, path, status, code):
    answer, error = running_endpoint.ask(method, path, b"" if method == "PUT" else None)

    assert (answer, error["code"]) == (status, code)


# -- the process ------------------------------------------------------------------------------------------


def test_what_was_acknowledged_survives_the_kill_of_the_process(endpoint):
    acknowledged: list[int] = []

    def write_until_killed() -> None:
        for i in range(10_000):
            try:
                if endpoint.write(f"m v={i} {i}")[0] == 204:
                    acknowledged.append(i)
            except OSError:
                return

    endpoint.start()
    writer = threading.Thread(target=write_until_killed)
    writer.start()
    wait_until(lambda: len(acknowledged) > 100, what="some writes")
    endpoint.kill()
    writer.join()
    endpoint.start()

    assert set(acknowledged) <= set(endpoint.values())
    assert len(endpoint.values()) - len(acknowledged) <= 1


def test_sigterm_ends_it_with_0_within_seconds_even_when_a_client_hangs(endpoint):
    endpoint.start()
    with socket.create_connection(("127.0.0.1", endpoint.port)) as hanging:
        head = f"POST /api/v2/write?bucket=cloudburst HTTP/1.1\r\nHost: x\r\nAuthorization: Token {TOKEN}\r\n"
        hanging.sendall(head.encode() + b"Content-Length: 100\r\n\r\nm v=")
        endpoint.write("m v=1 1")

        endpoint.signal(signal.SIGTERM)

        assert endpoint.process.wait(5) == 0


def test_no_line_of_the_log_can_be_forged(endpoint):
    endpoint.start()
    status, _ = endpoint.ask(
        "POST", "/api/v2/write?org=x%0A2026-01-01T00%3A00%3A00Z%20ERROR%20forged&bucket=b", b""
    )
    assert status == 404
    wait_until(lambda: "forged" in endpoint.log.read_text(), 20, "the refusal to be logged")
    assert not any(line.startswith("2026-01-01T00:00:00Z") for line in endpoint.log.read_text().splitlines())


def test_no_token_is_in_the_log(endpoint):
    endpoint.start()
    endpoint.write("m v=1 1")
    endpoint.write("malformed")
    endpoint.write("m v=1", Authorization=f"Basic {TOKEN}")
    endpoint.ask("GET", f"/cloudburst/points?token={TOKEN}")

    endpoint.signal(signal.SIGTERM)
    endpoint.process.wait(5)

    text = endpoint.log.read_text()
    assert "taking points on" in text
    assert TOKEN not in text


def test_a_port_that_is_taken_is_one_line_and_an_exit_code(tmp_path):
    endpoint = Endpoint(tmp_path)
    with socket.create_server(("127.0.0.1", endpoint.port)):
        ended = _run(endpoint.environ())

    assert ended.returncode == 9
    assert ended.stderr.splitlines() == [
        f"the write endpoint for points cannot listen on 127.0.0.1:{endpoint.port} (Address already in use):"
        " stop what uses that port, or set CLOUDBURST_POINTS_PORT"
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"CLOUDBURST_POINTS_DB": ""}, "CLOUDBURST_POINTS_DB: should name the file"),
        ({"CLOUDBURST_POINTS_TOKEN": ""}, "does not start without a token"),
        ({"CLOUDBURST_POINTS_TOKEN_FILE": "/no/such/file"}, "cannot read /no/such/file"),
        ({"CLOUDBURST_POINTS_PORT": "http"}, "CLOUDBURST_POINTS_PORT: should be a whole number"),
        ({"CLOUDBURST_POINTS_DB": "/dev/null/points.db"}, "cannot open the database of points"),
    ],
)
def test_a_wrong_setting_is_one_line(tmp_path, change, message):
    ended = _run(Endpoint(tmp_path).environ() | change)

    assert ended.returncode in {2, 7}
    assert len(ended.stderr.splitlines()) == 1
    assert message in ended.stderr


def test_the_token_may_come_from_a_file(endpoint, tmp_path):
    (tmp_path / "token").write_text(TOKEN + "\n")
    environ = endpoint.environ()
    del environ["CLOUDBURST_POINTS_TOKEN"]
    endpoint.environ = lambda: environ | {"CLOUDBURST_POINTS_TOKEN_FILE": str(tmp_path / "token")}

    endpoint.start()

    assert endpoint.write("m v=1 1")[0] == 204


def _run(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cloudburst.points"],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
