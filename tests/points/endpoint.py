"""The local write endpoint for tests: a process that can be killed, paused and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from cloudburst.points.database import Login
from tests.conftest import free_port
from tests.wait import wait_until

TOKEN = "a-token-that-no-log-may-show"


class Endpoint:
    """``python -m cloudburst.points`` on a free port; its log is the file ``log``."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.database = directory / "points.db"
        self.log = directory / "points.log"
        self.login = Login(self.url, TOKEN, "cloudburst", "cloudburst")
        self.process: subprocess.Popen[bytes] | None = None

    def environ(self) -> dict[str, str]:
        return os.environ | {
            "CLOUDBURST_POINTS_DB": str(self.database),
            "CLOUDBURST_POINTS_PORT": str(self.port),
            "CLOUDBURST_POINTS_TOKEN": TOKEN,
        }

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cloudburst.points"], env=self.environ(), stderr=log
            )
        wait_until(self.answers, 20, "the endpoint to answer")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def answers(self) -> bool:
        try:
            return self.ask("GET", "/health", token="")[0] == 200
        except OSError:
            return False

    def ask(
        self, method: str, path: str, body: bytes | None = None, *, token: str = TOKEN, **headers: str
    ) -> tuple[int, Any]:
        """Status and decoded answer: JSON, else text."""
        about = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            about.setdefault("Authorization", f"Token {token}")
        request = urllib.request.Request(self.url + path, body, about, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, _decoded(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _decoded(error)

    def write(self, lines: str | bytes, query: str = "", **headers: str) -> tuple[int, Any]:
        body = lines.encode() if isinstance(lines, str) else lines
        return self.ask("POST", f"/api/v2/write?org=cloudburst&bucket=cloudburst{query}", body, **headers)

    def points(self, measurement: str = "m", **selection: str) -> list[dict[str, Any]]:
        query = urlencode({"measurement": measurement, **selection})
        status, text = self.ask("GET", f"/cloudburst/points?{query}")
        assert status == 200, text
        return [json.loads(line) for line in text.splitlines()]

    def values(self, measurement: str = "m") -> list[float]:
        """Field ``v`` of all points."""
        return [point["fields"]["v"] for point in self.points(measurement)]


def _decoded(answer: Any) -> Any:
    text = answer.read().decode()
    return json.loads(text) if answer.headers.get_content_type() == "application/json" else text
