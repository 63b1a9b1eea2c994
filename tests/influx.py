"""Debian's InfluxDB 1.6 as a process of a test; an nginx in front of it takes what clients of 2.x write.

If CLOUDBURST_TEST_INFLUXD names the program of an InfluxDB 2, it is that one, with the compose file's
settings: InfluxQL is asked with a token that may only read, and nginx adds the operator's for the rest.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from cloudburst import names
from tests.conftest import free_port
from tests.wait import wait_until

COMPOSE = Path(__file__).resolve().parents[1] / "stack" / "docker-compose.yml"

REAL = os.environ.get("CLOUDBURST_TEST_INFLUXD", "")
OPERATOR = "Operator-Token_3"

DATABASE = names.BUCKET
STACK_DATABASE = names.BUCKET_STACK

_SETTINGS = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
dir = "{directory}/meta"
[data]
dir = "{directory}/data"
wal-dir = "{directory}/wal"
query-log-enabled = false
[coordinator]
max-select-buckets = {buckets}
[http]
bind-address = "127.0.0.1:{port}"
log-enabled = false
[logging]
level = "error"
[monitor]
store-enabled = false
"""

# The one thing that 1.6 lacks of 2.x for clients that write: the path, and the name of the database.
_WRITE = "/api/v2/write?org=cloudburst" if REAL else "/write?db=$arg_bucket&precision=n?"
_GATEWAY = """
daemon off;
user root root; # the test's directories are closed to others
pid {directory}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_max_body_size 0;
    proxy_set_header Authorization "Token {operator}";
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{gateway};
        location = /api/v2/write {{
            rewrite ^ {write} break;
            proxy_pass http://127.0.0.1:{port};
        }}
        location / {{
            proxy_pass http://127.0.0.1:{port};
        }}
    }}
}}
"""


def settings() -> dict[str, str]:
    """All that the compose file tells the program of InfluxDB."""
    found = re.findall(r'^      ((?:INFLUXD_|GOMEM)\w+): "?([^"\n#]+)', COMPOSE.read_text(), re.MULTILINE)
    return {name: re.sub(r"^\$\{.*:-(.*)\}$", r"\1", value.strip()) for name, value in found}


def real(directory: Path, port: int) -> list[str]:
    """The command line of an InfluxDB 2."""
    paths = [f"--{name}-path={directory}/{name}" for name in ("bolt", "engine", "sqlite")]
    return [REAL, f"--http-bind-address=127.0.0.1:{port}", *paths]


def ask(url: str, method: str, path: str, **options: Any) -> Any:
    """What InfluxDB 2 answers its operator: JSON, None where it is empty; a refusal fails the test."""
    headers = {"Authorization": f"Token {OPERATOR}"}
    answer = requests.request(method, f"{url}/api/v2/{path}", headers=headers, timeout=30, **options)
    assert answer.ok, answer.text
    return answer.json() if answer.content else None


def set_up(url: str) -> None:
    """As its image does when it is new."""
    if ask(url, "GET", "setup")["allowed"]:
        said = {"username": "cloudburst", "password": "password", "org": names.ORG, "bucket": names.BUCKET}
        ask(url, "POST", "setup", json=said | {"token": OPERATOR})


def make(url: str, bucket: str) -> None:
    org = ask(url, "GET", "buckets")["buckets"][0]["orgID"]
    ask(url, "POST", "buckets", json={"orgID": org, "name": bucket, "retentionRules": []})


class Influx:
    """One database, in a directory of its own. ``url`` takes what influxdb-client writes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port, rpc, gateway = free_port(), free_port(), free_port()
        self.url = f"http://127.0.0.1:{gateway}"
        values = {"directory": directory, "port": self._port, "rpc": rpc, "gateway": gateway}
        values["buckets"] = settings()["INFLUXD_INFLUXQL_MAX_SELECT_BUCKETS"]
        values |= {"write": _WRITE, "operator": OPERATOR}
        (directory / "influxdb.conf").write_text(_SETTINGS.format(**values))
        (directory / "nginx.conf").write_text(_GATEWAY.format(**values))
        self._processes: list[subprocess.Popen[bytes]] = []
        self._reader = ""

    def start(self) -> None:
        if REAL:
            self._run(*real(self._directory, self._port))
        else:
            self._run(program("influxd"), "-config", str(self._directory / "influxdb.conf"))
        if len(self._processes) == 1:
            self._run(program("nginx"), "-c", str(self._directory / "nginx.conf"))
        wait_until(self._answers, 20, "InfluxDB to answer")
        if not REAL:
            self.query(f"CREATE DATABASE {DATABASE}")
            self.query(f"CREATE DATABASE {STACK_DATABASE}")
        elif not self._reader:
            set_up(self.url)
            make(self.url, STACK_DATABASE)
            org = ask(self.url, "GET", "buckets")["buckets"][0]["orgID"]
            may = [{"action": "read", "resource": {"type": "buckets", "orgID": org}}]
            made = ask(self.url, "POST", "authorizations", json={"orgID": org, "permissions": may})
            self._reader = made["token"]

    def span(self, shard_s: int) -> None:
        """Have shard groups of so many seconds in the bucket of jobs."""
        if REAL:
            (bucket,) = ask(self.url, "GET", f"buckets?name={DATABASE}")["buckets"]
            rule = {"type": "expire", "everySeconds": 0, "shardGroupDurationSeconds": shard_s}
            ask(self.url, "PATCH", f"buckets/{bucket['id']}", json={"retentionRules": [rule]})
        else:
            policy = f'"autogen" ON "{DATABASE}" DURATION INF REPLICATION 1 SHARD DURATION {shard_s}s'
            self.query(f"ALTER RETENTION POLICY {policy}")

    @property
    def shards(self) -> int:
        """How many there are, of all buckets."""
        return len(list(self._directory.glob("**/data/*/autogen/*")))

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            process.wait(10)
        self._processes.clear()

    def query(self, text: str, database: str = "") -> list[dict[str, Any]]:
        """The series that InfluxQL finds; an error of the database fails the test.

        Without a ``database``: in the one that has what the stack measures, if that is asked for.
        """
        database = database or (STACK_DATABASE if 'FROM "cloudburst_' in text else DATABASE)
        url, asked = f"http://127.0.0.1:{self._port}/query", {"db": database, "q": text, "epoch": "ms"}
        token = self._reader if text.startswith(("SELECT", "SHOW")) else OPERATOR
        answer = requests.post(url, asked, headers={"Authorization": f"Token {token}"}, timeout=30)
        assert answer.status_code == 200, f"{text}: {answer.text}"
        (result,) = answer.json().get("results", [{}])  # 2.x has none for a change
        assert "error" not in result, f"{text}: {result['error']}"
        return result.get("series", [])

    def rows(self, text: str, database: str = "") -> list[dict[str, Any]]:
        """The rows of all series, with their tags as columns."""
        return [
            series.get("tags", {}) | dict(zip(series["columns"], values, strict=True))
            for series in self.query(text, database)
            for values in series["values"]
        ]

    def _run(self, *argv: str) -> None:
        with (self._directory / "log").open("ab") as log:
            environ = os.environ | settings()
            self._processes.append(subprocess.Popen(argv, env=environ, stdout=log, stderr=log))

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/ping", timeout=2).status_code == 204
        except requests.RequestException:
            return False


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Influx]:
    """An empty database. Without its programs the test is skipped, before anything has started."""
    for name in ("influxd", "nginx"):
        program(name)
    database = Influx(directory)
    try:
        database.start()
        yield database
    finally:
        database.stop()


def program(name: str) -> str:
    """Its path. Where it is not installed the test is skipped, but not in continuous integration."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        missing = f"{name} is not installed: apt-get install influxdb nginx-light chromium openssh-client"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    return found
