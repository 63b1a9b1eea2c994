"""The command line that prints a copy of all that is in a running queue."""

from __future__ import annotations

from cloudburst.commands.command import Command

# The password comes by stdin and reaches redis-cli as a variable: argv is public on a machine.
_DUMP = 'read -r REDISCLI_AUTH; export REDISCLI_AUTH; exec redis-cli --user "$1" --rdb -'


def dump(container: str, user: str, password: str) -> Command:
    """Prints an RDB file, and behind it, perhaps, a mark; its stderr tells how many bytes are the file.

    Redis writes it as for a replica: from a fork, to the connection. Its disk is not touched.
    """
    return Command(
        ("docker", "exec", "--interactive", container, "sh", "-c", _DUMP, "dump", user),
        stdin=password + "\n",
        secrets=(password,),
    )
