"""``python -m cloudburst.keeper``: the settings are environment variables, see docs/operating.md."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from cloudburst import log as logs
from cloudburst.config import Environ, KeeperConfig
from cloudburst.errors import CloudburstError
from cloudburst.keeper.rounds import Keeper, log
from cloudburst.pace import duration
from cloudburst.providers.digitalocean.provider import DigitalOcean


def main(environ: Environ) -> None:
    """Keep the stack until SIGTERM or SIGINT, or until it has ended, with the machine that this runs on."""
    config = KeeperConfig.from_environ(environ)
    logs.configure()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    said = [
        f"{name} {duration(limit)}"
        for name, limit in (("--ttl", config.ttl_s), ("--idle", config.idle_s))
        if limit
    ]
    log.info("keeps stack %s: %s", config.stack, ", ".join(said) or "it has no limits")
    provider = DigitalOcean(config.token, config.end_point) if config.token else None
    keeper = Keeper(config, provider, time.time)
    while not stopping.is_set():
        began = time.monotonic()
        keeper.round()
        stopping.wait(max(config.every_s - (time.monotonic() - began), 0.0))


if __name__ == "__main__":
    try:
        main(os.environ)
    except CloudburstError as error:
        print(error, file=sys.stderr)  # noqa: T201 - an entry point
        sys.exit(error.exit_code)
