"""Services, a worker and an observer that write to a real InfluxDB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudburst.rqwire.acl import ROLES, rules
from tests.influx import DATABASE, Influx, program
from tests.worker import payload
from tests.worker.conftest import MiniStack

BUSY = {"CLOUDBURST_OBSERVE": "1", "CLOUDBURST_OBSERVE_S": "0.5"}


class Observed(MiniStack):
    """The small stack of the worker's tests, with a database for points; the observer is started by tests."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        (directory / "influx").mkdir()
        self.influx = Influx(directory / "influx")

    def start(self) -> None:
        self.start_redis()
        self.start_filestore()
        self.influx.start()
        self.connect()

    def start_redis(self) -> None:
        """With users that are there from its first moment on, each time."""
        users = ["default on nopass ~* &* +@all"]
        for role in ROLES:
            users.append(f"{role} on >{role}-password resetkeys resetchannels -@all {' '.join(rules(role))}")
        file = self.directory / "users.acl"
        file.write_text("".join(f"user {user}\n" for user in users))
        self.redis_server.start("--aclfile", str(file))

    def observer(self, **settings: str) -> None:
        server = f"127.0.0.1:{self.redis_server.port}"
        environ = {
            "CLOUDBURST_REDIS_URL": f"redis://observer:observer-password@{server}/0",
            "CLOUDBURST_OBSERVED_DISK": str(self.directory),
            "INFLUX_URL": self.influx.url,
        }
        self._process("cloudburst.observer", environ | BUSY | settings, "observer")

    def stop(self) -> None:
        super().stop()
        self.influx.stop()


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """With one worker of two slots on node ``a``; it and the observer measure twice a second."""
    for name in ("influxd", "nginx"):
        program(name)
    stack = Observed(tmp_path_factory.mktemp("observed"))
    payload.write(stack.directory / "payload")
    try:
        stack.start()
        stack.worker(slots=2, state="a", INFLUX_URL=stack.influx.url, INFLUX_BUCKET=DATABASE, **BUSY)
        stack.observer()
        yield stack
    finally:
        stack.stop()
