"""Logs of a service on several nodes. In Docker's place is a program that writes as its client does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudburst.errors import ConfigError
from cloudburst.hosts.local import LocalHost
from cloudburst.stack.swarm.logs import Log
from cloudburst.stack.swarm.runner import Runner

DOCKER = """#!/bin/sh
echo "$@" >>"$STAND_IN/asked"
cat "$STAND_IN/log"
case "$*" in *--follow*)
  echo "2026-11-27T10:00:09.000000000Z swarm_worker.0@b    | b five"
  echo "2026-11-27T10:00:10.000000000Z swarm_worker.0@a    | a six" ;;
esac
echo "warning: incomplete log stream: node c is not available" >&2
"""

# Node by node, as Docker gives them.
WRITTEN = """\
2026-11-27T10:00:01.000000000Z swarm_worker.0@a    | a one
2026-11-27T10:00:04.000000000Z swarm_worker.0@a    | a three
2026-11-27T10:00:04.000000000Z swarm_worker.0@a    |
2026-11-27T10:00:02.500000000Z swarm_worker.0@b    | b two | x@y    | z
2026-11-27T10:00:05.000000000Z swarm_worker.0@b    | b four
"""
WARNING = "warning: incomplete log stream: node c is not available"

Shown = Callable[..., list[str]]


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    (tmp_path / "log").write_text(WRITTEN)
    path = f"{tmp_path}:{os.environ['PATH']}"
    host = LocalHost(os.environ | {"STAND_IN": str(tmp_path), "PATH": path})

    def show(service: str = "worker", node: str = "", *, follow: bool = False, tail: int = 200) -> list[str]:
        said: list[str] = []
        runner = Runner({host.name: host}, lambda _line: None)
        Log(runner, "swarm", service, said.append).show(node, follow=follow, tail=tail)
        return said

    return show


def without_warnings(lines: list[str]) -> list[str]:
    assert WARNING in lines, "what Docker itself says is shown as it is"
    return [line for line in lines if line != WARNING]


def test_lines_of_all_nodes_are_in_the_order_of_time_and_say_where_they_were_written(shown: Shown) -> None:
    assert without_warnings(shown()) == [
        *("a | a one", "b | b two | x@y    | z", "a | a three", "a | ", "b | b four")
    ]


def test_the_last_lines_are_those_of_all_nodes_together(shown: Shown) -> None:
    assert without_warnings(shown(tail=2)) == ["a | ", "b | b four"]
    assert without_warnings(shown(tail=0)) == []


def test_one_can_ask_for_one_node(shown: Shown) -> None:
    assert without_warnings(shown(node="b", tail=1)) == ["b | b four"]
    assert without_warnings(shown(node="b", follow=True))[-1] == "b | b five"


def test_following_goes_on_where_reading_has_ended_and_shows_nothing_twice(
    shown: Shown, tmp_path: Path
) -> None:
    lines = without_warnings(shown(follow=True, tail=1))

    assert lines == ["b | b four", "b | b five", "a | a six"]
    assert "--follow --since 2026-11-27T10:00:05.000000000Z swarm_worker" in (tmp_path / "asked").read_text()


def test_a_service_that_there_is_not_is_refused_with_those_that_there_are(shown: Shown) -> None:
    with pytest.raises(ConfigError, match=r"--logs: 'workers' is not a service; these are: .*worker"):
        shown("workers")
