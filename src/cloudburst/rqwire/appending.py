"""Chunks of jobs on their way into an ensemble: several at a time, each exactly once, in order.

The next chunk is sent before the last is acknowledged, so that descriptions are encoded while Redis works.
What is not acknowledged may be sent again, as often as need be: ``append.lua`` takes a chunk only where it
belongs.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis
from redis.exceptions import NoScriptError

from cloudburst import names
from cloudburst.errors import EnsembleError
from cloudburst.rqwire import encoding
from cloudburst.rqwire.connection import Redis
from cloudburst.rqwire.scripts import digest, source


@dataclass(frozen=True)
class Accepted:
    """What an ensemble has: so many jobs, and the digest of their descriptions ("" for none)."""

    count: int = 0
    digest: str = ""


@dataclass(frozen=True)
class Answer:
    """The reply to one chunk: the ensemble as it was afterwards."""

    state: str
    accepted: Accepted


@dataclass(frozen=True)
class Chunk:
    """Encoded descriptions in a row, and where they belong. EnsembleError for one that cannot be stored."""

    before: Accepted
    descriptions: Sequence[bytes]
    after: Accepted = field(init=False)

    def __post_init__(self) -> None:
        for place, description in enumerate(self.descriptions, self.before.count):
            if len(description) > names.DESCRIPTION_LIMIT_BYTES or b"\n" in description:
                raise EnsembleError(
                    f"job {place}: its description should be one line of at most "
                    f"{names.DESCRIPTION_LIMIT_BYTES:,} bytes of JSON, got {len(description):,}"
                )
        object.__setattr__(self, "after", extended(self.before, self.descriptions))

    def behind(self, accepted: Accepted) -> Chunk | None:
        """The part behind what was accepted already; None if that is something else."""
        split = accepted.count - self.before.count
        if extended(self.before, self.descriptions[:split]) != accepted:
            return None
        return Chunk(accepted, self.descriptions[split:])


def extended(before: Accepted, descriptions: Sequence[bytes]) -> Accepted:
    """What has been accepted when these descriptions have been, too.

    The digest is a chain, SHA-256(digest before, description) for each: whoever knows one link can go on from
    there, and equal digests mean equal descriptions from the first on, however they were divided into chunks.
    """
    link = bytes.fromhex(before.digest)
    sha256 = hashlib.sha256
    for description in descriptions:
        link = sha256(link + description).digest()
    return Accepted(before.count + len(descriptions), link.hex())


class Appender:
    """A connection of its own that appends to one ensemble. Raises what redis-py raises.

    After an error, whatever was sent and not received is unknown; ``connect`` begins anew.
    """

    def __init__(self, client: Redis, ensemble: str, function: str) -> None:
        self._pool = client.connection_pool
        self._connection: Any = None
        self._ensemble = ensemble
        self._head, self._tail = encoding.data_frame(function)

    @property
    def connected(self) -> bool:
        """Whether chunks can be sent."""
        return self._connection is not None

    def connect(self) -> None:
        """Take a connection to a Redis that knows the script."""
        self.close()
        self._connection = self._pool.get_connection()
        with self._lost_on_error():
            self._connection.send_command("SCRIPT", "LOAD", source("append"))
            self._connection.read_response()

    def send(self, chunk: Chunk) -> None:
        """Send a chunk; its answer is to be received after those of the chunks before it."""
        with self._lost_on_error():
            self._connection.send_command(
                "EVALSHA",
                digest("append"),
                0,
                self._ensemble,
                chunk.before.count,
                chunk.before.digest,
                chunk.after.digest,
                self._head,
                self._tail,
                b"\n".join(chunk.descriptions),
                check_health=False,  # its PING would take the answer to the chunk before
            )

    def has_answer(self) -> bool:
        """Whether ``receive`` would not have to wait."""
        with self._lost_on_error():
            return bool(self._connection.can_read())

    def receive(self) -> Answer:
        """The answer to the oldest chunk that was sent and not answered."""
        with self._lost_on_error():
            state, count, link = self._connection.read_response()
        return Answer(state.decode(), Accepted(count, link.decode()))

    def close(self) -> None:
        """Give the connection back, without what may still come on it."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.disconnect()
            self._pool.release(connection)

    @contextlib.contextmanager
    def _lost_on_error(self) -> Iterator[None]:
        try:
            yield
        except NoScriptError as error:  # SCRIPT FLUSH; as good as a Redis that was restarted
            self.close()
            raise redis.ConnectionError("Redis has forgotten the script") from error
        except BaseException:
            self.close()
            raise
