"""Running programs on this machine, and saying what went wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence


class Failed(AssertionError):
    """A program ended with an error, or took too long."""


def run(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout_s: float = 120,
    check: bool = True,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run to the end; its output as text. Raises :class:`Failed` with all of it."""
    try:
        done = subprocess.run(
            list(argv), input=stdin, capture_output=True, timeout=timeout_s, check=False, env=env
        )
    except subprocess.TimeoutExpired as late:
        seen = (
            f"{(late.stdout or b'').decode(errors='replace')}{(late.stderr or b'').decode(errors='replace')}"
        )
        raise Failed(f"{argv} took more than {timeout_s} s: {seen}") from None
    stdout, stderr = (stream.decode(errors="replace") for stream in (done.stdout, done.stderr))
    if check and done.returncode:
        raise Failed(f"{argv} ended with {done.returncode}:\n{stdout}{stderr}")
    return subprocess.CompletedProcess(done.args, done.returncode, stdout, stderr)
