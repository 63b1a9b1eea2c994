"""All slots of the worker: starts jobs in them, listens to their executors, stops what must be stopped.

What has ended goes to the recorder; nothing in here talks to Redis.
"""

from __future__ import annotations

import hashlib
import json
import logging
import selectors
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from cloudburst.config import WorkerConfig
from cloudburst.rqwire.leases import Claim, Loss, Outcome
from cloudburst.worker import executor, memory, process
from cloudburst.worker.process import ExecutorProcess
from cloudburst.worker.provision import Provisioner, Unusable
from cloudburst.worker.recorder import Recorder
from cloudburst.worker.runtime import Runtime, executor_environ
from cloudburst.worker.slot import Slot, Verdict

log = logging.getLogger(__name__)

TICK_S = 0.5
"""How often memory and output of running jobs are looked at."""

Hopeless = Callable[[Claim, str], None]
"""Called with a claim and the reason why no job of its ensemble can run."""


class Slots:
    """The slots, and the executors in them."""

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
        directory = config.state_dir / "slots"
        shutil.rmtree(directory, ignore_errors=True)
        self._slots = [Slot(n, directory / str(n), self._start_executor) for n in range(config.slots)]

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots)

    def free(self) -> list[Slot]:
        """Slots that could take a claim."""
        return [slot for slot in self._slots if slot.claim is None]

    def claims(self) -> list[Claim]:
        """Claims that are in slots, running or not."""
        return [slot.claim for slot in self._slots if slot.claim is not None]

    def next_event(self) -> float:
        """When ``enforce`` wants to be called again (monotonic seconds)."""
        return min([self._next_tick, *(slot.next_event() for slot in self._slots)])

    # -- starting --------------------------------------------------------------------------------------

    def run_ready(self, provisioner: Provisioner) -> None:
        """Start every claim whose payload is ready; fail those whose payload cannot be."""
        for slot in self._slots:
            if slot.claim is None or slot.running:
                continue
            ready = provisioner.get(slot.claim.payload, slot.claim.ensemble)
            if isinstance(ready, Unusable):
                self._fail(slot.release(), ready)
            elif ready is not None:
                self._run(slot, ready)

    def _run(self, slot: Slot, runtime: Runtime) -> None:
        if slot.executor is not None and slot.executor.runtime != runtime:
            self._discard(slot)
        try:
            started = slot.run(runtime)
        except OSError as error:  # no memory, no processes, no disk: the node's fault, another may do better
            log.error("slot %d: cannot start an executor: %s", slot.number, error)
            reason = f"its executor could not be started ({error})"
            self._recorder.lost(Loss(slot.release(), reason, _fingerprint("start"), b"", time.time()))
            return
        if started:
            self._selector.register(_executor(slot), selectors.EVENT_READ, slot)

    def _fail(self, claim: Claim, unusable: Unusable) -> None:
        text = f"{unusable.error}\n{unusable.detail}".strip()
        outcome = Outcome(
            claim, "failed", time.time(), 0.0, error=unusable.error, fingerprint="ensemble", traceback=text
        )
        self._recorder.ended(outcome, b"")
        self._hopeless(claim, text)

    def _start_executor(self, runtime: Runtime, directory: Path) -> ExecutorProcess:
        log.debug("starting an executor in %s", directory)
        return ExecutorProcess(
            runtime,
            directory,
            executor_environ(runtime, self._config, self._environ),
            kept_dir=self._config.state_dir / "kept",
            points=bool(self._config.influx_url),
            allow_pickle=self._config.allow_pickle,
        )

    # -- listening -------------------------------------------------------------------------------------

    def listen(self, slot: Slot) -> None:
        """Take what the slot's executor has sent, and notice when it is gone."""
        if slot.executor is None:
            return
        frames, alive = slot.executor.frames()
        for kind, body in frames:
            if kind == executor.POINTS:
                slot.points.append(body)
            elif kind == executor.DONE and slot.claim is not None:
                self._ended(slot, body)
        if not alive:
            self._executor_ended(slot)

    def _ended(self, slot: Slot, body: bytes) -> None:
        head, _, rest = body.partition(b"\n")
        header = json.loads(head)
        failed = header["state"] == "failed"
        running = _executor(slot)
        claim = slot.release()
        outcome = Outcome(
            claim,
            header["state"],
            header["started"],
            header["duration"],
            value=b"" if failed else rest,
            error=header.get("error", ""),
            fingerprint=header.get("fingerprint", ""),
            traceback=header.get("traceback", ""),
            output=running.output_tail(rest) if failed else b"",
        )
        running.job_ended()
        self._recorder.ended(outcome, b"".join(slot.points))
        if slot.renewal_due(header["rss_mb"], self._rss_limit_mb(running.runtime)):
            self._discard(slot)
        if header.get("broken"):
            self._hopeless(claim, f"{outcome.error}\n{outcome.traceback}".strip())

    def _executor_ended(self, slot: Slot) -> None:
        """The executor's process has ended; if a job was in it, so has its attempt."""
        tail = _executor(slot).output_tail()
        status = self._discard(slot)
        if slot.claim is None or not slot.running:
            return
        started, verdict = slot.started_at, slot.verdict
        claim = slot.release()
        if verdict is not None:
            self._recorder.ended(_stopped(claim, verdict, started, tail), b"")
        else:
            reason = process.ending(status)
            self._recorder.lost(Loss(claim, reason, _fingerprint(reason), tail, started))

    # -- stopping --------------------------------------------------------------------------------------

    def enforce(self, now: float) -> None:
        """Hold running jobs to their limits of time, memory and output."""
        for slot in self._slots:
            if slot.overdue(now) and slot.claim is not None:
                limit = slot.claim.timeout_s
                slot.condemn(Verdict("timeout", f"it ran longer than its timeout of {limit} s"))
            if slot.condemned(now):
                self.listen(slot)  # it may have ended in the meantime
                if slot.claim is not None and slot.verdict is not None:
                    self._executor_ended(slot)
        if now >= self._next_tick:
            self._next_tick = now + TICK_S
            for slot in self._slots:
                if slot.running and slot.executor is not None:
                    slot.executor.cut_output()
                    self._check_memory(slot, slot.executor)

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
        for slot in self._slots:
            if slot.claim is not None and slot.claim.job_id in gone:
                log.info("%s: its lease is gone (cancelled, or run elsewhere): stopped", slot.claim.job_id)
                if slot.running:
                    self._discard(slot)
                slot.release()

    def give_back_unstarted(self) -> None:
        """Return claims that no executor has yet."""
        for slot in self._slots:
            if slot.claim is not None and not slot.running:
                self._recorder.lost(Loss(slot.release()))

    def give_back_running(self) -> None:
        """Stop running jobs and return them, as if they had not been started."""
        for slot in self._slots:
            if slot.claim is not None:
                log.info("%s: returned to the queue, the grace period is over", slot.claim.job_id)
                self._discard(slot)
                self._recorder.lost(Loss(slot.release()))

    def close(self) -> None:
        """Kill all executors."""
        for slot in self._slots:
            self._discard(slot)

    def _discard(self, slot: Slot) -> int:
        if slot.executor is not None:
            self._selector.unregister(slot.executor)
        return slot.discard()


def _executor(slot: Slot) -> ExecutorProcess:
    if slot.executor is None:
        raise RuntimeError(f"slot {slot.number} has no executor")
    return slot.executor


def _stopped(claim: Claim, verdict: Verdict, started: float, tail: bytes) -> Outcome:
    error = f"stopped: {verdict.reason}"
    trace = f"{error}\n\n{tail.decode('utf-8', 'replace')[-4000:]}"
    duration = time.time() - started
    fingerprint = _fingerprint(verdict.kind)
    return Outcome(
        claim, "failed", started, duration, error=error, fingerprint=fingerprint, traceback=trace, output=tail
    )


def _fingerprint(kind: str) -> str:
    return hashlib.sha256(kind.encode()).hexdigest()[:8]
