"""The compose file, as every Docker client that is here reads it. No node has labels: nothing is started."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.images.engine import CLIENTS, REPOSITORY, Engine

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
