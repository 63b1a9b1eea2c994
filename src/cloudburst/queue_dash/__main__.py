"""Serves queue-dash: ``python -m cloudburst.queue_dash``."""

from __future__ import annotations

import os
import sys

import waitress

from cloudburst import config, log, names
from cloudburst.errors import CloudburstError, ConfigError
from cloudburst.queue_dash.app import make_app

THREADS = 4
"""Redis answers in under a millisecond; a browser has about this many requests in flight."""


def main(environ: config.Environ) -> None:
    """Serve until SIGTERM. Settings: CLOUDBURST_DASH_HOST, CLOUDBURST_DASH_PORT, CLOUDBURST_REDIS_URL.

    CLOUDBURST_DASH_PATH: where a proxy has put it, such as ``/queue``.
    """
    host = environ.get("CLOUDBURST_DASH_HOST") or "127.0.0.1"
    port = config.integer(environ, "CLOUDBURST_DASH_PORT", names.PORT_QUEUE_DASH, low=1)
    redis_url = config.secret(environ, "CLOUDBURST_REDIS_URL")
    if not redis_url:
        raise ConfigError("queue-dash: CLOUDBURST_REDIS_URL is not set: it names the Redis to show")
    log.configure()
    waitress.serve(
        make_app(redis_url, host=host),
        host=host,
        port=port,
        threads=THREADS,
        ident="queue-dash",
        url_prefix=environ.get("CLOUDBURST_DASH_PATH", ""),
    )


if __name__ == "__main__":
    try:
        main(os.environ)
    except CloudburstError as error:
        print(error, file=sys.stderr)  # noqa: T201 - an entry point
        sys.exit(error.exit_code)
    except OSError as error:
        sys.exit(f"queue-dash: {error}")
