"""``python -m cloudburst.worker``: the settings are environment variables, see docs/operating.md."""

from __future__ import annotations

import os
import sys

from cloudburst import extras, log
from cloudburst.config import WorkerConfig, flag, worker_environ
from cloudburst.errors import CloudburstError


def main() -> int:
    """Run one worker; returns the exit status."""
    try:
        with extras.needed("worker", "a worker"):
            from cloudburst.worker import identities
            from cloudburst.worker.supervisor import Worker

        log.configure(verbose=flag(os.environ, "CLOUDBURST_VERBOSE"))
        environ = worker_environ(os.environ)
        config = WorkerConfig.from_environ(environ)
        if config.executor_uids:
            identities.prepare(config.state_dir)
        return Worker(config, environ).run()
    except CloudburstError as error:
        print(f"cloudburst worker: {error}", file=sys.stderr)  # noqa: T201 (the one line an operator reads)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
