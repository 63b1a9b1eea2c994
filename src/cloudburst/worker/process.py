"""One executor process as the worker sees it: a socket, an output file, a process group."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cloudburst.rqwire.asked import NOTHING, Callback
from cloudburst.rqwire.leases import Claim
from cloudburst.worker import ending, inside, memory
from cloudburst.worker.ending import Guard
from cloudburst.worker.identities import Identity
from cloudburst.worker.inside import frames, output
from cloudburst.worker.removing import remove
from cloudburst.worker.replies import Replies, Reply
from cloudburst.worker.runtime import Runtime
from cloudburst.worker.written import Written

log = logging.getLogger(__name__)

QUEUE_BYTES = 1 << 18
"""Room for jobs in an executor's queue."""

OUTPUT_KEPT_BYTES = 1 << 20
"""A running job's output file is emptied when it has grown beyond this: what is shown of it is kept."""

READ_BYTES = 1 << 18
READS = 4
"""At most this is taken from one executor at a time: one that never stops keeps no other waiting."""

GONE_S = 0.02
"""A process that ends closes its sockets first, and has ended this much later unless the machine is busy."""

KILL_S = 5.0
"""How long the kernel gets to take a killed process away; one that waits for a dead disk may never go."""

REMOVAL_S = 0.2
"""How long it is waited for that a directory is gone; a large one goes while the worker works on."""


class ExecutorProcess:
    """A started executor. It dies with this process, however this process ends (Linux)."""

    def __init__(
        self,
        runtime: Runtime,
        directory: Path,
        environ: Mapping[str, str],
        *,
        kept_dir: Path,
        points: bool,
        allow_pickle: bool,
        stands_in: bool = False,
        identity: Identity | None = None,
        guard: Guard | None = None,
    ) -> None:
        """Start it in ``directory``; scratch directories that are kept go to ``kept_dir``. Raises OSError.

        ``identity`` is the user that it becomes, which is released when it is closed; None: ours.
        ``guard`` ends it with all that it starts when this process is killed.

        One that ``stands_in`` is told no payload yet: ``take_on`` does that.
        """
        self.runtime = runtime
        """What it runs; of one that stands in, what it was started for."""
        self.stands_in = stands_in
        self.proven = False
        """Whether a job has ended well in it."""
        self.begun: set[str] = set()
        """Ensembles of which a job has begun in it: jobs of theirs can run."""
        self.jobs = 0
        """That were sent to it, and not called back."""
        self.ended = 0
        self.last_ended = -1
        """Number of the job that has ended last."""
        self._directory = directory
        self.hung_up = False
        """Whether its end of the socket is closed."""
        self._replies = Replies()
        # Jobs cannot guess the number of their job, nor of another, and so cannot say that it has ended.
        self._mask = secrets.randbits(63)
        self._large: dict[int, Path] = {}
        """Files of messages that were too large, by the numbers of their jobs."""
        self._earlier_output = b""
        self._kept_dir = kept_dir
        self._common = {"allow_pickle": allow_pickle, "points": points}
        self._identity = identity
        self._held = contextlib.ExitStack()
        with self._held:  # whatever fails in here, nothing stays behind
            if identity is not None:
                self._held.callback(identity.release)
            self._start(environ, guard)
            if not stands_in:
                with contextlib.suppress(ConnectionError):  # it has died: whoever reads from it will find out
                    self.take_on(runtime)
            self._held = self._held.pop_all()

    def _start(self, environ: Mapping[str, str], guard: Guard | None) -> None:
        """Start the process. Raises OSError."""
        held, identity = self._held, self._identity
        scratch = self._directory / "scratch"
        remove(self._directory, REMOVAL_S)
        scratch.mkdir(parents=True, mode=0o700)
        held.callback(remove, self._directory, REMOVAL_S)
        self.output = os.open(self._directory / "output", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        held.callback(os.close, self.output)
        if identity is not None:
            identity.admit(self._directory)
            identity.give(scratch, 0o700)
            identity.give(self.output, 0o600)
            environ = {**environ, **identity.variables(scratch)}
        self.control, theirs = map(held.enter_context, socket.socketpair())
        # Messages keep their bounds in this one, and we hold both ends: what the executor has not taken from
        # it, we can take back.
        pair = socket.socketpair(socket.AF_UNIX, frames.QUEUE_KIND)
        self._queue, self._queue_end = map(held.enter_context, pair)
        self._queue.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, QUEUE_BYTES)
        self._queue.setblocking(False)
        with contextlib.ExitStack() as passed:
            passed.enter_context(theirs)
            if guard is None:
                lifeline, ours = os.pipe()
                held.callback(os.close, ours)
            else:
                lifeline = guard.lifeline()
            passed.callback(os.close, lifeline)
            fds = [theirs.fileno(), self._queue_end.fileno(), lifeline]
            argv = [self.runtime.python, inside.START, *fds, scratch]
            argv += [json.dumps(self.runtime.settings.preload)]
            self.process = ending.start(
                [str(part) for part in argv],
                env={**environ, **(guard.variables if guard is not None else {})},
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                stdout=self.output,
                stderr=self.output,
                pass_fds=fds,
                **(identity.start_options if identity is not None else {}),
            )
        held.callback(self.kill)
        if guard is not None:
            guard.watch(self.process)
        self.control.setblocking(False)

    def take_on(self, runtime: Runtime) -> None:
        """Tell it its payload, one of its ``basis``. Raises ConnectionError when it is gone, or OSError."""
        settings = {
            "isolation": runtime.settings.isolation,
            "seed": runtime.settings.seed == "on",
            "kept_dir": str(self._kept_dir) if runtime.settings.keep_failed_scratch else "",
            **self._common,
        }
        if self._identity is not None and settings["kept_dir"]:
            # It cannot see there what others have kept.
            self._kept_dir.mkdir(exist_ok=True)
            self._kept_dir.chmod(0o1733)
            self._held.callback(self._identity.take_back, self._kept_dir)
        told = {"payload": str(runtime.payload_dir), "settings": settings, "environ": runtime.environ}
        self.control.sendall(frames.pack(frames.TAKE_ON, json.dumps(told).encode()))
        self.runtime = runtime
        self.stands_in = False

    def fileno(self) -> int:
        return self.control.fileno()

    def number(self, claim: Claim) -> int:
        """By which the executor names the claim's job."""
        return claim.order ^ self._mask

    def send(self, claim: Claim) -> bool:
        """Put a job into its queue; False when there is no room. Raises OSError, such as for a full disk."""
        header: dict[str, Any] = {
            "id": claim.job_id,
            "ensemble": claim.ensemble,
            "index": claim.job_index,
            "attempt": claim.attempt,
            "created": claim.created_at,
            "seed": claim.seed,
        }
        if claim.asked is not NOTHING:
            header["asked"] = _asked(claim)
            header["stopped"] = claim.decided is not None
        number = self.number(claim)
        start = frames.ORDER.pack(number)
        message = json.dumps(header).encode() + b"\n" + claim.data
        if len(start) + len(message) > frames.MESSAGE_LIMIT:
            message = json.dumps({"file": str(self._written(number, message))}).encode()
        try:
            self._queue.send(start + message)
        except BlockingIOError:
            self._taken(number)
            return False
        self.jobs += 1
        return True

    def _written(self, number: int, message: bytes) -> Path:
        """A new file that holds it, which the executor removes; a name that it cannot have taken before."""
        descriptor, name = tempfile.mkstemp(dir=self._directory, prefix="large-")
        self._large[number] = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(message)
            if self._identity is not None:
                self._identity.give(file.fileno(), 0o600)
        return Path(name)

    def _taken(self, number: int) -> None:
        """A message is not in the queue any more: its file has served."""
        if large := self._large.pop(number, None):
            with contextlib.suppress(OSError):
                large.unlink(missing_ok=True)

    def call_back(self, claims: Iterable[Claim]) -> list[Claim]:
        """Empty its queue: those of ``claims`` that it has not taken and will not take.

        It may take one meanwhile, so these need not be the latest.
        """
        numbers: set[int] = set()
        with contextlib.suppress(BlockingIOError):
            while start := self._queue_end.recv(frames.ORDER.size, socket.MSG_DONTWAIT):
                numbers.update(frames.ORDER.unpack(start))  # the rest of the message is dropped
        back = [claim for claim in claims if self.number(claim) in numbers]
        for claim in back:
            self._taken(self.number(claim))
        self.jobs -= len(back)
        return back

    def listen(self) -> Iterator[Reply]:
        """What it has said since the last call, or some of it. Raises Disturbed, after what came before."""
        for _ in range(READS):
            try:
                chunk = self.control.recv(READ_BYTES)
            except BlockingIOError:
                return
            except ConnectionError:
                chunk = b""
            if not chunk:
                self.hung_up = True
                return
            yield from self._replies.read(chunk)

    def tick(self) -> None:
        """To be called now and then while a job runs. Raises Disturbed if it has stopped in mid-sentence."""
        self._replies.tick()

    def silent(self) -> bool:
        """Whether it is there and has said nothing that nobody has listened to."""
        try:
            self.control.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return self.process.poll() is None
        except ConnectionError:
            pass
        return False

    def output_size(self) -> int:
        """Bytes of output of the running job that are in the file."""
        return os.fstat(self.output).st_size

    def output_tail(self, latest: bytes | None = None) -> bytes:
        """Both ends of the running job's output; ``latest`` are those of the file, read by the executor."""
        return output.shorten(
            self._earlier_output + (output.read_shortened(self.output) if latest is None else latest)
        )

    def cut_output(self) -> None:
        """Keep the file small, whatever a job prints: remember both of its ends and empty it."""
        if self.output_size() > OUTPUT_KEPT_BYTES:
            self._earlier_output = self.output_tail()
            os.ftruncate(self.output, 0)

    def job_ended(self, claim: Claim) -> None:
        """Forget the output of the job that has just ended; the executor has emptied the file."""
        self.ended += 1
        self.last_ended = self.number(claim)
        self._earlier_output = b""
        self._taken(self.number(claim))

    def written(self) -> Written:
        """What holds the points of a job that it runs."""
        return Written(self._directory)

    def rss_bytes(self) -> int:
        """Resident memory of the executor and its children now; 0 when it is gone."""
        return memory.used_bytes(self.process.pid)

    def alive(self) -> bool:
        """Whether its process is still there."""
        return self.process.poll() is None

    def gone(self) -> bool:
        """Whether its process has ended, or does so in a moment."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GONE_S)
        return not self.alive()

    def dump_stack(self) -> None:
        """Have it write where it is into its output."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGUSR1)

    def kill(self) -> int:
        """Kill the executor and all that it started; its exit status (negative: signal). May be repeated.

        What it had sent before can still be read.
        """
        ending.end(self.process)
        if self._identity is not None:
            self._identity.end_all()
        try:
            return self.process.wait(KILL_S)
        except subprocess.TimeoutExpired:
            log.error("process %d survives SIGKILL", self.process.pid)
            return -signal.SIGKILL
        finally:
            ending.end_orphans()

    def leave(self) -> bool:
        """Ask it to end by itself, if it has run jobs and runs none; whether it may. Then ``close`` it."""
        if not self.ended or self.jobs != self.ended or self.hung_up or not self.alive():
            return False
        with contextlib.suppress(OSError):
            self._queue.shutdown(socket.SHUT_WR)
        return True

    def close(self) -> None:
        """Kill it, and clean up."""
        try:
            self._held.close()
        except OSError as error:
            log.warning("an executor has left something behind: %s", error)


def _asked(claim: Claim) -> dict[str, Any]:
    """What the executor must know of a job that asks for more than to be called."""
    asked = claim.asked

    def called(callback: Callback | None) -> tuple[str, int] | None:
        return (callback.name, callback.timeout_s) if callback else None

    return {
        "description": asked.description,
        "origin": asked.origin,
        "created_at": asked.created_at,
        "enqueued_at": asked.enqueued_at,
        "retries_left": asked.retries_left,
        "meta": base64.b64encode(asked.meta).decode(),
        "timeout": claim.timeout_s,
        "worker": claim.owner.rpartition(".")[0],
        "success": called(asked.on_success),
        "failure": called(asked.on_failure),
        "stopped": called(asked.on_stopped),
    }
