"""A stack for tests of the client: real Redis, real file store, and a worker that runs a Python function."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis
import requests

from cloudburst.model import Endpoints
from cloudburst.rqwire import encoding
from cloudburst.rqwire.leases import Answer, Claim, Leases, Outcome
from tests.conftest import RedisServer, free_port
from tests.wait import wait_until

TOKEN = "a-token-for-tests"


class ScriptedWorker:
    """Claims jobs, and answers in a thread with what ``function`` makes of their descriptions."""

    def __init__(
        self,
        client: redis.Redis,
        function: Callable[[dict[str, Any]], Any],
        *,
        batch: int = 50,
        lease_s: float = 60,
    ) -> None:
        # Not as the client's user, who may not do what workers do.
        where = client.connection_pool.connection_kwargs
        client = redis.Redis(host=where["host"], port=where["port"])
        self._leases = Leases(client, queue="default", worker="scripted", node="node-1", lease_s=lease_s)
        self._function = function
        self._batch = batch
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> ScriptedWorker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.is_set():
            claims = self._patiently(lambda: self._leases.claim(self._batch))
            if not claims:
                # Claims whose reply was lost come back when their leases run out.
                self._patiently(lambda: list(self._leases.reap()))
                time.sleep(0.01)
                continue
            outcomes = [self._outcome(claim) for claim in claims]
            self._patiently(lambda outcomes=outcomes: self._leases.finish(outcomes))

    def _patiently(self, call: Callable[[], list[Any]]) -> list[Any] | list[Claim] | list[Answer]:
        while not self._stop.is_set():
            try:
                return call()
            except redis.ConnectionError:
                time.sleep(0.05)
        return []

    def _outcome(self, claim: Claim) -> Outcome:
        started = time.time()
        try:
            value = self._function(encoding.description(claim.data))
        except Exception as error:  # noqa: BLE001  whatever the test's function raises
            return Outcome(
                claim,
                "failed",
                started,
                time.time() - started,
                error=f"{type(error).__name__}: {error}",
                fingerprint=type(error).__name__.lower(),
                traceback=traceback.format_exc(),
                output=b"printed before it failed\n",
            )
        return Outcome(claim, "finished", started, time.time() - started, value=json.dumps(value).encode())


@contextlib.contextmanager
def file_store(directory: Path) -> Iterator[str]:
    """A file store process; yields its URL."""
    port = free_port()
    variables = {
        "CLOUDBURST_FILES_DIR": str(directory),
        "CLOUDBURST_FILESTORE_TOKEN": TOKEN,
        "CLOUDBURST_FILESTORE_PORT": str(port),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "cloudburst.filestore"], env=os.environ | variables, stderr=subprocess.PIPE
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(url) or process.poll(), 20, "the file store to answer")
        assert process.poll() is None, process.communicate()
        yield url
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/health", timeout=5).ok
    except requests.ConnectionError:
        return False


def endpoints(redis_server: RedisServer, filestore_url: str) -> Endpoints:
    return Endpoints(
        stack="test",
        redis_url=redis_server.url_of("client"),
        filestore_url=filestore_url,
        filestore_token=TOKEN,
        influx_url="",
        influx_token="",
    )


def payload(directory: Path) -> Path:
    """A directory that makes a payload: one function, no dependencies."""
    directory.mkdir(parents=True)
    (directory / "Pipfile").write_text("")
    (directory / "worker.py").write_text("def work(params):\n    return params\n")
    return directory
