"""Commands whose input or output is too large for memory: streams to and from a host."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, cast

from cloudburst.commands.command import Command, mask
from cloudburst.errors import CommandError
from cloudburst.hosts.host import Piped

END_S = 60.0
"""How long a command may take to end once its streams are at their end."""

STDERR_BYTES = 4096
"""How much of the end of what a command complained goes into errors."""


@contextlib.contextmanager
def piped(
    host: str, argv: Sequence[str], command: Command, environ: Mapping[str, str] | None = None
) -> Iterator[Piped]:
    """Run ``argv`` here, which runs ``command`` on ``host``; see ``Host.piped``."""
    with tempfile.TemporaryFile() as stderr:
        try:
            child = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=environ
            )
        except OSError as error:
            raise _failure(host, command, f"cannot be run: {error.strerror}", -1, "") from error
        stdin, stdout = cast("BinaryIO", child.stdin), cast("BinaryIO", child.stdout)

        def complaints() -> str:
            size = stderr.seek(0, 2)
            stderr.seek(max(0, size - STDERR_BYTES))
            return mask(stderr.read().decode("utf-8", "replace"), command.secrets).strip()

        try:
            deaf = False
            try:
                if isinstance(command.stdin, str):
                    stdin.write(command.stdin.encode())
                    stdin.flush()
                yield Piped(stdin, stdout, complaints)
                stdin.close()
            except BrokenPipeError:
                deaf = True  # it has ended: its exit code and stderr say why
            stdout.close()
            exit_code = child.wait(END_S)
        except subprocess.TimeoutExpired as error:
            raise _failure(host, command, f"does not end ({END_S:g} s)", -1, complaints()) from error
        finally:
            child.kill()
            child.wait()
            stdout.close()
            with contextlib.suppress(OSError):
                stdin.close()
        if exit_code != 0:
            raise _failure(host, command, f"failed (exit code {exit_code})", exit_code, complaints())
        if deaf:
            raise _failure(host, command, "ended before it had read all its input", 0, complaints())


def _failure(host: str, command: Command, what: str, exit_code: int, stderr: str) -> CommandError:
    message = f"{host}: {command} {what}" + (f": {stderr}" if stderr else "")
    return CommandError(message, host=host, exit_code=exit_code, stderr=stderr)
