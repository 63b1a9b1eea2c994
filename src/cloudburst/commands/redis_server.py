"""Redis, as every stack runs it: an append-only file, nothing ever evicted, no secrets in argv."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cloudburst.commands.command import Command

OLDEST = (6, 2)
"""LPOP with a count, BLMOVE and GETDEL came with this version."""

# The image of the queue takes the same two files.
_COMMON = Path(__file__).with_name("redis.conf")
_REPAIR = Path(__file__).with_name("repair_redis.py")


@dataclass(frozen=True)
class RedisServer:
    """One Redis server process; the password stays out of ``repr``."""

    binary: Path
    port: int
    directory: Path
    """Where its append-only file is kept."""
    config_file: Path
    password: str = ""
    """Empty: whoever reaches the port is let in."""
    host: str = "127.0.0.1"

    def __repr__(self) -> str:
        return f"RedisServer(host={self.host!r}, port={self.port}, directory={str(self.directory)!r})"

    def config(self) -> str:
        """Contents of ``config_file``; it holds the password, so mode 0600."""
        lines = [
            f"bind {self.host}",
            f"port {self.port}",
            f"dir {_quoted(str(self.directory))}",
            "protected-mode yes",
            *_COMMON.read_text(encoding="utf-8").splitlines(),
        ]
        if self.password:
            lines.append(f"requirepass {_quoted(self.password)}")
        return "\n".join(lines) + "\n"

    def command(self) -> Command:
        return Command((str(self.binary), str(self.config_file)))

    def repair(self, python: str) -> Command:
        """To be run before each start: after a power cut, half of a script may stand at the end of the file.

        What it has done goes to its stdout; nothing, as a rule. It fails, with a message for the operator on
        stderr, if the file is damaged otherwise: Redis must not be started then.
        """
        return Command((python, "-I", str(_REPAIR), str(self.binary), str(self.directory)))


def version(binary: Path) -> Command:
    """Prints a line such as ``Redis server v=7.0.15 sha=00000000:0 ...``."""
    return Command((str(binary), "--version"))


def _quoted(text: str) -> str:
    """A value of redis.conf as sdssplitargs() reads it: double quotes, backslash escapes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
