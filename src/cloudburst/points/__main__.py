"""``python -m cloudburst.points``: take points as InfluxDB would, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from cloudburst import config, log, names
from cloudburst.errors import CloudburstError, ConfigError, StackError
from cloudburst.points.app import create_app
from cloudburst.points.store import Store

GRACE_S = 1
"""After SIGTERM, requests that are under way get so long. What is not acknowledged is sent again."""

logger = logging.getLogger("cloudburst.points")


@dataclass(frozen=True)
class Settings:
    """What the endpoint needs to know; the token stays out of ``repr``."""

    database: Path
    host: str
    port: int
    token: str

    def __repr__(self) -> str:
        return f"Settings(database={str(self.database)!r}, host={self.host!r}, port={self.port})"

    @classmethod
    def from_environ(cls, environ: config.Environ) -> Settings:
        """Read ``CLOUDBURST_POINTS_*`` (ConfigError when one is wrong)."""
        database = environ.get("CLOUDBURST_POINTS_DB")
        if not database:
            raise ConfigError("CLOUDBURST_POINTS_DB: should name the file in which points are stored")
        token = config.secret(environ, "CLOUDBURST_POINTS_TOKEN")
        if not token:
            raise ConfigError(
                "CLOUDBURST_POINTS_TOKEN: the write endpoint does not start without a token; "
                "set it, or CLOUDBURST_POINTS_TOKEN_FILE"
            )
        return cls(
            database=Path(database).absolute(),
            host=environ.get("CLOUDBURST_POINTS_HOST") or "127.0.0.1",
            port=config.integer(environ, "CLOUDBURST_POINTS_PORT", names.PORT_INFLUX),
            token=token,
        )


def serve(settings: Settings) -> None:
    """Serve until a signal ends it (SystemExit). StackError when the port is in use."""
    listener = _listener(settings)
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(Store(settings.database), settings.token),
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    logger.info(
        "taking points on http://%s:%d into %s",
        settings.host,
        listener.getsockname()[1],
        settings.database,
    )
    server.run(sockets=[listener])


def _listener(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=1024)
    except OSError as error:
        why = str(error.strerror).partition(" (while")[0]  # create_server repeats the address there
        raise StackError(
            f"the write endpoint for points cannot listen on {settings.host}:{settings.port}"
            f" ({why}): stop what uses that port, or set CLOUDBURST_POINTS_PORT"
        ) from error


def main() -> None:
    log.configure()
    # uvicorn ends its requests on a signal and then raises it again, for this to end the process with 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        serve(Settings.from_environ(os.environ))
    except CloudburstError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
