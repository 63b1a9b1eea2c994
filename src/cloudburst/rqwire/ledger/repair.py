"""Repairs of a ledger: what an older version, or somebody by hand, has left wrong, and can be derived.

An audit names the jobs with which something is wrong. ``repair_job.lua`` looks at one of them and puts it
into the place where it has to be, in one step; ``repair_counts.lua`` makes an ensemble's counters what its
records say. Both change nothing that is right, so a repair may be killed, repeated, and done while jobs run.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

from cloudburst.errors import QueueError
from cloudburst.model import Repair
from cloudburst.rqwire import encoding
from cloudburst.rqwire.connection import Redis
from cloudburst.rqwire.ledger.audit import PAGE_RECORDS, Ledger, letter_at
from cloudburst.rqwire.ledger.seen import Book, Shelf
from cloudburst.rqwire.scripts import Scripts

ROUNDS = 20
"""So often records are read again because others were withdrawn meanwhile."""

PAGE_TALLY = 200


def repair(client: Redis, ensemble: str = "", *, write: bool) -> Iterator[Repair]:
    """Put right what is wrong in an ensemble, or everywhere; without ``write`` only tell what would be done.

    First jobs, then counters. What is told is done. Raises EnsembleError, and what redis-py raises.
    """
    books, shelves = Ledger(client).read(ensemble)
    call = Scripts(client)
    for shelf in shelves:
        for book in shelf.books.values():
            yield from _jobs(call, shelf, book, write)
        for job_id in shelf.breaches.jobs:
            done = call("repair_job", shelf.queue, job_id, int(write), 1, "")
            yield from _told(encoding.text(job_id), done)
    for book in books:
        yield from _told(book.ensemble, _counts(call, book.ensemble, write))


def _jobs(call: Scripts, shelf: Shelf, book: Book, write: bool) -> Iterator[Repair]:
    wrong = list(book.breaches.jobs)
    entries, last = _entries(call, book.ensemble, set(wrong))
    for job_id in wrong:
        for _ in range(ROUNDS):
            done = call("repair_job", shelf.queue, job_id, int(write), 1, last, *entries.get(job_id, ()))
            if done != [b"again"]:
                break
            entries, last = _entries(call, book.ensemble, set(wrong))
        yield from _told(encoding.text(job_id), done)


def _entries(call: Scripts, ensemble: str, jobs: set[bytes]) -> tuple[dict[bytes, list[bytes]], str]:
    """The records of these jobs, and the last record that was read."""
    found: dict[bytes, list[bytes]] = {}
    end = "0-0"
    while jobs:
        last, text, _ = call("ledger_records", ensemble, end, "+", PAGE_RECORDS, 1)
        if not last:
            break
        end = last.decode()
        for item in text.split():
            at = letter_at(item)
            job_id = encoding.named(ensemble) + b"-" + item[:at]
            if job_id in jobs:
                found.setdefault(job_id, []).append(item[at + 1 :])
    return found, end


def _counts(call: Scripts, ensemble: str, write: bool) -> list[bytes]:
    for _ in range(ROUNDS):
        number, end = 0, "0-0"
        kinds: Counter[tuple[bytes, bytes, bytes]] = Counter()
        examples: dict[tuple[bytes, bytes, bytes], bytes] = {}
        while True:
            last, count, _, rows = call("repair_tally", ensemble, end, PAGE_TALLY)
            if not last:
                break
            end, number = last.decode(), number + count
            for state, ran, fingerprint, jobs, example in rows:
                kinds[state, ran, fingerprint] += jobs
                examples.setdefault((state, ran, fingerprint), example)
        rest = itertools.chain.from_iterable((*kind, kinds[kind], examples[kind]) for kind in kinds)
        done: list[bytes] = call("repair_counts", ensemble, int(write), end, number, *rest)
        if done != [b"again"]:
            return done
    raise QueueError(f"{ensemble}: its records change faster than they can be counted: try again")


def _told(where: str, done: list[Any]) -> Iterator[Repair]:
    return (Repair(where, encoding.text(what)) for what in done)
