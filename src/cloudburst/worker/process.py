"""One executor process as the worker sees it: a socket, an output file, a process group."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from cloudburst import names
from cloudburst.points import line
from cloudburst.rqwire.leases import Claim
from cloudburst.worker import executor, memory
from cloudburst.worker.runtime import Runtime

OUTPUT_KEPT_BYTES = 1 << 20
"""A running job's output file is cut to its last part when it has grown beyond this."""


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
    ) -> None:
        """Start it in ``directory``; scratch directories that are kept go to ``kept_dir``. Raises OSError."""
        self.runtime = runtime
        self.jobs = 0
        self._buffer = bytearray()
        self._earlier_output = b""
        scratch = directory / "scratch"
        shutil.rmtree(directory, ignore_errors=True)
        scratch.mkdir(parents=True, mode=0o700)
        settings = {
            "isolation": runtime.settings.isolation,
            "kept_dir": str(kept_dir) if runtime.settings.keep_failed_scratch else "",
            "allow_pickle": allow_pickle,
            "points": points,
        }
        self.output = os.open(directory / "output", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self.control, theirs = socket.socketpair()
        argv = [runtime.python, executor.__file__, theirs.fileno(), runtime.payload_dir, scratch]
        argv += [line.__file__, json.dumps(settings)]
        try:
            self.process = subprocess.Popen(
                [str(part) for part in argv],
                env=dict(environ),
                cwd=runtime.payload_dir,
                stdin=subprocess.DEVNULL,
                stdout=self.output,
                stderr=self.output,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError:
            self._release()
            raise
        finally:
            theirs.close()
        self.control.setblocking(False)

    def fileno(self) -> int:
        return self.control.fileno()

    def send(self, claim: Claim) -> None:
        """Hand over a job. Raises OSError when the executor is gone."""
        header = {
            "id": claim.job_id,
            "ensemble": claim.ensemble,
            "index": claim.job_index,
            "attempt": claim.attempt,
            "created": claim.created_at,
        }
        self.jobs += 1
        self.control.setblocking(True)
        try:
            self.control.sendall(
                executor.pack(executor.JOB, json.dumps(header).encode() + b"\n" + claim.data)
            )
        finally:
            self.control.setblocking(False)

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
        return executor.split(self._buffer), alive

    def output_size(self) -> int:
        """Bytes of output of the running job that are in the file."""
        return os.fstat(self.output).st_size

    def output_tail(self, latest: bytes | None = None) -> bytes:
        """The end of the running job's output; ``latest`` is the end of the file, read by the executor."""
        if latest is None:
            start = max(self.output_size() - names.OUTPUT_LIMIT_BYTES, 0)
            latest = os.pread(self.output, names.OUTPUT_LIMIT_BYTES, start)
        return (self._earlier_output + latest)[-names.OUTPUT_LIMIT_BYTES :]

    def cut_output(self) -> None:
        """Keep the file small, whatever a job prints: remember its end and empty it."""
        if self.output_size() > OUTPUT_KEPT_BYTES:
            self._earlier_output = self.output_tail()
            os.ftruncate(self.output, 0)

    def job_ended(self) -> None:
        """Forget the output of the job that has just ended; the executor has emptied the file."""
        self._earlier_output = b""

    def rss_bytes(self) -> int:
        """Resident memory of the executor and its children now; 0 when it is gone."""
        return memory.used_bytes(self.process.pid)

    def dump_stack(self) -> None:
        """Have it write where it is into its output."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGUSR1)

    def close(self) -> int:
        """Kill the executor and all that it started, and clean up; its exit status (negative: signal)."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        status = self.process.wait()
        self._release()
        return status

    def _release(self) -> None:
        self.control.close()
        os.close(self.output)


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
