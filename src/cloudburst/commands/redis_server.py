"""Redis, as every stack runs it: an append-only file, nothing ever evicted, no secrets in argv."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cloudburst.commands.command import Command

OLDEST = (6, 2)
"""LPOP with a count, BLMOVE and GETDEL came with this version."""


TORN_BYTES = 64 << 20
"""What the last script before a power cut can have left unfinished at the end of the append-only file."""

# redis-server is redis-check-aof, too, if it is called so. Redis itself takes off an unfinished command, but
# leaves the MULTI before it open: at the next start but one, half of a script would be applied (valkey#4342).
_REPAIR = r"""
for file in "$2"/appendonlydir/*.manifest "$2"/appendonly.aof; do
  [ -e "$file" ] || continue
  found=$( (exec -a redis-check-aof "$1" "$file") 2>&1 ) && exit 0
  torn=$(sed -n 's/.*diff=\([0-9]*\).*/\1/p' <<<"$found" | tail -n 1)
  if [ -z "$torn" ] || [ "$torn" -gt "$3" ] || grep -q "Expected prefix" <<<"$found"; then
    echo "$file is damaged, not only at its end: $found"
    exit 0  # Redis says so, too, and does not start
  fi
  echo "$file ends with an unfinished script, which is taken off"
  echo y | (exec -a redis-check-aof "$1" --fix "$file")
done
"""


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
            "daemonize no",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
            # Keeps the hash of a job compact; Redis 7 knows this name too (hash-max-listpack-value).
            "hash-max-ziplist-value 2048",
            # A title is written over the process's environment, by which a stack knows what is its own.
            "set-proc-title no",
            "tcp-keepalive 60",
            "tcp-backlog 511",
        ]
        if self.password:
            lines.append(f"requirepass {_quoted(self.password)}")
        return "\n".join(lines) + "\n"

    def command(self) -> Command:
        return Command((str(self.binary), str(self.config_file)))

    def repair(self) -> Command:
        """To be run before each start: after a power cut, half of a script may stand at the end of the file.

        Cuts off at most TORN_BYTES. What it has done goes to its stdout; nothing, as a rule.
        """
        return Command(
            ("bash", "-c", _REPAIR, "repair", str(self.binary), str(self.directory), str(TORN_BYTES))
        )


def version(binary: Path) -> Command:
    """Prints a line such as ``Redis server v=7.0.15 sha=00000000:0 ...``."""
    return Command((str(binary), "--version"))


def _quoted(text: str) -> str:
    """A value of redis.conf as sdssplitargs() reads it: double quotes, backslash escapes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
