"""CloudBurst's own services: each is a module that reads its settings from the environment.

``-P`` keeps the working directory out of the import path, where anybody's ``redis.py`` may lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cloudburst.commands.command import Command


def filestore(python: str, *, host: str, port: int, directory: Path, token_file: Path) -> Command:
    """Keeps uploaded files in ``directory``; answers ``GET /health``."""
    return Command(
        (python, "-P", "-m", "cloudburst.filestore"),
        env={
            "CLOUDBURST_FILES_DIR": str(directory),
            "CLOUDBURST_FILESTORE_HOST": host,
            "CLOUDBURST_FILESTORE_PORT": str(port),
            "CLOUDBURST_FILESTORE_TOKEN_FILE": str(token_file),
        },
    )


def points(python: str, *, host: str, port: int, database: Path, token_file: Path) -> Command:
    """The InfluxDB write endpoint of stacks without an InfluxDB; answers ``GET /health``."""
    return Command(
        (python, "-P", "-m", "cloudburst.points"),
        env={
            "CLOUDBURST_POINTS_DB": str(database),
            "CLOUDBURST_POINTS_HOST": host,
            "CLOUDBURST_POINTS_PORT": str(port),
            "CLOUDBURST_POINTS_TOKEN_FILE": str(token_file),
        },
    )


def queue_dash(python: str, *, host: str, port: int, redis_url_file: Path) -> Command:
    """The queue in a browser."""
    return Command(
        (python, "-P", "-m", "cloudburst.queue_dash"),
        env={
            "CLOUDBURST_DASH_HOST": host,
            "CLOUDBURST_DASH_PORT": str(port),
            "CLOUDBURST_REDIS_URL_FILE": str(redis_url_file),
        },
    )


def worker(
    python: str,
    *,
    redis_host: str,
    redis_port: int,
    redis_password_file: Path | None,
    filestore_host: str,
    filestore_port: int,
    filestore_token_file: Path,
    influx: Mapping[str, str],
    state_dir: Path,
    slots: int,
    allow_pickle: bool,
    builds: Mapping[str, str],
) -> Command:
    """Runs jobs. ``influx`` holds INFLUX_URL, INFLUX_ORG, INFLUX_BUCKET and INFLUX_TOKEN_FILE.

    ``builds``: variables that say how environments are built.
    """
    password = {"REDIS_PASSWORD_FILE": str(redis_password_file)} if redis_password_file else {}
    return Command(
        (python, "-P", "-m", "cloudburst.worker"),
        env={
            "REDIS_HOST": redis_host,
            "REDIS_PORT": str(redis_port),
            **password,
            "FILE_HOST": filestore_host,
            "FILE_HOST_PORT": str(filestore_port),
            "FILE_HOST_TOKEN_FILE": str(filestore_token_file),
            **influx,
            **builds,
            "CLOUDBURST_STATE_DIR": str(state_dir),
            "CLOUDBURST_SLOTS": str(slots),
            "CLOUDBURST_ALLOW_PICKLE": "1" if allow_pickle else "0",
        },
    )
