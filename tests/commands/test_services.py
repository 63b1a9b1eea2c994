"""Facts in, argv and environment out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloudburst.commands import services
from cloudburst.commands.command import Command

HOME = Path("/home/ada/.cloudburst/local")

WORKER: dict[str, Any] = {
    "redis_host": "127.0.0.1",
    "redis_port": 6379,
    "redis_password_file": HOME / "secrets/redis-password",
    "filestore_host": "127.0.0.1",
    "filestore_port": 25478,
    "filestore_token_file": HOME / "secrets/filestore-token",
    "influx": {"INFLUX_URL": "http://127.0.0.1:8086"},
    "state_dir": HOME / "worker",
    "slots": 2,
    "allow_pickle": True,
    "builds": {"PIP_INDEX_URL": "https://mirror.example/simple"},
}

WORKER_ENV = {
    "REDIS_HOST": "127.0.0.1",
    "REDIS_PORT": "6379",
    "REDIS_PASSWORD_FILE": "/home/ada/.cloudburst/local/secrets/redis-password",
    "FILE_HOST": "127.0.0.1",
    "FILE_HOST_PORT": "25478",
    "FILE_HOST_TOKEN_FILE": "/home/ada/.cloudburst/local/secrets/filestore-token",
    "INFLUX_URL": "http://127.0.0.1:8086",
    "CLOUDBURST_STATE_DIR": "/home/ada/.cloudburst/local/worker",
    "CLOUDBURST_SLOTS": "2",
    "CLOUDBURST_ALLOW_PICKLE": "1",
    "PIP_INDEX_URL": "https://mirror.example/simple",
}


@pytest.mark.parametrize(
    ("command", "module", "env"),
    [
        (
            services.filestore(
                "python", host="127.0.0.1", port=25478, directory=HOME / "files", token_file=HOME / "token"
            ),
            "cloudburst.filestore",
            {
                "CLOUDBURST_FILES_DIR": "/home/ada/.cloudburst/local/files",
                "CLOUDBURST_FILESTORE_HOST": "127.0.0.1",
                "CLOUDBURST_FILESTORE_PORT": "25478",
                "CLOUDBURST_FILESTORE_TOKEN_FILE": "/home/ada/.cloudburst/local/token",
            },
        ),
        (
            services.points(
                "python", host="127.0.0.1", port=8086, database=HOME / "points.db", token_file=HOME / "token"
            ),
            "cloudburst.points",
            {
                "CLOUDBURST_POINTS_DB": "/home/ada/.cloudburst/local/points.db",
                "CLOUDBURST_POINTS_HOST": "127.0.0.1",
                "CLOUDBURST_POINTS_PORT": "8086",
                "CLOUDBURST_POINTS_TOKEN_FILE": "/home/ada/.cloudburst/local/token",
            },
        ),
        (
            services.queue_dash("python", host="127.0.0.1", port=9181, redis_url_file=HOME / "url"),
            "cloudburst.queue_dash",
            {
                "CLOUDBURST_DASH_HOST": "127.0.0.1",
                "CLOUDBURST_DASH_PORT": "9181",
                "CLOUDBURST_REDIS_URL_FILE": "/home/ada/.cloudburst/local/url",
            },
        ),
        (services.worker("python", **WORKER), "cloudburst.worker", WORKER_ENV),
        (
            services.worker("python", **WORKER | {"redis_password_file": None, "allow_pickle": False}),
            "cloudburst.worker",
            {key: value for key, value in WORKER_ENV.items() if key != "REDIS_PASSWORD_FILE"}
            | {"CLOUDBURST_ALLOW_PICKLE": "0"},
        ),
    ],
)
def test_a_service_is_a_module_with_its_settings(command: Command, module: str, env: dict[str, str]) -> None:
    assert command == Command(("python", "-P", "-m", module), env=env)
