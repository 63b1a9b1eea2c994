"""Job descriptions on their way into the queue: in chunks, in order, each exactly once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator

from cloudburst.ensemble.connection import Connection
from cloudburst.errors import CloudburstError, EnsembleError, QueueError
from cloudburst.model import EnsembleSpec, JobDescription
from cloudburst.rqwire.ensembles import encode_description

CHUNK_JOBS = 500
CHUNK_BYTES = 1024 * 1024
"""A chunk is one call: a few milliseconds of Redis' time."""

CHUNK_S = 1.0
"""Jobs that come slowly do not wait for their chunk to fill up."""


def submit(queue: Connection, spec: EnsembleSpec, jobs: Iterable[JobDescription]) -> str:
    """Make an ensemble of ``jobs``, consumed as they are sent; returns its id.

    All or nothing, as far as that goes: when a description cannot be sent, ``jobs`` raises, or the caller is
    interrupted, what was accepted by then is cancelled, and the error says how much that was. When Redis is
    away too long, nothing can be cancelled: the ensemble stays ``submitting``, and never looks complete.
    """
    chunks = encoded_chunks(jobs)
    first = next(chunks, None)
    if first is None:
        raise EnsembleError(f"{spec.name}: no job descriptions: an empty file, or an iterator used up?")
    ensemble = queue.once(queue.ensembles.create, spec)
    accepted = 0
    try:
        accepted = _append(queue, ensemble, spec.function, accepted, first)
        for chunk in chunks:
            accepted = _append(queue, ensemble, spec.function, accepted, chunk)
        queue.patiently(queue.ensembles.seal, ensemble)
    except BaseException as error:
        _give_up(queue, ensemble, accepted, error)
        raise
    return ensemble


def encoded_chunks(jobs: Iterable[JobDescription]) -> Iterator[list[bytes]]:
    """Encoded descriptions, as many at a time as one call should carry (EnsembleError for a bad one)."""
    chunk: list[bytes] = []
    size, since = 0, time.monotonic()
    for index, description in enumerate(jobs):
        data = encode_description(description, index)
        full = len(chunk) == CHUNK_JOBS or size + len(data) > CHUNK_BYTES
        if chunk and (full or time.monotonic() - since > CHUNK_S):
            yield chunk
            chunk, size, since = [], 0, time.monotonic()
        chunk.append(data)
        size += len(data)
    if chunk:
        yield chunk


def _append(queue: Connection, ensemble: str, function: str, first: int, chunk: list[bytes]) -> int:
    try:
        return queue.patiently(queue.ensembles.append, ensemble, function, first, chunk)
    except EnsembleError as error:
        status = queue.patiently(queue.ensembles.status, ensemble)
        if status.state == "failed":
            raise EnsembleError(f"{ensemble}: no job of it can run: {status.error}") from error
        raise


def _give_up(queue: Connection, ensemble: str, accepted: int, error: BaseException) -> None:
    """Cancel an ensemble that will not become complete, and let the error say so."""
    what_now = f"it stays incomplete: `cloudburst cancel {ensemble}` ends it, then submit all again"
    if not isinstance(error, QueueError):
        with contextlib.suppress(QueueError):
            queue.once(queue.ensembles.cancel, ensemble)
            # Redis knows better than we do, if the answer to the last chunk was interrupted.
            accepted = queue.once(queue.ensembles.status, ensemble).total
            what_now = "those that had not ended are cancelled: submit all again"
    note = f"{accepted:,} jobs had been accepted into {ensemble}; {what_now}"
    if isinstance(error, CloudburstError):
        error.args = (f"{error.args[0]}\n{note}", *error.args[1:])
    else:
        error.add_note(note)
