"""One program, run to its end: what this machine and machines behind ssh have in common."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from cloudburst.hosts.host import Completed, Line

KEPT_LINES = 50
"""Of a command whose lines are taken while it runs, so many are kept for the message should it fail."""


class Running:
    """The programs that run now; ``end`` ends them all, from another thread."""

    def __init__(self) -> None:
        self._children: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._ended = False

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str | bytes | Path | None,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        on_line: Line | None = None,
    ) -> Completed:
        """Raises what ``subprocess`` raises: OSError, TimeoutExpired."""
        with _input(stdin) as source:
            child = subprocess.Popen(
                argv,
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if on_line else subprocess.PIPE,
                env=env,
                cwd=cwd,
            )
            with self._lock:
                self._children.add(child)
                if self._ended:
                    child.kill()
            try:
                return _followed(child, timeout_s, on_line) if on_line else _collected(child, timeout_s)
            finally:
                child.kill()
                child.wait()
                with self._lock:
                    self._children.discard(child)

    def end(self) -> None:
        with self._lock:
            self._ended = True
            for child in self._children:
                child.terminate()


@contextlib.contextmanager
def _input(stdin: str | bytes | Path | None) -> Iterator[IO[bytes] | int]:
    if stdin is None:
        yield subprocess.DEVNULL
    elif isinstance(stdin, Path):
        with stdin.open("rb") as file:
            yield file
    else:
        # A file, not a pipe: nobody has to feed it while the output is read.
        with tempfile.TemporaryFile() as file:
            file.write(stdin.encode() if isinstance(stdin, str) else stdin)
            file.seek(0)
            yield file


def _collected(child: subprocess.Popen[bytes], timeout_s: float) -> Completed:
    stdout, stderr = child.communicate(timeout=timeout_s)
    return Completed(child.returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace"))


def _followed(child: subprocess.Popen[bytes], timeout_s: float, on_line: Line) -> Completed:
    last: deque[str] = deque(maxlen=KEPT_LINES)
    late = threading.Event()

    def stop() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(timeout_s, stop)
    timer.daemon = True
    timer.start()
    try:
        if child.stdout is not None:
            for raw in child.stdout:
                line = raw.decode(errors="replace").rstrip("\r\n")
                last.append(line)
                on_line(line)
        child.wait()
    finally:
        timer.cancel()
    if late.is_set():
        raise subprocess.TimeoutExpired(child.args, timeout_s)
    return Completed(child.returncode, "", "\n".join(last))
