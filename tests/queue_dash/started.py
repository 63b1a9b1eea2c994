"""A queue-dash process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import requests

from tests.conftest import free_port
from tests.wait import wait_until


@contextmanager
def queue_dash(**settings: str) -> Iterator[str]:
    """The URL of one that has these variables, and ends with the block."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "cloudburst.queue_dash"],
        env=os.environ | {"CLOUDBURST_DASH_PORT": str(port)} | settings,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(url), 20, "queue-dash to answer")
        yield url
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False
