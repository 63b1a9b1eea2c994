"""No service of the master can take what the queue needs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from cloudburst.errors import ConfigError
from cloudburst.stack.swarm import compose, limits
from cloudburst.stack.swarm.settings import Settings, Wishes, resolve
from tests.wait import wait_until

COMPOSE = (Path(__file__).resolve().parents[3] / compose.FILE).read_text()
SERVICES = dict(
    re.findall(r"^  ([a-z-]+):\n(    image:.*?)(?=^\S|^  [a-z-]+:\n)", COMPOSE, re.MULTILINE | re.DOTALL)
)
ON_THE_MASTER = [name for name in compose.SERVICES if name != "worker"]
GIB = 1 << 30


def variables(memory_gib: float, **said: str) -> dict[str, str]:
    settings = resolve("hosts", Wishes(hosts="m"), None, said)
    return compose.variables(settings, {}, {}, {}, int(memory_gib * GIB))


@pytest.mark.parametrize("name", ON_THE_MASTER)
def test_every_service_of_the_master_has_a_limit_and_the_queue_is_the_last_to_be_ended(name: str) -> None:
    text = SERVICES[name]

    assert re.search(r"limits: \{memory: \S+\}", text)
    assert ("entrypoint: [sh, -c, *before-the-queue, sh, " in text) == (name != "queue")


def test_the_database_and_grafana_are_asked_whether_they_answer() -> None:
    for name in ("influx", "grafana"):
        assert "healthcheck:" in SERVICES[name]


def test_the_question_whether_the_database_answers_leaves_nothing_behind_when_its_time_is_up(
    tmp_path: Path,
) -> None:
    """An engine ends the shell alone; each client that waited on would hold memory of the database's."""
    lines = re.findall(r"- >-\n(.*?)\n +interval", SERVICES["influx"], re.DOTALL)[0].splitlines()
    words = " ".join(line.strip() for line in lines)
    (tmp_path / "influx").write_text("#!/bin/sh\necho $$ >pid\nexec sleep 100\n")
    (tmp_path / "influx").chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    shell = subprocess.Popen(["sh", "-c", words.replace("$$", "$")], cwd=tmp_path, env=environ)
    pid = tmp_path / "pid"
    wait_until(lambda: pid.exists() and pid.read_text().strip(), 10, "the client")

    try:
        assert int(pid.read_text()) == shell.pid
    finally:
        shell.kill()
        shell.wait()


def test_the_program_stays_below_the_limit_of_its_container_and_all_limits_fit_into_the_machine() -> None:
    for memory_gib in (2, 3.8, 8, 62.5):
        found = variables(memory_gib)
        influx, queue = int(found["CLOUDBURST_INFLUX_MEMORY"]), int(found["CLOUDBURST_QUEUE_MEMORY"])

        assert int(found["CLOUDBURST_INFLUX_GOMEMLIMIT"]) < influx
        assert 8 * int(found["CLOUDBURST_INFLUX_QUERY_BYTES"]) <= influx / 2
        assert queue < int(found["CLOUDBURST_QUEUE_LIMIT"]) < memory_gib * GIB
        assert influx + queue < memory_gib * GIB


def test_what_a_user_chooses_is_what_is_told() -> None:
    found = variables(16, CLOUDBURST_INFLUX_MEMORY="1gb", CLOUDBURST_QUEUE_MEMORY="12gb")

    assert found["CLOUDBURST_INFLUX_MEMORY"] == str(GIB)
    assert found["CLOUDBURST_QUEUE_MEMORY"] == "12gb"
    assert int(found["CLOUDBURST_QUEUE_LIMIT"]) > 12 * GIB


def test_a_kernel_that_takes_a_little_more_for_itself_restarts_nothing() -> None:
    assert variables(7.76) == variables(7.74)


def test_a_master_of_unknown_size_gets_what_the_compose_file_says() -> None:
    found = compose.variables(Settings("docker"), {}, {}, {})

    assert not [name for name in found if "INFLUX" in name or "QUEUE_MEMORY" in name]
    defaults = dict(re.findall(r"\$\{CLOUDBURST_INFLUX_(\w+):-(\d+)\}", COMPOSE))
    influx = int(defaults["MEMORY"])
    assert int(defaults["GOMEMLIMIT"]) == influx * 4 // 5
    assert int(defaults["QUERY_BYTES"]) == influx // 16


def test_what_is_no_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="CLOUDBURST_INFLUX_MEMORY: should be a number of bytes"):
        variables(8, CLOUDBURST_INFLUX_MEMORY="much")
    assert limits.memory("X", "512M") == 512 << 20
