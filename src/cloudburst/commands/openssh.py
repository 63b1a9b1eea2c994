"""Command lines of OpenSSH's client. No shell is used here; on the other side sshd starts one."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudburst.commands.command import Command
from cloudburst.errors import ConfigError

CONNECT_S = 15


@dataclass(frozen=True)
class Target:
    """Where to log in, as a user writes it: ``[user@]host[:port]``, or a name from ~/.ssh/config."""

    host: str
    user: str = ""
    """"" leaves it to ~/.ssh/config, or to who you are."""
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Target:
        """Raises ConfigError for what cannot be one. IPv6 addresses with a port: ``root@[::1]:22``."""
        user, _, place = text.rpartition("@")
        host, port = place, ""
        if place.startswith("["):
            host, _, port = place[1:].partition("]")
            port = port.removeprefix(":")
        elif place.count(":") == 1:
            host, _, port = place.partition(":")
        if not host or host.startswith("-") or user.startswith("-") or not (port.isdigit() or not port):
            raise ConfigError(f"--hosts: {text!r} is not a host; write user@host or user@host:port")
        if any(character.isspace() or character in "'\"\\$`;&|<>" for character in text):
            raise ConfigError(f"--hosts: {text!r} is not a host")
        return cls(host, user, int(port) if port else None)

    def __str__(self) -> str:
        return f"{self.user}@{self.host}" if self.user else self.host


@dataclass(frozen=True)
class Connection:
    """How to reach a target: one connection is kept, and all commands go through it."""

    target: Target
    control: Path
    """The socket of the connection that is kept."""
    known_hosts: Path
    identity: Path | None = None
    """A private key; None leaves it to ssh."""
    settings: Path | None = None
    """A file in place of ~/.ssh/config."""

    def _client(self) -> tuple[str, ...]:
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": str(CONNECT_S),
            "ServerAliveInterval": "10",
            "ServerAliveCountMax": "6",
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": _quoted(self.known_hosts),
            "HashKnownHosts": "no",
            "ControlMaster": "auto",
            "ControlPath": _quoted(self.control),
            "ControlPersist": "60",
            "LogLevel": "ERROR",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        if self.settings:
            words += ["-F", str(self.settings)]
        if self.identity:
            words += ["-i", str(self.identity), "-o", "IdentitiesOnly=yes"]
        if self.target.port:
            words += ["-p", str(self.target.port)]
        if self.target.user:
            words += ["-l", self.target.user]
        return ("ssh", "-T", *words)

    def run(self, argv: Sequence[str], env: Mapping[str, str], *, sudo: bool) -> tuple[str, ...]:
        """Run ``argv`` over there, with these variables; as root, if need be through sudo."""
        words = [*(f"{name}={value}" for name, value in env.items()), *argv]
        line = shlex.join(["env", *words] if env else words)
        if sudo:
            # What ssh says of the connection is lost otherwise.
            line = f'sudo -n env SSH_CONNECTION="$SSH_CONNECTION" {line}'
        return (*self._client(), "--", self.target.host, line)

    def close(self) -> Command:
        """End the connection that is kept."""
        return Command((*self._client(), "-O", "exit", "--", self.target.host))

    def resolved(self) -> Command:
        """Print what ~/.ssh/config makes of the target: lines such as ``hostname 10.0.0.1``."""
        return Command((*self._client(), "-G", "--", self.target.host))


def _quoted(path: Path) -> str:
    """A path in an option: ssh takes it apart at spaces and replaces %."""
    return '"' + str(path).replace("%", "%%") + '"'
