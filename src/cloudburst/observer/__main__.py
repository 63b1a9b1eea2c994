"""``python -m cloudburst.observer``: the settings are environment variables, see docs/operating.md."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time

import redis

from cloudburst import log as logs
from cloudburst.config import Environ, ObserverConfig
from cloudburst.errors import CloudburstError, ConfigError, QueueError
from cloudburst.observer.outbox import Outbox
from cloudburst.observer.rounds import Rounds, disk
from cloudburst.points.database import Login
from cloudburst.rqwire import connection

log = logging.getLogger(__name__)


class Observer:
    """Redis, the database or both may be away, at the start too: what can be written is."""

    def __init__(self, config: ObserverConfig) -> None:
        self._config = config
        self._outbox = Outbox(
            Login(config.influx_url, config.influx_token, config.influx_org, config.stack_bucket)
        )
        self._rounds: Rounds | None = None
        self._away = ""
        """What Redis said when it was away, as it was logged."""

    def round(self) -> None:
        """Measure once, and write."""
        now = time.time()
        lines: list[str] = []
        try:
            if self._rounds is None:
                client = connection.connect(self._config.redis_url)
                self._rounds = Rounds(client, self._config)
            lines += self._rounds.lines(now)
            if self._away:
                log.info("observer: Redis answers again")
                self._away = ""
        except (QueueError, redis.RedisError) as error:
            if str(error) != self._away:
                log.warning("observer: %s; trying again", error)
            self._away = str(error)
        lines += disk(self._config.disk, now)
        self._outbox.put(lines)
        self._outbox.send()


def main(environ: Environ) -> None:
    """Observe until SIGTERM or SIGINT."""
    config = ObserverConfig.from_environ(environ)
    if config.disk is not None and not config.disk.is_dir():
        raise ConfigError(f"CLOUDBURST_OBSERVED_DISK: {config.disk} is no directory here")
    logs.configure()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    observer = Observer(config)
    log.info("observer: queue %s every %g s", config.queue, config.interval_s)
    while not stopping.is_set():
        began = time.monotonic()
        observer.round()
        stopping.wait(max(config.interval_s - (time.monotonic() - began), 0.0))


if __name__ == "__main__":
    try:
        main(os.environ)
    except CloudburstError as error:
        print(error, file=sys.stderr)  # noqa: T201 - an entry point
        sys.exit(error.exit_code)
