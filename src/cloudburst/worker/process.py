"""One executor process as the worker sees it: a socket, an output file, a process group."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloudburst.points import line
from cloudburst.rqwire.asked import NOTHING, Callback
from cloudburst.rqwire.leases import Claim
from cloudburst.worker import inside, memory
from cloudburst.worker.identities import Identity
from cloudburst.worker.inside import frames, output
from cloudburst.worker.runtime import Runtime

QUEUE_BYTES = 1 << 18
"""Room for jobs in an executor's queue."""

OUTPUT_KEPT_BYTES = 1 << 20
"""A running job's output file is emptied when it has grown beyond this: what is shown of it is kept."""


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
    ) -> None:
        """Start it in ``directory``; scratch directories that are kept go to ``kept_dir``. Raises OSError.

        ``identity`` is the user that it becomes, which is released when it is closed; None: ours.

        One that ``stands_in`` is told no payload yet: ``take_on`` does that.
        """
        self.runtime = runtime
        """What it runs; of one that stands in, what it was started for."""
        self.stands_in = stands_in
        self.proven = False
        """Whether a job has ended well in it."""
        self.jobs = 0
        """That were sent to it, and not called back."""
        self.ended = 0
        self._directory = directory
        self._buffer = bytearray()
        self._earlier_output = b""
        self._kept_dir = kept_dir
        self._common = {"allow_pickle": allow_pickle, "points": points}
        self._identity = identity
        self._keeps = False
        scratch = directory / "scratch"
        shutil.rmtree(directory, ignore_errors=True)
        scratch.mkdir(parents=True, mode=0o700)
        self.output = os.open(directory / "output", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        if identity is not None:
            identity.admit(directory)
            identity.give(scratch, 0o700)
            identity.give(self.output, 0o600)
            environ = {**environ, **identity.variables(scratch)}
        self.control, theirs = socket.socketpair()
        # Messages keep their bounds in this one, and we hold both ends: what the executor has not taken from
        # it, we can take back.
        self._queue, self._queue_end = socket.socketpair(socket.AF_UNIX, frames.QUEUE_KIND)
        self._queue.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, QUEUE_BYTES)
        self._queue.setblocking(False)
        lifeline, self._lifeline = os.pipe()
        fds = [theirs.fileno(), self._queue_end.fileno(), lifeline]
        argv = [runtime.python, inside.START, *fds, scratch]
        argv += [line.__file__, json.dumps(runtime.settings.preload)]
        try:
            self.process = subprocess.Popen(
                [str(part) for part in argv],
                env=dict(environ),
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                stdout=self.output,
                stderr=self.output,
                pass_fds=fds,
                start_new_session=True,
                **(identity.start_options if identity is not None else {}),
            )
        except OSError:
            self._release()
            raise
        finally:
            theirs.close()
            os.close(lifeline)
        self.control.setblocking(False)
        if not stands_in:
            with contextlib.suppress(OSError):  # it has died: whoever reads from it will find out
                self.take_on(runtime)

    def take_on(self, runtime: Runtime) -> None:
        """Tell it its payload, one of its ``basis``. Raises OSError when the executor is gone."""
        settings = {
            "isolation": runtime.settings.isolation,
            "kept_dir": str(self._kept_dir) if runtime.settings.keep_failed_scratch else "",
            **self._common,
        }
        if self._identity is not None and settings["kept_dir"]:
            self._keeps = True
            # It cannot see there what others have kept.
            self._kept_dir.mkdir(exist_ok=True)
            self._kept_dir.chmod(0o1733)
        told = {"payload": str(runtime.payload_dir), "settings": settings, "environ": runtime.environ}
        self.control.sendall(frames.pack(frames.TAKE_ON, json.dumps(told).encode()))
        self.runtime = runtime
        self.stands_in = False

    def fileno(self) -> int:
        return self.control.fileno()

    def send(self, claim: Claim) -> bool:
        """Put a job into its queue; False when there is no room. Raises OSError when the executor is gone."""
        header: dict[str, Any] = {
            "id": claim.job_id,
            "ensemble": claim.ensemble,
            "index": claim.job_index,
            "attempt": claim.attempt,
            "created": claim.created_at,
        }
        if claim.asked is not NOTHING:
            header["asked"] = _asked(claim)
            header["stopped"] = claim.decided is not None
        number = frames.ORDER.pack(claim.order)
        message = json.dumps(header).encode() + b"\n" + claim.data
        if len(number) + len(message) > frames.MESSAGE_LIMIT:
            message = json.dumps({"file": str(self._written(message))}).encode()
        try:
            self._queue.send(number + message)
        except BlockingIOError:
            return False
        self.jobs += 1
        return True

    def _written(self, message: bytes) -> Path:
        """A new file that holds it, which the executor removes; a name that it cannot have taken before."""
        descriptor, name = tempfile.mkstemp(dir=self._directory, prefix="large-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(message)
            if self._identity is not None:
                self._identity.give(file.fileno(), 0o600)
        return Path(name)

    def call_back(self) -> set[int]:
        """Empty its queue: the orders of the claims that it has not taken and will not take.

        It may take one meanwhile, so these need not be the latest.
        """
        orders: set[int] = set()
        with contextlib.suppress(BlockingIOError):
            while start := self._queue_end.recv(frames.ORDER.size, socket.MSG_DONTWAIT):
                orders.update(frames.ORDER.unpack(start))  # the rest of the message is dropped
        self.jobs -= len(orders)
        return orders

    def frames(self) -> tuple[list[tuple[int, bytes]], bool]:
        """What the executor has sent since the last call, and whether it is still there."""
        alive = True
        try:
            while chunk := self.control.recv(1 << 18):
                self._buffer += chunk
            alive = False
        except BlockingIOError:
            pass
        except ConnectionError:
            alive = False
        return frames.split(self._buffer), alive

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

    def job_ended(self) -> None:
        """Forget the output of the job that has just ended; the executor has emptied the file."""
        self.ended += 1
        self._earlier_output = b""

    def rss_bytes(self) -> int:
        """Resident memory of the executor and its children now; 0 when it is gone."""
        return memory.used_bytes(self.process.pid)

    def alive(self) -> bool:
        """Whether its process is still there."""
        return self.process.poll() is None

    def dump_stack(self) -> None:
        """Have it write where it is into its output."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGUSR1)

    def kill(self) -> int:
        """Kill the executor and all that it started; its exit status (negative: signal).

        What it had sent before can still be read, and what it had not taken be called back.
        """
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        if self._identity is not None:
            self._identity.end_all()
        return self.process.wait()

    def close(self) -> None:
        """Kill it, and clean up."""
        self.kill()
        self._release()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _release(self) -> None:
        if self._identity is not None:
            if self._keeps:
                self._identity.take_back(self._kept_dir)
            self._identity.release()
        self.control.close()
        self._queue.close()
        self._queue_end.close()
        os.close(self._lifeline)
        os.close(self.output)


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


def ending(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"its executor exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hints = {"SIGKILL": " (out of memory?)", "SIGSEGV": " (a crash in native code)"}
    return f"its executor was killed by {name}{hints.get(name, '')}"
