"""All slots of the worker: starts executors, listens to them, stops what must be stopped.

What has ended goes to the recorder; nothing in here talks to Redis. It is long because a slot, its executor
and its claims change together: whoever starts, reads or ends one of them has to leave all three in order.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import count

from cloudburst import names
from cloudburst.config import WorkerConfig
from cloudburst.rqwire.leases import MALFORMED, Claim, Loss, Outcome
from cloudburst.worker import ending, memory
from cloudburst.worker.ahead import Ahead
from cloudburst.worker.ending import Guard
from cloudburst.worker.identities import Identities
from cloudburst.worker.inside import frames
from cloudburst.worker.inside.lifelines import adopt_orphans
from cloudburst.worker.leaving import Leaving
from cloudburst.worker.process import ExecutorProcess
from cloudburst.worker.recorder import Recorder
from cloudburst.worker.removing import remove
from cloudburst.worker.replies import Begun, Disturbed, Ended, Points, Reply
from cloudburst.worker.runtime import Runtime, Unusable, executor_environ
from cloudburst.worker.slot import Slot
from cloudburst.worker.spares import Spares
from cloudburst.worker.standins import StandIns
from cloudburst.worker.verdict import DROP, GO_BACK, HUNG_UP, KILL_HORSE, STOP_JOB, Attempt, Verdict
from cloudburst.worker.written import TooMuch

log = logging.getLogger(__name__)

TICK_S = 0.5
"""How often memory and output of running jobs are looked at."""

DAY_S = 86_400.0
"""How much clocks may be set while a job runs: what it says of its times may be off by so much."""

Hopeless = Callable[[Claim, str], None]
"""Called with a claim and the reason why no job of its ensemble can run."""


class Slots:
    """The slots, the executors in them, and the claims that wait for one (``placing`` decides for which)."""

    def __init__(
        self,
        config: WorkerConfig,
        environ: Mapping[str, str],
        selector: selectors.BaseSelector,
        recorder: Recorder,
        hopeless: Hopeless,
    ) -> None:
        self._config = config
        self._environ = environ
        self._selector = selector
        self._recorder = recorder
        self._hopeless = hopeless
        self._next_tick = 0.0
        self.ahead = Ahead()
        self.waiting: list[Claim] = []
        """Claims that no executor has, in their order."""
        self._directory = config.state_dir / "slots"
        remove(self._directory)
        self._numbers = count()
        self._slots = [Slot(number) for number in range(config.slots)]
        self._leaving = Leaving()
        self._spares = Spares(config.slots, close=self._leaving.close)
        self._stand_ins = StandIns(self._spares)
        self._identities = Identities(config.executor_uids)
        adopt_orphans()
        # Where executors have users of their own, this process may not pass on the right to kill them.
        self._guard = None if config.executor_uids else Guard(config.state_dir)
        self._kernel_kills = (memory.kernel_kills(),) * 2
        """Before the last two ticks."""

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots)

    def claims(self) -> list[Claim]:
        """All claims that are held here, running or not."""
        return [*(claim for slot in self._slots for claim in slot.claims), *self.waiting]

    def running(self) -> list[Claim]:
        """The claims whose turn it is in their slots."""
        return [slot.claims[0] for slot in self._slots if slot.claims]

    def payloads(self, *, idle: bool = True) -> set[str]:
        """Digests of the payloads of executors in slots, also of ``idle`` ones, and of claims that wait."""
        held = {
            slot.executor.runtime.digest
            for slot in self._slots
            if slot.executor is not None and (idle or slot.claims)
        }
        return held | {claim.payload for claim in self.waiting}

    def end_idle(self, payloads: Collection[str]) -> None:
        """End executors that wait for jobs of payloads whose files are gone."""
        self._spares.end(payloads)
        for slot in self._slots:
            if slot.executor is not None and not slot.claims and slot.executor.runtime.digest in payloads:
                self._discard(slot)

    def next_event(self) -> float:
        """When ``enforce`` wants to be called again (monotonic seconds)."""
        return min([self._next_tick, *(slot.next_event() for slot in self._slots)])

    # -- starting ----------------------------------------------------------------------------------------

    def hand_over(self, claim: Claim, runtime: Runtime, slot: Slot) -> bool:
        """Give a claim to a slot, with a new executor if need be; False when its queue is full."""
        try:
            if not slot.has(runtime):
                self._put_away(slot)
                self._equip(slot, runtime)
            return slot.hand_over(claim)
        except OSError as error:  # no memory, no processes, no disk
            log.error("slot %d: cannot start a job: %s", slot.number, error)
            self.cannot_start(claim, str(error))
            return True

    def _put_away(self, slot: Slot) -> None:
        """Empty a slot for an executor of another payload; the one that is there may be wanted again."""
        executor = slot.part()
        if executor is not None:
            self._unregister(executor)
            self._spares.keep(executor)
        self._discard(slot)

    def _equip(self, slot: Slot, runtime: Runtime) -> None:
        """Give a slot an executor of that payload. Raises OSError when there is none to be had."""
        slot.executor = self._spares.take(runtime) or self._start_executor(runtime)
        self._selector.register(slot.executor, selectors.EVENT_READ, slot)

    def fail(self, claim: Claim, unusable: Unusable) -> None:
        """Record that a claim's payload cannot be used."""
        text = f"{unusable.error}\n{unusable.detail}".strip()
        outcome = Outcome(
            claim,
            "failed",
            time.time(),
            0.0,
            error=unusable.error,
            fingerprint=names.FINGERPRINT_ENSEMBLE,
            traceback=text,
        )
        self._recorder.ended(outcome)
        self._hopeless(claim, text)

    def refuse(self, claim: Claim) -> None:
        """Record that a job cannot be run as it stands in Redis."""
        self._recorder.ended(
            Outcome(
                claim,
                "failed",
                time.time(),
                0.0,
                error=claim.malformed,
                fingerprint=MALFORMED,
                traceback=claim.malformed,
            )
        )

    def cannot_start(self, claim: Claim, why: str) -> None:
        """Return a claim that cannot be started here: the node's fault, another may do better."""
        verdict = Verdict("start", f"its executor could not be started ({why})", "is lost")
        self._recorder.lost(Attempt(claim, time.time()).loss(verdict))

    def _start_executor(self, runtime: Runtime, *, stands_in: bool = False) -> ExecutorProcess:
        directory = self._directory / str(next(self._numbers))
        log.debug("starting an executor of payload %.12s%s", runtime.digest, " or another" * stands_in)
        return ExecutorProcess(
            runtime,
            directory,
            executor_environ(runtime, self._config, self._environ),
            kept_dir=self._config.state_dir / "kept",
            points=bool(self._config.influx_url),
            allow_pickle=self._config.allow_pickle,
            stands_in=stands_in,
            identity=self._identities.take(),
            guard=self._guard,
        )

    def _start_stand_in(self) -> None:
        """Have another executor ready when it is wanted and there is a CPU for it."""
        free = not self.waiting and any(not slot.claims for slot in self._slots)
        runtime = self._stand_ins.due(free=free)
        if runtime is not None:
            try:
                self._spares.keep(self._start_executor(runtime, stands_in=True))
            except OSError as error:
                log.warning("cannot start an executor that stands in: %s", error)

    # -- listening ---------------------------------------------------------------------------------------

    def listen(self, slot: Slot) -> None:
        """Take what the slot's executor has said, and notice when it is gone."""
        if slot.executor is None:
            return
        try:
            for reply in slot.executor.listen():
                self._take(slot, reply)
        except _Over as over:
            self._end(slot, over.verdict)
        except Disturbed as what:
            log.warning("slot %d: its executor has said %s", slot.number, what)
            self._end(slot, Verdict.disturbed(what))
        except Exception as error:
            log.exception("slot %d: its executor cannot be listened to", slot.number)
            self._end(slot, Verdict("worker", f"the worker did not understand it ({error})", "is lost"))
        else:
            if slot.executor.hung_up:
                self._hung_up(slot, slot.executor)
            elif slot.retiring and not slot.claims:
                self._discard(slot)

    def _take(self, slot: Slot, reply: Reply) -> None:
        if isinstance(reply, Ended):
            self._ended(slot, reply)
        elif not slot.claims:
            raise Disturbed("something, and no job runs")
        elif isinstance(reply, Begun):
            if reply.order != _executor(slot).number(slot.claims[0]):
                raise Disturbed("the beginning of a job whose turn it is not")
            _executor(slot).begun.add(slot.claims[0].ensemble)
        elif isinstance(reply, Points):
            try:
                slot.write(reply.lines)
            except TooMuch:
                most = f"{frames.POINTS_LIMIT >> 20:,} MiB of points"
                raise _Over(
                    Verdict("points", f"it wrote more than {most}, the most that a job may")
                ) from None
            except OSError as error:
                reason = f"its points could not be kept on the node's disk ({error.strerror})"
                raise _Over(Verdict("disk", reason, "is lost")) from None
        else:
            slot.summary = reply.line

    def _ended(self, slot: Slot, ended: Ended) -> None:
        """A job has ended. Raises Disturbed when it is not the one whose turn it was."""
        running, claim = _executor(slot), slot.running
        if claim is None or ended.order != running.number(claim):
            if ended.order == running.last_ended:  # another has said it before: then it was that one's job
                raise _Over(None)
            raise Disturbed("the end of a job that does not run")
        now = time.time()
        if not slot.started_at - DAY_S <= ended.started <= now + DAY_S:
            raise Disturbed(f"the end of a job that began at {ended.started:.0f}")
        if ended.duration > now - slot.started_at + DAY_S:
            raise Disturbed(f"the end of a job that took {ended.duration:.0f} s")
        if ended.broken and claim.ensemble in running.begun:
            raise Disturbed("that no job can run, and this one had begun")
        points, summary = slot.take_points()
        slot.release()
        self.ahead.observe(ended.duration)
        failed = ended.state == "failed"
        outcome = Outcome(
            claim,
            ended.state,
            ended.started,
            ended.duration,
            value=b"" if failed else ended.body,
            error=ended.error,
            fingerprint=names.FINGERPRINT_ENSEMBLE if ended.broken else ended.fingerprint,
            traceback=ended.traceback,
            output=running.output_tail(ended.body) if failed else b"",
            provenance=running.runtime.provenance_text,
        )
        running.job_ended(claim)
        if not failed and not running.proven:
            running.proven = True
            self._stand_ins.want(running.runtime)
        self._recorder.ended(outcome, points, summary, ended.series)
        if ended.renew:
            log.info("slot %d: its executor is renewed: %s", slot.number, ended.renew)
        limit_mb = self._rss_limit_mb(running.runtime)
        if not slot.retiring and (ended.renew or slot.renewal_due(ended.rss_mb, limit_mb)):
            slot.retiring = True
            self.call_back(slot)
        if ended.broken:
            self._hopeless(claim, f"{outcome.error}\n{outcome.traceback}".strip())

    def _hung_up(self, slot: Slot, executor: ExecutorProcess) -> None:
        """The executor's socket is closed: its process has ended, or the job that runs has closed it."""
        verdict = slot.verdict
        if executor.gone():
            status = executor.process.returncode
            crashed = status < 0 and status != -signal.SIGUSR1  # with which we ask for its stack
            if verdict is None or (verdict is HUNG_UP and crashed):  # a crash takes a moment
                verdict = Verdict.ended(status, for_memory=memory.kernel_kills() > self._kernel_kills[0])
            self._end(slot, verdict)
        elif not slot.claims:
            self._discard(slot)
        else:
            self._unregister(executor)
            slot.condemn(HUNG_UP)  # unless it is condemned already

    # -- stopping ----------------------------------------------------------------------------------------

    def enforce(self, now: float) -> None:
        """Hold running jobs to their limits of time, memory and output."""
        for slot in self._slots:
            if slot.overdue(now):
                limit = slot.claims[0].timeout_s
                slot.condemn(Verdict("timeout", f"it ran longer than its timeout of {limit} s"))
            if slot.condemned(now):
                self.listen(slot)  # it may have ended in the meantime
                if slot.verdict is not None:
                    self._end(slot, slot.verdict)
        if now >= self._next_tick:
            self._next_tick = now + TICK_S
            ending.end_orphans()
            self._leaving.tick()
            self._kernel_kills = (self._kernel_kills[1], memory.kernel_kills())
            for slot in self._slots:
                if slot.claims and slot.executor is not None:
                    self._tick(slot, slot.executor)
            self._spares.enforce(
                {slot.executor.runtime.basis for slot in self._slots if slot.claims and slot.executor}
            )
            self._start_stand_in()

    def _tick(self, slot: Slot, running: ExecutorProcess) -> None:
        running.cut_output()
        try:
            running.tick()
        except Disturbed as what:
            self._end(slot, Verdict.disturbed(what))
        else:
            self._check_memory(slot, running)

    def _end(self, slot: Slot, verdict: Verdict | None) -> None:
        """End the slot's executor: the only way for one that has claims.

        The verdict is about the claim that runs, unless that has ended meanwhile; without one it runs again,
        as all do that waited behind it.
        """
        executor, condemned = _executor(slot), slot.running
        if verdict is not None and condemned is not None and executor.ended and condemned.attempt == 1:
            verdict = verdict.in_doubt()
        known = (slot.started_at, executor.output_tail(), executor.runtime.provenance_text)
        executor.kill()
        with contextlib.suppress(Disturbed, _Over):  # what it had said before still counts
            for reply in executor.listen():
                self._take(slot, reply)
        left = slot.clear()
        self._discard(slot)
        if verdict is not None and left and left[0] is condemned:
            self._judge(Attempt(left.pop(0), *known), verdict)
        self._wait(left)

    def _judge(self, attempt: Attempt, verdict: Verdict) -> None:
        claim = attempt.claim
        if verdict.sentence in {"is dropped", "goes back"}:
            log.info("%s: %s", claim.job_id, verdict.reason)
        if verdict.sentence == "goes back":
            self._recorder.lost(Loss(claim))
        elif verdict.sentence == "is lost":
            self._recorder.lost(attempt.loss(verdict))
        elif verdict.sentence == "stops" and claim.asked.on_stopped is not None and claim.decided is None:
            # Its executor is dead: the callback runs in the next one.
            self.waiting.insert(0, claim._replace(decided=attempt.outcome(verdict)))
        elif verdict.sentence != "is dropped":
            self._recorder.ended(attempt.outcome(verdict))

    def stop(self, job_id: str) -> None:
        """End a job on a client's order, whether it runs or waits."""
        for slot in self._slots:
            if any(claim.job_id == job_id for claim in slot.claims):
                self.call_back(slot)
                if slot.running is not None and slot.running.job_id == job_id:
                    slot.condemn(STOP_JOB)
        waiting = [claim for claim in self.waiting if claim.job_id == job_id and claim.decided is None]
        self.waiting = [claim for claim in self.waiting if claim not in waiting]
        for claim in waiting:
            self._judge(Attempt(claim, time.time()), STOP_JOB)

    def kill_running(self) -> None:
        """End all jobs that run, on a client's order; stock RQ calls it killing the horse."""
        for slot in self._slots:
            if slot.running is not None:
                slot.condemn(KILL_HORSE)

    def _check_memory(self, slot: Slot, running: ExecutorProcess) -> None:
        limit_mb = self._rss_limit_mb(running.runtime)
        used_mb = running.rss_bytes() >> 20
        if used_mb > limit_mb:
            own = running.runtime.settings.max_rss_mb
            which = "max_rss_mb of cloudburst.toml" if own else "the slot's share of the node"
            reason = f"it used {used_mb:,} MiB of memory, more than {limit_mb:,} MiB ({which})"
            slot.condemn(Verdict("memory", reason))

    def _rss_limit_mb(self, runtime: Runtime) -> int:
        return runtime.settings.max_rss_mb or memory.share_mb(self._config.slots)

    def forget(self, job_ids: Iterable[str]) -> None:
        """Stop jobs that are not ours any more, at once and without a word to anybody."""
        gone = set(job_ids)
        if not gone:
            return
        for slot in self._slots:
            if any(claim.job_id in gone for claim in slot.claims):
                self.call_back(slot)
                if slot.claims and slot.claims[0].job_id in gone:
                    self._end(slot, DROP)
        self.waiting = [claim for claim in self.waiting if claim.job_id not in gone]

    def give_back_unstarted(self) -> None:
        """Return claims that no executor has begun."""
        for slot in self._slots:
            self.call_back(slot)
        self.give_back_waiting()

    def give_back_waiting(self, keep: int = 0) -> None:
        """Return what waits, but the first ``keep``."""
        for claim in self.waiting[keep:]:
            self.give_back(claim)
        del self.waiting[keep:]

    def give_back(self, claim: Claim) -> None:
        """Return a claim that no executor has begun."""
        self._recorder.lost(Loss(claim))

    def give_back_running(self) -> None:
        """Stop running jobs and return them, as if they had not been started."""
        for slot in self._slots:
            if slot.claims:
                self._end(slot, GO_BACK)
        self.give_back_waiting()

    def close(self) -> None:
        """End all executors."""
        for slot in self._slots:
            self._discard(slot)
        self._spares.close()
        self._leaving.wait()
        if self._guard is not None:
            self._guard.close()

    def call_back(self, slot: Slot) -> None:
        """Let what the slot's executor has not begun wait again."""
        self._wait(slot.call_back())

    def _wait(self, claims: Iterable[Claim]) -> None:
        self.waiting = sorted([*self.waiting, *claims], key=lambda claim: claim.order)

    def _discard(self, slot: Slot) -> None:
        if slot.executor is not None:
            self._unregister(slot.executor)
        slot.discard(self._leaving.close)

    def _unregister(self, executor: ExecutorProcess) -> None:
        with contextlib.suppress(KeyError):  # done before
            self._selector.unregister(executor)


class _Over(Exception):
    """The executor is to be ended. Without a verdict, nobody's job has to answer for it."""

    def __init__(self, verdict: Verdict | None) -> None:
        self.verdict = verdict


def _executor(slot: Slot) -> ExecutorProcess:
    if slot.executor is None:
        raise RuntimeError(f"slot {slot.number} has no executor")
    return slot.executor
