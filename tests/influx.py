"""Debian's InfluxDB 1.6 as a process of a test; an nginx in front of it takes what clients of 2.x write."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests

from cloudburst import names
from tests.conftest import free_port
from tests.wait import wait_until

COMPOSE = Path(__file__).resolve().parents[1] / "stack" / "docker-compose.yml"

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
_GATEWAY = """
daemon off;
user root root; # the test's directories are closed to others
pid {directory}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{gateway};
        location = /api/v2/write {{
            rewrite ^ /write?db=$arg_bucket&precision=n? break;
            proxy_pass http://127.0.0.1:{port};
        }}
        location / {{
            proxy_pass http://127.0.0.1:{port};
        }}
    }}
}}
"""


def setting(name: str) -> str:
    """What the compose file tells InfluxDB."""
    found = re.search(rf'^      {name}: "?([^"\n]+)', COMPOSE.read_text(), re.MULTILINE)
    assert found, name
    return found[1]


class Influx:
    """One database, in a directory of its own. ``url`` takes what influxdb-client writes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port, rpc, gateway = free_port(), free_port(), free_port()
        self.url = f"http://127.0.0.1:{gateway}"
        values = {"directory": directory, "port": self._port, "rpc": rpc, "gateway": gateway}
        values["buckets"] = setting("INFLUXD_INFLUXQL_MAX_SELECT_BUCKETS")
        (directory / "influxdb.conf").write_text(_SETTINGS.format(**values))
        (directory / "nginx.conf").write_text(_GATEWAY.format(**values))
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self._run(program("influxd"), "-config", str(self._directory / "influxdb.conf"))
        if len(self._processes) == 1:
            self._run(program("nginx"), "-c", str(self._directory / "nginx.conf"))
        wait_until(self._answers, 20, "InfluxDB to answer")
        self.query(f"CREATE DATABASE {DATABASE}")
        self.query(f"CREATE DATABASE {STACK_DATABASE}")

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
        answer = requests.post(f"{self.url}/query", {"db": database, "q": text, "epoch": "ms"}, timeout=30)
        assert answer.status_code == 200, f"{text}: {answer.text}"
        (result,) = answer.json()["results"]
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
            self._processes.append(subprocess.Popen(argv, stdout=log, stderr=log))

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/ping", timeout=2).status_code == 204
        except requests.RequestException:
            return False


def program(name: str) -> str:
    """Its path. Where it is not installed the test is skipped, but not in continuous integration."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        missing = f"{name} is not installed: apt-get install influxdb nginx-light chromium"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    return found
