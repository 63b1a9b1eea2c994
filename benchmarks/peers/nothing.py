"""The job of all peers: it does nothing, but the first of each process notes when that was."""

import contextlib
import os

_started = False


def noop(params):
    global _started  # noqa: PLW0603 (costs the least)
    if not _started:
        _started = True
        with contextlib.suppress(FileExistsError):
            os.close(os.open(os.environ["BENCH_STARTED"], os.O_CREAT | os.O_EXCL))
