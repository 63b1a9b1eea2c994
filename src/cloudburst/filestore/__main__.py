"""``python -m cloudburst.filestore``: serve the file store until SIGTERM or Ctrl-C."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from cloudburst import config, names, serving
from cloudburst.errors import ConfigError, StackError
from cloudburst.filestore import space, tokens
from cloudburst.filestore.app import create_app
from cloudburst.filestore.tokens import Tokens

LIMIT_BYTES = 20 * 1024**3
PORT_LIMIT = 65535

logger = logging.getLogger("cloudburst.filestore")


@dataclass(frozen=True)
class Settings:
    """What the file store needs to know; tokens stay out of ``repr``."""

    directory: Path
    host: str
    port: int
    tokens: Tokens
    limit_bytes: int

    def __repr__(self) -> str:
        return f"Settings(directory={str(self.directory)!r}, host={self.host!r}, port={self.port})"

    @classmethod
    def from_environ(cls, environ: config.Environ) -> Settings:
        """Read ``CLOUDBURST_FILES_DIR`` and ``CLOUDBURST_FILESTORE_*`` (ConfigError when one is wrong)."""
        directory = environ.get("CLOUDBURST_FILES_DIR")
        if not directory:
            raise ConfigError("CLOUDBURST_FILES_DIR: should name the directory in which files are stored")
        token = config.secret(environ, "CLOUDBURST_FILESTORE_TOKEN")
        if not token:
            raise ConfigError(
                "CLOUDBURST_FILESTORE_TOKEN: the file store does not start without a token; "
                "set it, or CLOUDBURST_FILESTORE_TOKEN_FILE"
            )
        read_token = config.secret(environ, "CLOUDBURST_FILESTORE_READ_TOKEN")
        for name, text in (("TOKEN", token), ("READ_TOKEN", read_token)):
            if not tokens.can_be_sent(text):
                raise ConfigError(f"CLOUDBURST_FILESTORE_{name}: should be printable ASCII without spaces")
        if read_token == token:
            raise ConfigError(
                "CLOUDBURST_FILESTORE_READ_TOKEN: should be another than CLOUDBURST_FILESTORE_TOKEN"
            )
        port = config.integer(environ, "CLOUDBURST_FILESTORE_PORT", names.PORT_FILESTORE)
        if port > PORT_LIMIT:
            raise ConfigError(f"CLOUDBURST_FILESTORE_PORT: should be at most {PORT_LIMIT}, got {port}")
        return cls(
            directory=Path(directory).absolute(),
            host=environ.get("CLOUDBURST_FILESTORE_HOST") or "127.0.0.1",
            port=port,
            tokens=Tokens(token, read_token),
            limit_bytes=config.integer(environ, "CLOUDBURST_FILESTORE_LIMIT_BYTES", LIMIT_BYTES, low=1),
        )


def serve(settings: Settings) -> None:
    """Serve until a signal ends it (SystemExit). StackError when the port or the directory is in use."""
    listener = serving.listener("the file store", settings.host, settings.port, "CLOUDBURST_FILESTORE_PORT")
    try:
        app = create_app(settings.directory, settings.tokens, limit_bytes=settings.limit_bytes)
    except OSError as error:
        raise StackError(
            f"the file store cannot use {settings.directory} ({error.strerror}): set CLOUDBURST_FILES_DIR"
        ) from error
    logger.info(
        "serving %s on http://%s:%d, %d MiB free",
        settings.directory,
        settings.host,
        listener.getsockname()[1],
        space.free_bytes(settings.directory) // 1024**2,
    )
    serving.run(app, listener, lifespan="on")


if __name__ == "__main__":
    serving.main(lambda: serve(Settings.from_environ(os.environ)))
