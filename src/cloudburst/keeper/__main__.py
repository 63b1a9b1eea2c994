"""``python -m cloudburst.keeper``: the settings are environment variables, see docs/operating.md."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from cloudburst import log as logs
from cloudburst.config import Environ, KeeperConfig
from cloudburst.errors import CloudburstError, ConfigError
from cloudburst.keeper.rounds import Keeper, Machines, log
from cloudburst.pace import duration
from cloudburst.providers.digitalocean.from_inside import FromInside


def opened(config: KeeperConfig) -> Machines:
    """The provider's machines. Raises ConfigError without a token, and ProviderError for one that is none."""
    if not config.token:
        raise ConfigError(
            "no token was given for it: deploy again with CLOUDBURST_KEEPER_TOKEN or "
            "CLOUDBURST_KEEPER_TOKEN_FILE (docs/keeping.md says which rights it needs)"
        )
    return FromInside(config.token, config.end_point)


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
    keeper = Keeper(config, lambda: opened(config), time.time)
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
