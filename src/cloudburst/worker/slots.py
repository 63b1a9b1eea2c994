"""All slots of the worker: starts executors, listens to them, stops what must be stopped.

What has ended goes to the recorder; nothing in here talks to Redis.
"""

from __future__ import annotations

import hashlib
import json
import logging
import selectors
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import count
from typing import Literal

from cloudburst import names
from cloudburst.config import WorkerConfig
from cloudburst.rqwire.leases import Claim, Loss, Outcome
from cloudburst.worker import memory, process
from cloudburst.worker.ahead import Ahead
from cloudburst.worker.identities import Identities
from cloudburst.worker.inside import frames
from cloudburst.worker.process import ExecutorProcess
from cloudburst.worker.recorder import Recorder
from cloudburst.worker.runtime import Runtime, Unusable, executor_environ
from cloudburst.worker.slot import Slot, Verdict
from cloudburst.worker.spares import Spares
from cloudburst.worker.standins import StandIns

log = logging.getLogger(__name__)

TICK_S = 0.5
"""How often memory and output of running jobs are looked at."""

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
        shutil.rmtree(self._directory, ignore_errors=True)
        self._numbers = count()
        self._slots = [Slot(number) for number in range(config.slots)]
        self._spares = Spares(config.slots)
        self._stand_ins = StandIns(self._spares)
        self._identities = Identities(config.executor_uids)

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
        if not slot.has(runtime):
            self._put_away(slot)
            if not self._equip(slot, claim, runtime):
                return True
        return slot.hand_over(claim)

    def _put_away(self, slot: Slot) -> None:
        """Empty a slot for an executor of another payload; the one that is there may be wanted again."""
        executor = slot.part()
        if executor is not None:
            self._selector.unregister(executor)
            self._spares.keep(executor)
        self._discard(slot)

    def _equip(self, slot: Slot, claim: Claim, runtime: Runtime) -> bool:
        """Give a slot an executor of that payload; False when there is none to be had."""
        try:
            slot.executor = self._spares.take(runtime) or self._start_executor(runtime)
        except OSError as error:  # no memory, no processes, no disk: the node's fault, another may do better
            log.error("slot %d: cannot start an executor: %s", slot.number, error)
            reason = f"its executor could not be started ({error})"
            self._recorder.lost(Loss(claim, reason, _fingerprint("start"), b"", time.time()))
            return False
        self._selector.register(_executor(slot), selectors.EVENT_READ, slot)
        return True

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
        self._recorder.ended(outcome, b"")
        self._hopeless(claim, text)

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
        """Take what the slot's executor has sent, and notice when it is gone."""
        if slot.executor is not None and not self._read(slot):
            self._executor_ended(slot)

    def _read(self, slot: Slot) -> bool:
        """Take what the slot's executor has sent; whether it is still there."""
        received, alive = _executor(slot).frames()
        for kind, body in received:
            if kind in (frames.POINTS, frames.SUMMARY):
                slot.points.append(body)
            elif not self._ended(slot, body):
                alive = False
                break
        if slot.retiring and not slot.claims and alive:
            self._discard(slot)
        return alive

    def _ended(self, slot: Slot, body: bytes) -> bool:
        """A job has ended; False when it is not the one whose turn it was: the executor was disturbed."""
        head, _, rest = body.partition(b"\n")
        try:
            header = json.loads(head)
            order = header["order"]
        except (ValueError, LookupError, TypeError):
            order = None
        if not slot.claims or slot.claims[0].order != order:
            log.error(
                "slot %d: an executor that says something else than was expected: %r", slot.number, head
            )
            slot.verdict = Verdict(
                "protocol", "its executor was disturbed: did the job write into its sockets?"
            )
            return False
        failed = header["state"] == "failed"
        broken = bool(header.get("broken"))
        running = _executor(slot)
        points = b"".join(slot.points)
        claim = slot.release()
        self.ahead.observe(header["duration"])
        outcome = Outcome(
            claim,
            header["state"],
            header["started"],
            header["duration"],
            value=b"" if failed else rest,
            error=header.get("error", ""),
            fingerprint=names.FINGERPRINT_ENSEMBLE if broken else header.get("fingerprint", ""),
            traceback=header.get("traceback", ""),
            output=running.output_tail(rest) if failed else b"",
            provenance=running.runtime.provenance_text,
        )
        running.job_ended()
        if not failed and not running.proven:
            running.proven = True
            self._stand_ins.want(running.runtime)
        self._recorder.ended(outcome, points)
        if not slot.retiring and slot.renewal_due(header["rss_mb"], self._rss_limit_mb(running.runtime)):
            slot.retiring = True
            self.call_back(slot)
        if broken:
            self._hopeless(claim, f"{outcome.error}\n{outcome.traceback}".strip())
        return True

    def _executor_ended(self, slot: Slot) -> None:
        """The executor's process has ended by itself; if a job was in it, so has its attempt."""
        tail, ran_on = _executor(slot).output_tail(), _executor(slot).runtime.provenance_text
        status = self._kill(slot)
        if slot.claims:
            verdict, started = slot.verdict, slot.started_at
            claim = slot.release()
            if verdict is not None:
                self._end(_stopped(claim, verdict, started, tail, ran_on))
            else:
                reason = process.ending(status)
                self._recorder.lost(Loss(claim, reason, _fingerprint(reason), tail, started, ran_on))
        self._discard(slot)

    # -- stopping ----------------------------------------------------------------------------------------

    def enforce(self, now: float) -> None:
        """Hold running jobs to their limits of time, memory and output."""
        for slot in self._slots:
            if slot.overdue(now):
                limit = slot.claims[0].timeout_s
                slot.condemn(Verdict("timeout", f"it ran longer than its timeout of {limit} s"))
            if slot.condemned(now):
                self._stop_condemned(slot)
        if now >= self._next_tick:
            self._next_tick = now + TICK_S
            for slot in self._slots:
                if slot.claims and slot.executor is not None:
                    slot.executor.cut_output()
                    self._check_memory(slot, slot.executor)
            self._spares.enforce(
                {slot.executor.runtime.basis for slot in self._slots if slot.claims and slot.executor}
            )
            self._start_stand_in()

    def _stop_condemned(self, slot: Slot) -> None:
        """Kill the executor, unless the job that was condemned has ended in the meantime."""
        self.listen(slot)
        if slot.verdict is None or slot.executor is None:
            return
        verdict, started, tail = slot.verdict, slot.started_at, slot.executor.output_tail()
        ran_on = slot.executor.runtime.provenance_text
        self._kill(slot)
        if slot.verdict is not None:
            self._end(_stopped(slot.release(), verdict, started, tail, ran_on))
        elif slot.claims:  # it had ended after all, and the next one had begun
            self._recorder.lost(Loss(slot.release()))
        self._discard(slot)

    def _end(self, outcome: Outcome) -> None:
        """A job was stopped. If it was on a client's order, that may be called back."""
        claim = outcome.claim
        if outcome.state == "stopped" and claim.asked.on_stopped is not None and claim.decided is None:
            # Its executor is dead: the callback runs in the next one.
            self.waiting.insert(0, claim._replace(decided=outcome))
        else:
            self._recorder.ended(outcome, b"")

    def stop(self, job_id: str) -> None:
        """End a job on a client's order, whether it runs or waits."""
        verdict = Verdict("stop-job", "a client has ordered it (stop-job)")
        for slot in self._slots:
            if any(claim.job_id == job_id for claim in slot.claims):
                self.call_back(slot)
                if slot.running is not None and slot.running.job_id == job_id:
                    slot.condemn(verdict)
        waiting = [claim for claim in self.waiting if claim.job_id == job_id and claim.decided is None]
        self.waiting = [claim for claim in self.waiting if claim not in waiting]
        for claim in waiting:
            self._end(_stopped(claim, verdict, time.time(), b"", ""))

    def kill_running(self) -> None:
        """End all jobs that run, on a client's order; stock RQ calls it killing the horse."""
        for slot in self._slots:
            if slot.running is not None:
                slot.condemn(Verdict("kill-horse", "a client has ordered it (kill-horse)"))

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
                    log.info("%s: its lease is gone (cancelled, or run elsewhere)", slot.claims[0].job_id)
                    self._kill(slot)
                    if slot.claims:
                        slot.release()
                    self._discard(slot)
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
                log.info("%s: returned to the queue, the grace period is over", slot.claims[0].job_id)
                self._kill(slot)
                if slot.claims:
                    self._recorder.lost(Loss(slot.release()))
                self._discard(slot)
        self.give_back_waiting()

    def close(self) -> None:
        """Kill all executors."""
        for slot in self._slots:
            self._discard(slot)
        self._spares.close()

    def call_back(self, slot: Slot) -> None:
        """Let what the slot's executor has not begun wait again."""
        self.waiting = sorted([*self.waiting, *slot.call_back()], key=lambda claim: claim.order)

    def _kill(self, slot: Slot) -> int:
        """Kill the executor: what it has said still counts, what it has not begun waits; the exit status."""
        status = _executor(slot).kill()
        self._read(slot)
        self.call_back(slot)
        return status

    def _discard(self, slot: Slot) -> None:
        if slot.executor is not None:
            self._selector.unregister(slot.executor)
        slot.discard()


def _executor(slot: Slot) -> ExecutorProcess:
    if slot.executor is None:
        raise RuntimeError(f"slot {slot.number} has no executor")
    return slot.executor


def _stopped(claim: Claim, verdict: Verdict, started: float, tail: bytes, ran_on: str) -> Outcome:
    error = f"stopped: {verdict.reason}"
    state: Literal["stopped", "failed"] = "stopped" if verdict.kind == "stop-job" else "failed"
    trace = f"{error}\n\n{tail.decode('utf-8', 'replace')[-4000:]}"
    duration = time.time() - started
    return Outcome(
        claim,
        state,
        started,
        duration,
        error=error,
        fingerprint=_fingerprint(verdict.kind),
        traceback=trace,
        output=tail,
        provenance=ran_on,
    )


def _fingerprint(kind: str) -> str:
    return hashlib.sha256(kind.encode()).hexdigest()[:8]
