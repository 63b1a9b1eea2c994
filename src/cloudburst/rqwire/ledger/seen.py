"""What an audit has seen: of each ensemble a byte per job, of each queue what is none of an ensemble's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from cloudburst.model import Account, Breach, QueueAccount
from cloudburst.rqwire import encoding
from cloudburst.rqwire.ensembles import state_of

NAMED = 100
"""So many breaches of an ensemble or queue are named, the others counted."""

# One byte per job of an ensemble: where it was seen.
FINISHED, FAILED, CANCELLED, LISTED, LEASED, SCHEDULED, DEFERRED, LOST = (1 << bit for bit in range(8))
RECORDED = FINISHED | FAILED | CANCELLED


class Breaches:
    """The first ones by name, and how many there are."""

    def __init__(self) -> None:
        self.named: list[Breach] = []
        self.count = 0
        self.jobs: dict[bytes, None] = {}
        """All jobs with which something is wrong, in the order in which that was found."""

    def add(self, job_id: str, what: str) -> None:
        self.count += 1
        raw = encoding.named(job_id)
        if raw:
            self.jobs[raw] = None
        if len(self.named) < NAMED:
            self.named.append(Breach(encoding.text(raw), what))


class Book:
    """What is seen of one ensemble in the course of an audit."""

    def __init__(self, ensemble: str, counts: list[Any]) -> None:
        self.ensemble = ensemble
        self.queue = encoding.name(counts[1])
        self.submitted, *self.counters, self.running, self.records = counts[2:8]
        self.state = state_of(encoding.text(counts[0]), ended=sum(self.counters) >= self.submitted)
        self.last_entry, self.leases, self.ran = counts[8].decode(), counts[9], counts[10]
        self.seen = bytearray()
        self.end = "0-0"
        """The entry up to which the records have been read."""
        self.beyond: set[int] = set()
        """Indices that the ensemble did not have when its counters were read: it may be growing."""
        self.recorded_twice: set[int] = set()
        self.breaches = Breaches()

    def begin(self) -> None:
        """Begin to count job by job."""
        self.seen = bytearray(self.submitted)

    def job_id(self, index: int) -> str:
        return f"{self.ensemble}-{index}"

    def mark(self, index: int, place: int) -> None:
        if index < self.submitted:
            self.seen[index] |= place
        else:
            self.beyond.add(index)

    def unseen(self) -> Iterator[int]:
        """Indices of jobs that were seen nowhere."""
        index = self.seen.find(0)
        while index != -1:
            yield index
            index = self.seen.find(0, index + 1)

    def account(self) -> Account:
        bits = Counter(self.seen)

        def count(place: int, before: int) -> int:
            return sum(n for seen, n in bits.items() if seen & place and not seen & before)

        return Account(
            ensemble=self.ensemble,
            state=self.state,
            submitted=self.submitted,
            # A job that moved meanwhile was seen in several places, and is counted in the last of them.
            waiting=count(LISTED, RECORDED | LEASED | SCHEDULED | DEFERRED),
            running=count(LEASED, RECORDED),
            scheduled=count(SCHEDULED, RECORDED | LEASED),
            deferred=count(DEFERRED, RECORDED | LEASED | SCHEDULED),
            finished=count(FINISHED, 0),
            failed=count(FAILED, FINISHED),
            cancelled=count(CANCELLED, FINISHED | FAILED),
            breaches=tuple(self.breaches.named),
            breach_count=self.breaches.count,
        )


class Shelf:
    """What is seen of one queue in the course of an audit; ``books`` are its ensembles'."""

    def __init__(self, queue: str, books: Iterable[Book], *, whole: bool) -> None:
        self.queue = queue
        self.books = {encoding.named(book.ensemble): book for book in books if book.queue == queue}
        self.whole = whole
        """All ensembles are audited, so what is none of theirs is a stock client's."""
        self.stock: set[bytes] = set()
        """Ids of stock jobs in its list."""
        self.twice: set[bytes] = set()
        self.without_hash: set[bytes] = set()
        self.waiting = self.left_over = 0
        self.running = self.scheduled = self.deferred = 0
        self.breaches = Breaches()

    def find(self, job_id: bytes) -> tuple[Book | None, int]:
        """The book and index of a job; none for that of a stock client, or of another ensemble."""
        ensemble, _, index = job_id.rpartition(b"-")
        book = self.books.get(ensemble)
        return (book, int(index)) if book is not None and index.isdigit() and len(index) < 18 else (None, -1)

    def account(self) -> QueueAccount:
        return QueueAccount(
            queue=self.queue,
            waiting=self.waiting,
            running=self.running,
            scheduled=self.scheduled,
            deferred=self.deferred,
            left_over=self.left_over,
            breaches=tuple(self.breaches.named),
            breach_count=self.breaches.count,
        )
