"""One start or stop of a stack at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from cloudburst.errors import StackError

POLL_S = 0.1


@contextlib.contextmanager
def held(
    path: Path, say: Callable[[str], None], pause: Callable[[float], None], wait_s: float
) -> Iterator[None]:
    """Hold the lock; waits up to ``wait_s`` for whoever holds it, then raises StackError.

    It is let go of when its process ends, however that ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        waited = 0.0
        while not _taken(file.fileno()):
            file.seek(0)
            holder = file.read().strip() or "?"
            if waited == 0:
                say(f"another start or stop of this stack is under way (pid {holder}); waiting for it")
            if waited > wait_s:
                raise StackError(
                    f"the start or stop of this stack by pid {holder} has taken {wait_s:g} s: "
                    "wait for it, or end it and try again"
                )
            pause(POLL_S)
            waited += POLL_S
        with contextlib.suppress(OSError):  # on a full disk, too, a stack can be stopped
            file.truncate(0)
            os.write(file.fileno(), f"{os.getpid()}\n".encode())
        yield


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
