"""A process that writes jobs' points until it is killed: ``writing_process.py URL TOKEN SPOOL``.

Reads job numbers from stdin, one per line, has a few of them under way at a time, as a worker has, and
prints ``number state`` once their points are safe.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from cloudburst.points.database import Login
from cloudburst.points.writer import PointWriter
from tests.points.jobs import lines_of

SLOTS = 6
JOB_S = 0.005


def main() -> None:
    url, token, spool = sys.argv[1:]
    called = threading.Event()
    login = Login(url, token, "cloudburst", "cloudburst")
    writer = PointWriter(login, Path(spool), called=called.set, patience_s=0.3)
    waiting = [int(line) for line in sys.stdin]
    running = 0
    while waiting or running:
        while waiting and running < SLOTS:
            number = waiting.pop(0)
            time.sleep(JOB_S)
            writer.submit([lines_of(number)], str(number))
            running += 1
        called.wait()
        called.clear()
        for answer in writer.poll():
            running -= 1
            sys.stdout.write(f"{answer.token} {answer.state}\n")
            sys.stdout.flush()
    writer.close(0)


if __name__ == "__main__":
    main()
