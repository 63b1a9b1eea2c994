"""The ledger: whether each job that was accepted is in one place, or has one record; from Redis alone.

An audit may take seconds, while jobs move from the queue's list to leases to records. So it reads in that
order: what moves meanwhile is seen twice rather than never. Scripts that only read return pages of a few
milliseconds; on this side there is one byte per job. What then looks wrong (a job that was seen nowhere, two
records) is looked at again, each job in one step, before it is called a breach. It is long because all
rules of the ledger, and what breaks each of them, are here and nowhere else.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, cast

from cloudburst.errors import EnsembleError
from cloudburst.model import Account, Audit, Breach
from cloudburst.rqwire import encoding
from cloudburst.rqwire.connection import Redis
from cloudburst.rqwire.ensembles import INDEX
from cloudburst.rqwire.ledger.seen import (
    CANCELLED,
    DEFERRED,
    FAILED,
    FINISHED,
    LEASED,
    LISTED,
    LOST,
    RECORDED,
    SCHEDULED,
    Book,
    Shelf,
)
from cloudburst.rqwire.scripts import Scripts

PAGE_IDS = 1000
PAGE_RECORDS = 300
PAGE_KEYS = 1000
"""A page costs Redis a few milliseconds (measured: benchmarks/counters.py)."""

SEARCHES = 200
"""So many searches of a whole list: each costs Redis as many microseconds as the list has hundreds of ids."""

ROUNDS = 3
"""A job may move between two looks at it; not each time."""

_RECORD = {b"f": FINISHED, b"e": FAILED, b"c": CANCELLED}

_STATES = {
    "q": "waiting",
    "s": "running",
    "d": "scheduled",
    "w": "deferred",
    "f": "ended",
    "x": "",
    "-": "deleted",
}


class Ledger:
    """Audits of one Redis; they change nothing. Raises EnsembleError, and what redis-py raises."""

    def __init__(self, client: Redis) -> None:
        self._redis = client
        self._call = Scripts(client)

    def ensemble(self, ensemble: str) -> Account:
        """Audit one ensemble (EnsembleError if it does not exist).

        Its cost grows with its jobs and with all that wait in its queue; the memory here is a byte per job.
        """
        return self.read(ensemble)[0][0].account()

    def counters(self, ensemble: str) -> list[Breach]:
        """Compare the counters of one ensemble with what can be counted at once; costs the same at any size.

        Part of every audit. EnsembleError if the ensemble does not exist.
        """
        return self._existing(ensemble).breaches.named

    def everything(self) -> Audit:
        """Audit all ensembles, and what stock clients have in the queues."""
        books, shelves = self.read()
        return Audit(
            ensembles=tuple(book.account() for book in books),
            queues=tuple(shelf.account() for shelf in shelves),
        )

    def read(self, ensemble: str = "") -> tuple[list[Book], list[Shelf]]:
        """What an audit of one ensemble sees, or of everything: of ensembles, and of queues."""
        books = [self._existing(ensemble)] if ensemble else self._all_books()
        for book in books:
            book.begin()
        queues = {book.queue for book in books}
        if not ensemble:
            keys = cast("set[bytes]", self._redis.smembers("rq:queues"))
            queues |= {encoding.name(key).removeprefix("rq:queue:") for key in keys}
        shelves = {queue: Shelf(queue, books, whole=not ensemble) for queue in sorted(queues)}
        for shelf in shelves.values():
            self._read_places(shelf)
        for book in books:
            self._check_book(book, shelves[book.queue])
        for shelf in shelves.values():
            self._check_list(shelf)
        if not ensemble:
            self._check_strays(shelves)
        return books, list(shelves.values())

    def _all_books(self) -> list[Book]:
        ids = map(encoding.name, cast("list[bytes]", self._redis.zrevrange(INDEX, 0, -1)))
        return [book for ensemble in ids if (book := self._open(ensemble)) is not None]

    def _existing(self, ensemble: str) -> Book:
        book = self._open(ensemble)
        if book is None:
            raise EnsembleError(f"no ensemble {ensemble!r} here: `cloudburst status` lists those there are")
        return book

    def _open(self, ensemble: str) -> Book | None:
        counts = self._call("ledger_counts", ensemble)
        if not counts:
            return None
        book = Book(ensemble, counts)
        if sum(book.counters) != book.records:
            book.breaches.add(
                "",
                f"{sum(book.counters):,} jobs are counted as ended, there are {book.records:,} records",
            )
        elif book.ran != book.records:
            what = f"{book.ran:,} records are counted by what they ran on, there are {book.records:,}"
            book.breaches.add("", what)
        if book.running != book.leases:
            book.breaches.add(
                "", f"{book.running:,} jobs are counted as running, there are {book.leases:,} leases"
            )
        return book

    # Where jobs are that have not ended

    def _read_places(self, shelf: Shelf) -> None:
        """The queue's list, then leases and waiting sets: the way that jobs go."""
        self._read_list(shelf)
        shelf.running = self._read_set(shelf, "cb:lease:", LEASED, "1", "s")
        shelf.scheduled = self._read_set(shelf, "rq:scheduled:", SCHEDULED, "3", "d")
        shelf.deferred = self._read_set(shelf, "rq:deferred:", DEFERRED, "4", "w")
        self._check_wip(shelf)

    def _read_list(self, shelf: Shelf) -> None:
        behind = 0
        before: list[bytes] = []
        while page := self._call("ledger_list", shelf.queue, behind, PAGE_IDS):
            behind += len(page)
            page = _new_ones(before, page)
            for item in page:
                letter, job_id = item[:1], item[1:]
                book, index = shelf.find(job_id)
                if book is None and not shelf.whole:
                    continue
                if letter == b"-":
                    shelf.without_hash.add(job_id)
                elif letter != b"q":
                    shelf.left_over += 1
                elif book is not None:
                    if index < book.submitted and book.seen[index] & LISTED:
                        shelf.twice.add(job_id)
                    book.mark(index, LISTED)
                    shelf.waiting += 1
                else:
                    if job_id in shelf.stock:
                        shelf.twice.add(job_id)
                    shelf.stock.add(job_id)
                    shelf.waiting += 1
            before = page or before

    def _read_set(self, shelf: Shelf, key: str, place: int, position: str, letter: str) -> int:
        """Mark what is in a sorted set; a breach when the job of a member is not in that state."""
        where = {"1": "has a lease", "3": "is in rq:scheduled", "4": "is in rq:deferred"}[position]
        for some in _slices(self._members(f"{key}{shelf.queue}"), 500):
            for job_id in some:
                book, index = shelf.find(job_id)
                if book is not None:
                    book.mark(index, place)
            ours = [job_id for job_id in some if shelf.whole or shelf.find(job_id)[0] is not None]
            for job_id, answer in self._look(shelf.queue, ours):
                if answer[int(position)] == "1" and answer[0] not in {letter, "x"}:
                    self._breach(shelf, job_id, f"{where}, but it is {_STATES[answer[0]]}")
                elif position == "1" and answer[:3] == "s10":
                    self._breach(shelf, job_id, "has a lease, but no entry in rq:wip")
        return int(cast("Any", self._redis.zcard(f"{key}{shelf.queue}")))

    def _check_wip(self, shelf: Shelf) -> None:
        ours = (
            member
            for member in self._members(f"rq:wip:{shelf.queue}")
            if shelf.whole or shelf.find(member.rpartition(b":")[0])[0] is not None
        )
        for some in _slices(ours, 500):
            for member in self._call("ledger_wip", shelf.queue, *some):
                job_id, _, owner = encoding.name(member).rpartition(":")
                what = f"is in rq:wip for {owner}, which has no lease of it"
                self._breach(shelf, encoding.named(job_id), what)

    def _check_list(self, shelf: Shelf) -> None:
        """Look again at what was in the list twice, or without a hash."""
        for job_id in itertools.islice(sorted(shelf.twice), SEARCHES):
            ((_, answer),) = self._look(shelf.queue, [job_id], search=True)
            if answer[5] == "2" and answer[0] == "q":
                self._breach(shelf, job_id, f"is in the list of {shelf.queue} twice")
        for job_id in itertools.islice(sorted(shelf.without_hash), SEARCHES):
            book, index = shelf.find(job_id)
            if book is not None and (index >= book.submitted or book.seen[index] & (RECORDED | LOST)):
                shelf.left_over += 1  # its record alone counts; or it was named already
                continue
            ((_, answer),) = self._look(shelf.queue, [job_id], search=True)
            if answer[0] == "-" and answer[5] != "0":
                self._breach(shelf, job_id, f"is in the list of {shelf.queue}, but has no hash")

    def _breach(self, shelf: Shelf, job_id: bytes, what: str) -> None:
        book, _ = shelf.find(job_id)
        (shelf if book is None else book).breaches.add(encoding.name(job_id), what)

    # Records

    def _check_book(self, book: Book, shelf: Shelf) -> None:
        self._check_counters(book, self._read_records(book, book.last_entry))
        self._read_records(book)
        self._check_recorded_twice(book)
        self._check_unseen(book, shelf)
        self._check_beyond(book)

    def _read_records(self, book: Book, till: str = "+") -> Counter[str]:
        """Mark the records behind ``book.end``, up to an entry; how many there are per state."""
        found: Counter[str] = Counter()
        while True:
            end, text, strange = self._call("ledger_records", book.ensemble, book.end, till, PAGE_RECORDS, 0)
            if not end:
                return found
            book.end = end.decode()
            for item in text.split():
                index, letter = int(item[:-1]), item[-1:]
                place = _RECORD.get(letter, 0)
                if not place:
                    book.breaches.add(book.job_id(index), "is recorded, but goes on")
                    place = _RECORD[letter.lower()]
                if index < book.submitted and book.seen[index] & RECORDED:
                    book.recorded_twice.add(index)
                book.mark(index, place)
                found[_PLACES[place]] += 1
            for entry in strange:
                found["strange"] += 1
                book.breaches.add("", f"record {entry.decode()} names no job of this ensemble")

    def _check_counters(self, book: Book, by_state: Counter[str]) -> None:
        """Compare the counters with the records that there were when they were read."""
        counters = dict(zip(("finished", "failed", "cancelled"), book.counters, strict=True))
        if sum(by_state.values()) != book.records:
            return  # records were withdrawn meanwhile: jobs are retried. Their number was compared at once.
        if sum(book.counters) != book.records:
            return  # that was named already
        for state, count in counters.items():
            if by_state[state] != count:
                what = f"{count:,} jobs are counted as {state}, {by_state[state]:,} records say so"
                book.breaches.add("", what)

    def _check_recorded_twice(self, book: Book) -> None:
        if not book.recorded_twice:
            return
        entries: dict[int, list[str]] = {}
        end = "0-0"
        while True:
            last, text, _ = self._call("ledger_records", book.ensemble, end, "+", PAGE_RECORDS, 1)
            if not last:
                break
            end = last.decode()
            for item in text.split():
                at = letter_at(item)
                if (index := int(item[:at])) in book.recorded_twice:
                    entries.setdefault(index, []).append(item[at + 1 :].decode())
        for index, found in sorted(entries.items()):
            if len(found) > 1:
                count = int(self._call("ledger_entries", book.ensemble, *found))
                if count > 1:  # a job that was retried meanwhile has a new record instead of the old one
                    book.breaches.add(book.job_id(index), f"has {count} records: {', '.join(found)}")

    # Jobs that were seen nowhere

    def _check_unseen(self, book: Book, shelf: Shelf) -> None:
        wrong: dict[int, str] = {}
        for _ in range(ROUNDS):
            if len(wrong) > SEARCHES:  # such as jobs that were retried meanwhile: reading all is cheaper
                self._read_list(Shelf(shelf.queue, shelf.books.values(), whole=False))
            wrong.clear()
            searches = SEARCHES
            for some in _slices(book.unseen(), 500):
                jobs = [book.job_id(index).encode() for index in some]
                for index, (job_id, first) in zip(some, self._look(book.queue, jobs), strict=True):
                    answer = first
                    if first[0] in "qs" and first[1] == "0" and searches > 0:
                        searches -= 1
                        ((_, answer),) = self._look(book.queue, [job_id], search=True)
                    self._place(book, index, answer, wrong)
            if not wrong:
                return
            self._read_records(book)  # those that ended meanwhile have one by now
            wrong = {index: what for index, what in wrong.items() if not book.seen[index]}
        for index, what in wrong.items():
            book.seen[index] |= LOST
            book.breaches.add(book.job_id(index), what)

    def _place(self, book: Book, index: int, answer: str, wrong: dict[int, str]) -> None:
        """Mark a job with what one look has shown, or say what is wrong with it."""
        letter = answer[0]
        if letter == "x" or (letter == "q" and answer[5] in "12"):
            book.mark(index, LISTED)
        elif letter == "s" and (answer[1] == "1" or answer[2] == "2"):
            book.mark(index, LEASED)
        elif letter == "d" and answer[3] == "1":
            book.mark(index, SCHEDULED)
        elif letter == "w" and answer[4] == "1":
            book.mark(index, DEFERRED)
        else:
            wrong[index] = {
                "q": f"should wait, but is not in the list of {book.queue}",
                "s": "should be running, but has no lease",
                "d": "should be scheduled, but is not in rq:scheduled",
                "w": "should be deferred, but is not in rq:deferred",
                "f": "has ended, but has no record",
                "-": "is lost: it has no hash and no record",
            }[letter]

    def _check_beyond(self, book: Book) -> None:
        """Jobs and records that the ensemble does not have, unless it has grown."""
        if not book.beyond:
            return
        counts = self._call("ledger_counts", book.ensemble)
        for index in sorted(index for index in book.beyond if not counts or index >= counts[2]):
            book.breaches.add(
                book.job_id(index), f"is beyond the {counts[2] if counts else 0:,} jobs submitted"
            )

    # Jobs of stock clients

    def _check_strays(self, shelves: dict[str, Shelf]) -> None:
        """Look for jobs that no list, lease or set names: of stock clients, and orphans of ensembles."""
        cursor = b"0"
        suspects: dict[str, list[bytes]] = {queue: [] for queue in shelves}
        while True:
            cursor, strays = self._call("ledger_strays", cursor, PAGE_KEYS)
            for letter, job_id, origin in strays:
                shelf = shelves.get(encoding.name(origin))
                if letter == b"o":
                    self._check_orphan(shelves, job_id)
                elif shelf is not None and not (letter == b"q" and job_id in shelf.stock):
                    suspects[shelf.queue].append(job_id)
            if cursor == b"0":
                break
        for queue, jobs in suspects.items():
            self._check_stock(shelves[queue], jobs)

    def _check_orphan(self, shelves: dict[str, Shelf], job_id: bytes) -> None:
        ensemble, _, index = job_id.rpartition(b"-")
        counts = self._call("ledger_counts", ensemble)
        if not counts or not index.isdigit() or int(index) >= counts[2]:
            books = [shelf.books[ensemble] for shelf in shelves.values() if ensemble in shelf.books]
            if books and index.isdigit() and int(index) in books[0].beyond:
                return  # it was in a list, too, and is named already
            breaches = books[0].breaches if books else next(iter(shelves.values())).breaches
            breaches.add(encoding.name(job_id), "says that it is a job of an ensemble that has no such job")

    def _check_stock(self, shelf: Shelf, jobs: list[bytes]) -> None:
        searches = 0
        for job_id, first in self._look(shelf.queue, jobs):
            answer = first
            if first[0] in "qs" and first[1] == "0" and searches < SEARCHES:
                searches += 1
                ((_, answer),) = self._look(shelf.queue, [job_id], search=True)
            letter = answer[0]
            if letter == "q" and answer[5] == "0":
                what = f"should wait, but is not in the list of {shelf.queue}"
                shelf.breaches.add(encoding.name(job_id), what)
            elif letter == "s" and answer[1] == "0" and answer[2] != "2":
                shelf.breaches.add(encoding.name(job_id), "should be running, but has no lease")
            elif letter == "d" and answer[3] == "0":
                shelf.breaches.add(encoding.name(job_id), "should be scheduled, but is not in rq:scheduled")
            elif letter == "w" and answer[4] == "0":
                shelf.breaches.add(encoding.name(job_id), "should be deferred, but is not in rq:deferred")

    def _members(self, key: str) -> Iterator[bytes]:
        """Members of a sorted set: each that stays there, and some that come and go."""
        return (member for member, _ in self._redis.zscan_iter(key, count=1000))

    def _look(self, queue: str, jobs: list[bytes], *, search: bool = False) -> Iterator[tuple[bytes, str]]:
        """What ``ledger_jobs.lua`` says about each job."""
        for some in _slices(jobs, 500):
            answers = self._call("ledger_jobs", queue, int(search), *some)
            yield from zip(some, (answer.decode() for answer in answers), strict=True)


_PLACES = {FINISHED: "finished", FAILED: "failed", CANCELLED: "cancelled"}


def _slices(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while some := list(itertools.islice(iterator, size)):
        yield some


def _new_ones(before: list[bytes], page: list[bytes]) -> list[bytes]:
    """A page without what was on the one before it: it moves there when jobs are appended meanwhile."""
    if not before or before[-1] not in page:
        return page
    overlap = page.index(before[-1]) + 1
    return page[overlap:] if page[:overlap] == before[-overlap:] else page


def letter_at(item: bytes) -> int:
    """Where the index ends in ``12f1700000000000-0``."""
    for letter in b"fecFEC":
        at = item.find(letter)
        if at > 0:
            return at
    raise ValueError(f"not a record of ledger_records.lua: {item!r}")
