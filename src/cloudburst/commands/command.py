"""The value that every builder returns and whoever runs commands takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MASK = "***"

_URL_CREDENTIALS = re.compile(r"(?<=://)[^/\s@'\"]+(?=@)")
_URL_TOKEN = re.compile(r"(?<=[?&]token=)[^&\s'\"]+")
_SECRET_NAME = re.compile(r"(TOKEN|PASSWORD|SECRET)$")


@dataclass(frozen=True, repr=False)
class Command:
    """One program to run. ``repr`` and ``str`` are safe to log: secrets are masked, stdin is never shown."""

    argv: tuple[str, ...]
    stdin: str | bytes | Path | None = None
    """For its standard input, a path is that file's contents; the way for secrets to travel, since argv is
    public on a machine."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables that are added to the environment of whoever runs it."""
    cwd: Path | None = None
    secrets: tuple[str, ...] = ()
    """Texts that are masked wherever they occur."""

    def __str__(self) -> str:
        """A line for a POSIX shell, as far as the masked parts allow: what ``--dry-run`` prints."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in self._shown_env().items()]
        line = " ".join([*variables, shlex.join(self.argv)])
        if self.cwd is not None:
            line = f"cd {shlex.quote(str(self.cwd))} && {line}"
        if isinstance(self.stdin, Path):
            line += f" < {shlex.quote(str(self.stdin))}"
        elif self.stdin is not None:
            line += f" < ({len(self.stdin)} {'characters' if isinstance(self.stdin, str) else 'bytes'})"
        return mask(line, self.secrets)

    def __repr__(self) -> str:
        return f"Command({str(self)!r})"

    def _shown_env(self) -> dict[str, str]:
        return {name: MASK if _SECRET_NAME.search(name) else value for name, value in self.env.items()}


def mask(text: str, secrets: tuple[str, ...] = ()) -> str:
    """``text`` without the given secrets, and without logins and tokens in URLs."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, MASK)
    return _URL_TOKEN.sub(MASK, _URL_CREDENTIALS.sub(MASK, text))
