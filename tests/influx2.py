"""InfluxDB 2 as a process of a test: the real one, if there is one, or its stand-in with Debian's 1.6.

The program of a real one is named by CLOUDBURST_TEST_INFLUXD.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import requests

from cloudburst import names
from tests.conftest import free_port
from tests.influx import OPERATOR, REAL, Influx, ask, make, real, set_up, settings
from tests.wait import wait_until

API = Path(__file__).parent / "swarm/images/influx1/api.py"


class Influx2:
    """One database, as its image sets it up, and what is asked as its operator."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "influx2"
        self.directory.mkdir()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._influx1 = None if REAL else Influx(self.directory)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self._influx1:
            self._influx1.start()
        self._start()

    def _start(self) -> None:
        token = self.directory / "token"
        token.write_text(OPERATOR)
        image = {
            "DOCKER_INFLUXDB_INIT_ADMIN_TOKEN_FILE": str(token),
            "DOCKER_INFLUXDB_INIT_BUCKET": names.BUCKET,
        }
        environ = os.environ | settings() | image
        argv = real(self.directory, self.port)
        if self._influx1:
            state = str(self.directory / "api.json")
            argv = [sys.executable, str(API), str(self.port), self._influx1.url, state]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, env=environ, stdout=log, stderr=log)
        wait_until(self._answers, 20, "InfluxDB to answer")
        if REAL:
            set_up(self.url)

    def restart(self) -> None:
        self._end()
        self._start()

    def stop(self) -> None:
        self._end()
        if self._influx1:
            self._influx1.stop()

    def _end(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(20)

    def ask(self, method: str, path: str, **options: Any) -> Any:
        return ask(self.url, method, path, **options)

    def make(self, bucket: str) -> None:
        make(self.url, bucket)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=2).status_code == 200
        except requests.RequestException:
            return False
