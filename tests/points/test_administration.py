"""Retention and mapping.

There is no InfluxDB 2 to be had where this is tested: the other side is a stand-in that knows the requests of
its published API (buckets, dbrps) and no more. An InfluxDB 1 refuses them for real.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cloudburst.errors import ConfigError, PointsError
from cloudburst.points.administration import map_database, retention_s, set_retention
from cloudburst.points.database import Login
from tests.influx import Influx

BUCKET_ID = "0123456789abcdef"


class Published(ThreadingHTTPServer):
    """The part of InfluxDB 2's API that is needed, with one bucket."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.every_seconds = 0
        self.mappings: list[dict[str, Any]] = []

    @property
    def login(self) -> Login:
        return Login(f"http://127.0.0.1:{self.server_port}", "operator", "cloudburst", "cloudburst")


class _Request(BaseHTTPRequestHandler):
    server: Published

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        match urlsplit(self.path).path:
            case "/api/v2/buckets":
                rules = [{"type": "expire", "everySeconds": self.server.every_seconds}]
                bucket = {"id": BUCKET_ID, "name": "cloudburst", "orgID": "1", "retentionRules": rules}
                there = query["name"] == ["cloudburst"] and query["org"] == ["cloudburst"]
                self._answer(200, {"buckets": [bucket] if there else []})
            case "/api/v2/dbrps":
                self._answer(200, {"content": self.server.mappings})
            case _:
                self._answer(404, {})

    def do_PATCH(self) -> None:
        if self.path != f"/api/v2/buckets/{BUCKET_ID}":
            return self._answer(404, {})
        (rule,) = self._body()["retentionRules"]
        assert rule["type"] == "expire"
        self.server.every_seconds = rule["everySeconds"]
        return self._answer(200, {"id": BUCKET_ID, "name": "cloudburst", "retentionRules": [rule]})

    def do_POST(self) -> None:
        if self.path != "/api/v2/dbrps":
            return self._answer(404, {})
        body = self._body() | {"id": "2", "orgID": "1"}
        self.server.mappings.append(body)
        return self._answer(201, body)

    def _body(self) -> dict[str, Any]:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        if self.headers["Authorization"] != "Token operator":
            status, body = 401, {"code": "unauthorized", "message": "unauthorized access"}
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def influx2() -> Iterator[Published]:
    server = Published()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_retention_is_changed_once(influx2):
    assert set_retention(influx2.login, 90 * 86400)
    assert influx2.every_seconds == 90 * 86400
    assert not set_retention(influx2.login, 90 * 86400)
    assert set_retention(influx2.login, 0)


def test_the_name_is_mapped_only_if_nothing_maps_it(influx2):
    assert map_database(influx2.login)
    assert not map_database(influx2.login)
    (mapping,) = influx2.mappings
    assert mapping["bucketID"] == BUCKET_ID
    assert (mapping["database"], mapping["retention_policy"]) == ("cloudburst", "autogen")
    assert mapping["default"] is True


def test_an_unknown_bucket_is_named(influx2):
    login = influx2.login
    with pytest.raises(PointsError, match="no bucket 'other' in organisation 'cloudburst'"):
        set_retention(Login(login.url, login.token, login.org, "other"), 0)


def test_a_wrong_token_and_a_database_that_is_away_are_said(influx2):
    login = influx2.login
    with pytest.raises(PointsError, match="answers 401"):
        set_retention(Login(login.url, "wrong", login.org, login.bucket), 0)
    with pytest.raises(PointsError, match="does not answer"):
        set_retention(Login("http://127.0.0.1:1", "t", "o", "b"), 0)


def test_an_influxdb_1_is_told_apart(influx: Influx):
    with pytest.raises(PointsError, match="it is no InfluxDB 2"):
        set_retention(Login(influx.url, "", "cloudburst", "cloudburst"), 3600)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("0s", 0), ("1h", 3600), ("90d", 7_776_000), ("52w", 31_449_600), ("3600s", 3600)],
)
def test_a_retention_is_read(text, seconds):
    assert retention_s(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "90", "-1d", "1.5d", "90 days", "30m", "59s"])
def test_what_is_no_retention_is_refused(text):
    with pytest.raises(ConfigError, match="retention: should be"):
        retention_s(text)
