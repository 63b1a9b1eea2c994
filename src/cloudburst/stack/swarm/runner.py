"""Where all commands of a deployment go through: run, and told; or, for a dry run, told only."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from cloudburst.commands.command import Command
from cloudburst.errors import CommandError
from cloudburst.hosts.host import Host

TOLD_S = 3.0
"""A step that takes longer is told the time of."""

SESSIONS = 8
"""Commands at a time on one machine: sshd allows ten per connection."""

SHORT_S = 120.0

_CERTIFICATES = re.compile(r"-----BEGIN CERTIFICATE-----.*-----END CERTIFICATE-----\s*", re.DOTALL)
"""Not to be read by people."""

Say = Callable[[str], None]
"""Takes one line for the user."""


class Runner:
    """Runs commands on hosts, by name. ``dry``: says which would change something, and runs none of these."""

    def __init__(self, hosts: Mapping[str, Host], say: Say, *, dry: bool = False) -> None:
        self._hosts = dict(hosts)
        self._sessions = {name: threading.BoundedSemaphore(SESSIONS) for name in hosts}
        self.say = say
        self.dry = dry

    @property
    def names(self) -> tuple[str, ...]:
        """Of the hosts, the master first."""
        return tuple(self._hosts)

    @contextlib.contextmanager
    def step(self, host: str, title: str) -> Iterator[None]:
        """Tell that a step begins, and how long it took if that was long."""
        self.say(f"{host}: {title}")
        began = time.monotonic()
        try:
            yield
        except CommandError as error:
            error.add_note(f"(while {title}; what was done until then stays: run it again to go on)")
            raise
        took = time.monotonic() - began
        if took > TOLD_S and not self.dry:
            self.say(f"{host}: {title}: done in {took:.0f} s")

    def do(self, host: str, command: Command, timeout_s: float = SHORT_S) -> None:
        """Change something. Raises CommandError."""
        if self.dry:
            self.say(f"{host}$ {_CERTIFICATES.sub('(certificates)', str(command))}")
        else:
            self._run(host, command, timeout_s)

    def ask(self, host: str, command: Command, otherwise: str, timeout_s: float = SHORT_S) -> str:
        """What the command prints; in a dry run ``otherwise``, since what it asks for is not there yet."""
        return otherwise if self.dry else self._run(host, command, timeout_s)

    def read(self, host: str, command: Command, timeout_s: float = SHORT_S) -> str:
        """What the command prints, in a dry run too: it changes nothing."""
        return self._run(host, command, timeout_s)

    def follow(self, host: str, command: Command, on_line: Say, timeout_s: float = 7 * 86400.0) -> None:
        """Pass on each line that the command prints, while it runs."""
        with self._sessions[host]:
            self._hosts[host].run(command, timeout_s, on_line)

    def _run(self, host: str, command: Command, timeout_s: float) -> str:
        with self._sessions[host]:
            return self._hosts[host].run(command, timeout_s).stdout.strip()

    @contextlib.contextmanager
    def threads(self, count: int) -> Iterator[ThreadPoolExecutor]:
        """Threads to run commands in; they have ended on exit. An interrupt ends the commands, too."""
        with ThreadPoolExecutor(max_workers=count) as pool:
            try:
                yield pool
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                self.close()
                raise

    def close(self) -> None:
        for host in self._hosts.values():
            host.close()
