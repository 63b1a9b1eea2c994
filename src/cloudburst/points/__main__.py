"""``python -m cloudburst.points``: take points as InfluxDB would, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from cloudburst import config, names, serving
from cloudburst.errors import ConfigError
from cloudburst.points.app import create_app
from cloudburst.points.store import Store

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
    listener = serving.listener(
        "the write endpoint for points", settings.host, settings.port, "CLOUDBURST_POINTS_PORT"
    )
    app = create_app(Store(settings.database), settings.token)
    logger.info(
        "taking points on http://%s:%d into %s",
        settings.host,
        listener.getsockname()[1],
        settings.database,
    )
    serving.run(app, listener, lifespan="off")


if __name__ == "__main__":
    serving.main(lambda: serve(Settings.from_environ(os.environ)))
