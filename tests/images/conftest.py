"""The images, built once per session, and a stack of them on one network."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloudburst.rqwire import acl
from tests.certificates import Authority
from tests.images.engine import SUBNET, Engine, why_not

HERE = Path(__file__).parent
ADDRESSES = {"queue": 11, "filestore": 12, "queue-dash": 13, "influx": 14, "gateway": 15, "worker": 16}
PASSWORDS: dict[str, str] = {role: f"{role}-password-{'x' * 40}" for role in acl.ROLES if role != "health"}
WRITE, READ, OPERATOR = (f"{role}-token-{'0123456789abcdef' * 4}" for role in ("write", "read", "operator"))
DASH_PASSWORD = "dash-password"
TOKENS_CONF = f"""\
map $http_authorization $influx_role {{
  default "";
  "~^(Token|Bearer) {WRITE}$" write;
  "~^(Token|Bearer) {READ}$" read;
}}
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and item.path.name != "test_locks.py":
            item.add_marker(pytest.mark.swarm)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(900))  # the first builds everything
    items.sort(key=lambda item: item.get_closest_marker("swarm") is not None)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """An engine that has all images."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with Engine() as engine:
        engine.build_all()
        yield engine


@dataclass(frozen=True)
class Secrets:
    """A folder of files as the compose file names them, and the authority that vouches for the services."""

    folder: Path
    authority: Authority

    def mounted(self, *names: str) -> list[str]:
        """Options for a container that gets these, as a swarm would give them."""
        return [
            word for name in names for word in ("--volume", f"{self.folder / name}:/run/secrets/{name}:ro")
        ]

    def operator(self) -> list[str]:
        """The database's first token: for itself, and for the gateway."""
        return ["--volume", f"{self.folder / 'operator-token'}:/run/secrets/influx-token:ro"]

    def add(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o400)
        # As the swarm does for the uid that the compose file gives.
        os.chown(path, 10001, 10001)


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Secrets:
    authority = Authority.make(tmp_path_factory.mktemp("authority"))
    names = ",".join(f"IP:{SUBNET}.{number}" for number in ADDRESSES.values())
    certificate, key = authority.issue("services", names)
    secrets = Secrets(tmp_path_factory.mktemp("secrets"), authority)
    secrets.folder.chmod(0o755)
    secrets.add("tls.crt", certificate.read_text())
    secrets.add("tls.key", key.read_text())
    secrets.add("queue.acl", acl.users_file(PASSWORDS))
    secrets.add("filestore-token", WRITE)
    secrets.add("filestore-read-token", READ)
    secrets.add("tokens.conf", TOKENS_CONF)
    salted = base64.b64encode(hashlib.sha1(DASH_PASSWORD.encode() + b"salt").digest() + b"salt").decode()
    secrets.add("users.htpasswd", f"cloudburst:{{SSHA}}{salted}\n")
    secrets.add("queue-url", f"redis://dash:{PASSWORDS['dash']}@queue:6379/0")
    secrets.add("queue-password", PASSWORDS["worker"])
    secrets.add("influx-token", WRITE)
    secrets.add("operator-token", OPERATOR)
    (secrets.folder / "operator-token").chmod(0o444)  # for two users
    secrets.add("builds.json", '{"CLOUDBURST_BUILD_COMPANY_TOKEN": "abc"}')
    return secrets


def start_queue(
    engine: Engine, secrets: Secrets, name: str = "queue", *options: str, address: int = 11
) -> None:
    mounted = secrets.mounted("queue.acl", "tls.crt", "tls.key")
    engine.start(name, "cloudburst-tests/queue", *mounted, *options, address=address)


@pytest.fixture(scope="session")
def stack(engine: Engine, secrets: Secrets, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """Every service in a container. Grafana is not there: it has no package here."""
    start_queue(engine, secrets)
    engine.start(
        "filestore",
        "cloudburst-tests/filestore",
        *secrets.mounted("filestore-token", "filestore-read-token"),
        *("--env", "CLOUDBURST_FILESTORE_TOKEN_FILE=/run/secrets/filestore-token"),
        *("--env", "CLOUDBURST_FILESTORE_READ_TOKEN_FILE=/run/secrets/filestore-read-token"),
        *("--memory", "256m"),
        address=ADDRESSES["filestore"],
    )
    engine.start(
        "queue-dash",
        "cloudburst-tests/queue-dash",
        *secrets.mounted("queue-url"),
        *(
            "--env",
            "CLOUDBURST_REDIS_URL_FILE=/run/secrets/queue-url",
            "--env",
            "CLOUDBURST_DASH_PATH=/queue",
        ),
        address=ADDRESSES["queue-dash"],
    )
    start_influx(engine, secrets)
    engine.start(
        "gateway",
        "cloudburst-tests/gateway",
        *secrets.mounted("tls.crt", "tls.key", "tokens.conf", "users.htpasswd"),
        *secrets.operator(),
        *("--memory", "64m"),
        address=ADDRESSES["gateway"],
    )
    for name in ("queue", "filestore", "queue-dash", "gateway"):
        engine.wait_healthy(name)
    return engine


def start_influx(engine: Engine, secrets: Secrets) -> None:
    """Debian's own, with the API of 2 in front. No Docker image of InfluxDB 2 comes as a Debian package."""
    engine.start(
        "influx",
        "cloudburst-tests/influx1",
        *("--env", "DOCKER_INFLUXDB_INIT_ADMIN_TOKEN_FILE=/run/secrets/influx-token"),
        *("--env", "DOCKER_INFLUXDB_INIT_BUCKET=cloudburst"),
        *secrets.operator(),
        address=ADDRESSES["influx"],
    )
