"""The guard of a worker: when the worker has died, however, what its executors have started dies too.

The kernel kills executors with their worker (see ``lifelines``), but not what has left their sessions. So
this process keeps their lifelines until it has found all that descends from them.

It is started by the worker as ``python __main__.py``, and told on its stdin, a line each, the variable that
marks executors (``NAME=value``), and their process ids.
"""

from __future__ import annotations

import os
import signal

from .trees import end, marked, started


def main() -> int:
    """Ends soon after the worker."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # meant for the worker
        signal.signal(number, signal.SIG_IGN)
    variable = said = b""
    executors: dict[int, str] = {}
    while True:
        chunk = os.read(0, 1 << 16)
        *lines, said = (said + chunk).split(b"\n")
        for line in lines:
            if b"=" in line:
                variable = line
            else:
                executors = {pid: when for pid, when in executors.items() if started(pid) == when}
                executors[int(line)] = started(int(line))
        if not chunk:
            break
    end([pid for pid, when in executors.items() if when and started(pid) == when])
    if variable:
        end(marked(variable) - {os.getpid()})
    return 0
