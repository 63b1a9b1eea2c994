"""A machine behind ssh."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cloudburst.commands.command import Command, mask
from cloudburst.commands.openssh import CONNECT_S, Connection, Target
from cloudburst.errors import CommandError
from cloudburst.hosts import pipes
from cloudburst.hosts.host import Completed, Line, Piped
from cloudburst.hosts.running import Running

SSH_FAILED = 255
"""ssh's own exit code when it cannot get through."""

LONGEST_SOCKET = 80
"""A Unix socket's path has 108 bytes at most, and ssh first makes it with 17 more."""

SHOWN_LINES = 12


class SshHost:
    """Runs commands as root on the machine of a target, all over one connection.

    ``directory`` keeps what is known of the machine: its key is taken at first contact, and another key is
    refused from then on. Users other than root need sudo without a password.
    """

    def __init__(
        self,
        target: Target,
        directory: Path,
        environ: Mapping[str, str],
        *,
        identity: Path | None = None,
        settings: Path | None = None,
    ) -> None:
        self.target = target
        self._environ = dict(environ)
        self._running = Running()
        directory.mkdir(mode=0o700, exist_ok=True)
        self._known_hosts = directory / "known_hosts"
        socket = _socket(directory, target)
        self._own_directory = socket.parent if socket.parent != directory else None
        self._connection = Connection(target, socket, self._known_hosts, identity, settings)
        resolved = self._resolved()
        self.address = resolved.get("hostname", target.host)
        """What ~/.ssh/config makes of the target's host."""
        self._known_as = resolved.get("hostkeyalias", "")
        self._user = target.user or resolved.get("user", "root")

    @property
    def name(self) -> str:
        """The host as the user wrote it, without the login."""
        return self.target.host

    def run(self, command: Command, timeout_s: float, on_line: Line | None = None) -> Completed:
        """Run to the end. Raises CommandError when it cannot be started, fails, or takes too long."""
        argv = self._connection.run(command.argv, command.env, sudo=self._user != "root")
        try:
            done = self._running.run(
                argv, stdin=command.stdin, timeout_s=timeout_s, env=self._environ, on_line=on_line
            )
        except subprocess.TimeoutExpired as error:
            raise self._failure(command, f"took longer than {timeout_s:g} s", -1, "") from error
        except OSError as error:
            raise self._failure(command, f"ssh cannot be run: {error.strerror}", -1, "") from error
        if done.exit_code == SSH_FAILED:
            raise self._unreachable(command, done.stderr)
        if done.exit_code != 0:
            what = f"failed (exit code {done.exit_code})"
            raise self._failure(command, what, done.exit_code, done.stderr)
        return done

    def piped(self, command: Command) -> contextlib.AbstractContextManager[Piped]:
        """Start a command whose input or output is large; see ``Host``."""
        argv = self._connection.run(command.argv, command.env, sudo=self._user != "root")
        return pipes.piped(self.name, argv, command, self._environ)

    def close(self) -> None:
        """End what still runs for this object here, and the connection."""
        self._running.end()
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            Running().run(self._connection.close().argv, stdin=None, timeout_s=5, env=self._environ)
        if self._own_directory:
            shutil.rmtree(self._own_directory, ignore_errors=True)

    def _resolved(self) -> dict[str, str]:
        try:
            done = self._running.run(
                self._connection.resolved().argv, stdin=None, timeout_s=10, env=self._environ
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise CommandError(
                f"ssh cannot be run ({error}): install OpenSSH's client",
                host=self.name,
                exit_code=-1,
                stderr="",
            ) from error
        return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)

    def _failure(self, command: Command, what: str, exit_code: int, stderr: str) -> CommandError:
        stderr = mask(stderr, command.secrets)
        if "sudo:" in stderr and "password" in stderr:
            what = f"{self._user} may not use sudo without a password; log in as root, or allow it in sudoers"
        lines = stderr.strip().splitlines()[-SHOWN_LINES:]
        shown = "".join(f"\n  {line}" for line in lines)
        line = str(command)
        line = line if len(line) < 300 else f"{line[:300]}…"
        return CommandError(
            f"{self.name}: {what}: {line}{shown}", host=self.name, exit_code=exit_code, stderr=stderr
        )

    def _unreachable(self, command: Command, stderr: str) -> CommandError:
        last = (stderr.strip().splitlines() or ["the connection was lost"])[-1]
        message = f"{self.name}: cannot log in as {self._user}: {last}. {self._advice(stderr)}"
        if not stderr.strip():
            message = f"{self.name}: the connection was lost during {command}; run it again to go on"
        return CommandError(message, host=self.name, exit_code=SSH_FAILED, stderr=stderr)

    def _advice(self, stderr: str) -> str:
        port = f" -p {self.target.port}" if self.target.port else ""
        login = f"ssh{port} {self.target}"
        if "Permission denied" in stderr:
            key = self._connection.identity
            return (
                f"Its authorized_keys must hold {f'the public part of {key}' if key else 'your public key'}: "
                f"`{login}` has to work without a password (ssh-copy-id, ssh-add, or --ssh-key FILE)"
            )
        if "IDENTIFICATION HAS CHANGED" in stderr or "Host key verification failed" in stderr:
            place = f"[{self.address}]:{self.target.port}" if self.target.port else self.address
            place = self._known_as or place
            return (
                "It shows another key than at first contact. If it was installed anew, forget the old key: "
                f"ssh-keygen -R '{place}' -f {self._known_hosts}; else somebody may be in between"
            )
        if "resolve hostname" in stderr:
            return "Is the name right?"
        return f"Does it run, and let this machine in (firewall, port)? Try: {login} (waited {CONNECT_S} s)"


def _socket(directory: Path, target: Target) -> Path:
    """Of this process alone: another that ends must not take its connection along."""
    name = f"{hashlib.sha256(f'{target}:{target.port}'.encode()).hexdigest()[:8]}.{os.getpid()}"
    if len(os.fsencode(directory)) + 1 + len(name) <= LONGEST_SOCKET:
        _remove_stale(directory)
        return directory / name
    # mkdtemp makes a directory that nobody else can have made before.
    return Path(tempfile.mkdtemp(prefix="cloudburst-")) / name


def _remove_stale(directory: Path) -> None:
    """Sockets of processes that were killed."""
    for path in directory.glob("*.[0-9]*"):
        try:
            os.kill(int(path.suffix[1:]), 0)
        except (ProcessLookupError, ValueError):
            path.unlink(missing_ok=True)
        except PermissionError:
            continue
