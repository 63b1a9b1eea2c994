"""Which claim goes where, and how many there should be."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable

from cloudburst.rqwire.leases import Claim
from cloudburst.worker.provision import Provisioner
from cloudburst.worker.runtime import Runtime, Unusable
from cloudburst.worker.slot import Slot
from cloudburst.worker.slots import Slots

log = logging.getLogger(__name__)

PAUSE_S = 0.002
"""While executors have enough to do for longer, the worker rests: fewer turns, each with more jobs."""

BATCH = 64
"""Claims at a time: more would not cost Redis less for each."""

HOLD_S = 0.05
"""A claim whose payload is not ready goes back after so long: most of what is there is ready by then."""

ASKED_S = 5.0
"""A claim that waits to learn which worker.zip is current goes back after so long. It must not do so sooner:
what is learnt is good for this claim, but not for the next one."""

AHEAD_OF_NEED = 2
"""So many payloads are prepared at a time before a job of theirs is next."""


class Placing:
    """Hands claims to slots in their order; what waits behind a job that takes long is taken elsewhere.

    Nothing waits in a slot for its payload: such claims go back, and are not asked for until it is ready.
    """

    def __init__(self, slots: Slots, provisioner: Provisioner, workers: Callable[[], int]) -> None:
        """``workers``: how many serve the queue, this one too."""
        self._slots = slots
        self._provisioner = provisioner
        self._workers = workers
        self._hold_until = math.inf
        """When the first of the claims goes back that wait for their payload, for a moment."""
        self._unready: dict[str, tuple[str, float]] = {}
        """Payloads that claims went back for: an ensemble that wants it, and when that was."""
        self._plenty = False

    def excluded(self) -> list[str]:
        """Payloads whose jobs should not be claimed now, because they are not ready here."""
        self._unready = {
            payload: (ensemble, since)
            for payload, (ensemble, since) in self._unready.items()
            if self._is_for_others(self._provisioner.get(payload, ensemble, since=since))
        }
        return list(self._unready)

    def _is_for_others(self, found: Runtime | Unusable | None) -> bool:
        """Whether other workers may run what cannot run here: it is not ready, or this node has no room."""
        return found is None or (isinstance(found, Unusable) and 0 < found.workers < self._workers())

    def prepare(self, pending: Iterable[tuple[str, str]]) -> None:
        """Begin to prepare the first payloads of ensembles, given with them, that have jobs waiting."""
        under_way: set[str] = set()
        for ensemble, payload in pending:
            if len(under_way) == AHEAD_OF_NEED or not self._provisioner.has_room:
                return
            if payload and self._provisioner.get(payload, ensemble) is None:
                under_way.add(payload)

    def next_event(self) -> float:
        """When claims are to go back whose payload is not ready by then (monotonic seconds)."""
        return self._hold_until if self._slots.waiting else math.inf

    def wanted(self) -> tuple[int, int]:
        """How many jobs to claim now, and how many of them could be started at once."""
        held = len(self._slots.waiting) + sum(len(slot.claims) for slot in self._slots)
        most = self._most(self._per_slot())
        free = max(sum(not slot.claims for slot in self._slots) - len(self._slots.waiting), 0)
        # Many at a time, unless a slot is free; not so many that slots run dry while Redis hands them out.
        needed = min(self._slots.ahead.needed() * len(self._slots), most * 3 // 4)
        enough = max(most // 2, most - BATCH, needed)
        return (max(most - held, 0) if free or held <= enough else 0), free

    def _most(self, per_slot: int) -> int:
        """How many jobs may be held now: none behind a job that takes long."""
        late = self._late()
        return sum(1 if slot in late else 1 + per_slot for slot in self._slots)

    def _per_slot(self) -> int:
        """How many may be claimed for a slot beside its running job."""
        return self._slots.ahead.per_slot(plenty=self._plenty)

    def _kept_per_slot(self) -> int:
        """How many may wait behind the running job of a slot."""
        return self._slots.ahead.kept_per_slot(plenty=self._plenty)

    def _late(self) -> list[Slot]:
        """Slots whose job takes longer than was expected."""
        now, late_s = time.monotonic(), self._slots.ahead.late_s()
        return [slot for slot in self._slots if slot.age_s(now) > late_s]

    def rest_s(self) -> float:
        """How long the worker may look away without any slot running dry: 0 or PAUSE_S."""
        enough = 2 * PAUSE_S / self._slots.ahead.job_s
        return PAUSE_S if all(len(slot.claims) - 1 > enough for slot in self._slots) else 0.0

    def take(self, claims: list[Claim], *, plenty: bool) -> None:
        """Take over new claims; ``plenty``: many more jobs wait in the queue."""
        for claim in claims:
            if claim.malformed:
                self._slots.refuse(claim)
            else:
                self._slots.waiting.append(claim)
        self._plenty = plenty

    def dispatch(self) -> None:
        """Hand claims to executors, in order, as payloads are ready; fail those whose payload cannot be."""
        late, per_slot = self._late(), self._kept_per_slot()
        self._share(late, per_slot)
        claims, self._slots.waiting = self._slots.waiting, []
        self._hold_until = math.inf
        for place, claim in enumerate(claims):
            try:
                placed = self._dispatch(claim, late, per_slot)
            except Exception as error:
                # Whatever it is, no other job may suffer from it.
                log.exception("%s: cannot be started", claim.job_id)
                self._slots.cannot_start(claim, f"{type(error).__name__}: {error}")
                continue
            if not placed:
                self._slots.waiting += claims[place:]
                return

    def _dispatch(self, claim: Claim, late: list[Slot], per_slot: int) -> bool:
        """Do with a claim what can be done now; False if those behind it can only wait with it."""
        ready = self._provisioner.get(claim.payload, claim.ensemble, since=claim.claimed_at)
        if ready is None or self._is_for_others(ready):
            if not self._give_back(claim):
                self._slots.waiting.append(claim)
        elif isinstance(ready, Unusable):
            self._slots.fail(claim, ready)
        else:
            return self._place(claim, ready, late, per_slot)
        return True

    def _give_back(self, claim: Claim) -> bool:
        """Return a claim whose payload takes longer; whether it is time to. What has begun is kept."""
        if claim.decided is not None:
            return False
        asked = self._provisioner.asks(claim.payload, claim.claimed_at)
        now, hold_until = time.monotonic(), claim.claimed_at + (ASKED_S if asked else HOLD_S)
        if now < hold_until:
            self._hold_until = min(self._hold_until, hold_until)
            return False
        self._unready.setdefault(claim.payload, (claim.ensemble, now))
        self._slots.give_back(claim)
        return True

    def _share(self, late: list[Slot], per_slot: int) -> None:
        """Call back what lies behind a job that takes long, what is too much, what an idle slot could run."""
        idle = not self._slots.waiting and any(not slot.claims for slot in self._slots)
        for slot in self._slots:
            behind = len(slot.claims) - 1
            if behind > 0 and (idle or slot in late or behind > per_slot):
                self._slots.call_back(slot)

    def _place(self, claim: Claim, runtime: Runtime, late: list[Slot], per_slot: int) -> bool:
        """Hand a claim to the slot that has least to do, one with the right executor first."""
        for slot in sorted(self._slots, key=lambda slot: (len(slot.claims), not slot.has(runtime))):
            if slot.claims and (claim.care or slot in late or not slot.room(runtime, per_slot)):
                continue
            if self._slots.hand_over(claim, runtime, slot):
                return True
        return False

    def give_back_excess(self) -> None:
        """Return what is held without a slot for it in sight: somebody else may have one."""
        in_slots = sum(len(slot.claims) for slot in self._slots)
        self._slots.give_back_waiting(keep=max(self._most(self._kept_per_slot()) - in_slots, 0))
