"""``python -m cloudburst.observer``: the settings are environment variables, see docs/operating.md."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import redis

from cloudburst import log as logs
from cloudburst.config import Environ, ObserverConfig
from cloudburst.errors import CloudburstError, ConfigError, QueueError
from cloudburst.observer.outbox import Outbox
from cloudburst.observer.rounds import Rounds, disk
from cloudburst.points.database import Login
from cloudburst.rqwire import connection

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often it is looked whether an ensemble is new, or has ended."""


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
        """Measure everything, and write."""
        now = time.time()
        lines = self._of_redis(Rounds.lines, now)
        lines += disk(self._config.disk, now)
        self._outbox.put(lines)
        self._outbox.send()

    def look(self) -> None:
        """Measure what does not wait for the next round, and write it unless the database is away."""
        if self._away:
            return
        self._outbox.put(self._of_redis(Rounds.quick_lines, time.time()))
        if not self._outbox.away:
            self._outbox.send()

    def _of_redis(self, measured: Callable[[Rounds, float], Iterator[str]], now: float) -> list[str]:
        """Lines as far as Redis answers."""
        lines: list[str] = []
        try:
            if self._rounds is None:
                client = connection.connect(self._config.redis_url)
                self._rounds = Rounds(client, self._config)
            lines += measured(self._rounds, now)
            if self._away:
                log.info("observer: Redis answers again")
                self._away = ""
        except (QueueError, redis.RedisError) as error:
            if str(error) != self._away:
                log.warning("observer: %s; trying again", error)
            self._away = str(error)
        return lines


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
    due = 0.0
    while not stopping.is_set():
        began = time.monotonic()
        if began >= due:
            due = began + config.interval_s
            observer.round()
        else:
            observer.look()
        next_s = min(due - time.monotonic(), LOOK_S - (time.monotonic() - began))
        stopping.wait(max(next_s, 0.0))


if __name__ == "__main__":
    try:
        main(os.environ)
    except CloudburstError as error:
        print(error, file=sys.stderr)  # noqa: T201 - an entry point
        sys.exit(error.exit_code)
