"""The compose file, as every Docker client that is here reads it. No node has labels: nothing is started."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.engine import CLIENTS, REPOSITORY, Engine
from tests.wait import wait_until

COMPOSE = REPOSITORY / "stack" / "docker-compose.yml"
REQUIRED = re.compile(r"\$\{(CLOUDBURST_\w+):\?\}")


@pytest.fixture(scope="module")
def environ(engine: Engine) -> Iterator[dict[str, str]]:
    """Every variable that the file asks for; secrets and configs of these names are there."""
    engine.docker("swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1")
    environ = {}
    for name in set(REQUIRED.findall(COMPOSE.read_text())):
        environ[name] = f"cloudburst-tests/{name.lower()}" if "_IMAGE_" in name else name.lower()
        for kind in ("secret", "config"):
            if f"_{kind.upper()}_" in name:
                engine.docker(kind, "create", environ[name], "-", stdin=b"x")
    yield environ
    engine.docker("swarm", "leave", "--force")


@pytest.mark.parametrize("client", CLIENTS)
def test_the_compose_file_is_deployed_by_every_client(
    engine: Engine, environ: dict[str, str], client: str
) -> None:
    deploy = ["stack", "deploy", "--resolve-image=never", "-c", str(COMPOSE), "cb"]

    said = engine.docker(*deploy, client=client, env=environ, check=False)

    assert "gnoring" not in said, "options that swarms do not know"
    services = engine.docker("service", "ls", "--format", "{{.Name}} {{.Mode}}").splitlines()
    assert "cb_worker global" in services, said
    assert len(services) == len(re.findall(r"^  [a-z-]+:\n    image:", COMPOSE.read_text(), re.MULTILINE))
    engine.docker("stack", "rm", "cb", client=client)


def test_the_database_starts_as_it_says_yields_to_the_queue_and_is_unwell_when_it_does_not_answer(
    engine: Engine, environ: dict[str, str], tmp_path: Path
) -> None:
    engine.docker("stack", "deploy", "--resolve-image=never", "-c", str(COMPOSE), "cb", env=environ)
    (service,) = json.loads(engine.docker("service", "inspect", "cb_influx"))
    engine.docker("stack", "rm", "cb")
    said = service["Spec"]["TaskTemplate"]["ContainerSpec"]
    kind, question = said["Healthcheck"]["Test"]
    (tmp_path / "token").write_text("operator")

    engine.start(
        "composed",
        "cloudburst-tests/influx1",
        *(
            "--entrypoint",
            said["Command"][0],
            "--volume",
            f"{tmp_path / 'token'}:/run/secrets/influx-token:ro",
        ),
        *("--env", "DOCKER_INFLUXDB_INIT_ADMIN_TOKEN_FILE=/run/secrets/influx-token"),
        *("--env", "DOCKER_INFLUXDB_INIT_BUCKET=cloudburst"),
        *("--health-cmd", question, "--health-interval=1s", "--health-timeout=2s", "--health-retries=2"),
        address=30,
        arguments=(*said["Command"][1:], *said["Args"]),
    )
    engine.wait_healthy("composed")
    scores = 'for p in /proc/[0-9]*; do echo "$(cat $p/comm) $(cat $p/oom_score_adj)"; done'
    pause = 'for p in /proc/[0-9]*; do [ "$(cat $p/comm)" != influxd ] || kill -STOP "${p#/proc/}"; done'

    assert kind == "CMD-SHELL"
    assert "influxd 500" in engine.docker("exec", "composed", "sh", "-c", scores).splitlines()
    engine.docker("exec", "composed", "sh", "-c", pause)
    wait_until(lambda: engine.health("composed") == "unhealthy", 30, "no answer to be noticed")
