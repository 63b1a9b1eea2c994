"""The executor: runs jobs of one payload, one after another, in the payload's own interpreter.

It imports the modules that it is told to, and is told its payload only then: an executor that has none yet
stands by for whichever payload of its environment is next.

It is started by the worker as ``python __main__.py FD QUEUE_FD LIFELINE_FD SCRATCH_DIR LINE_PY PRELOAD``.
QUEUE_FD is the socket through which jobs come, FD the one for frames (see ``frames``). LIFELINE_FD is a pipe
that nothing is written into; it breaks when the worker dies. LINE_PY is the file that is
``cloudburst.results`` in a job. PRELOAD is a JSON list of modules.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import logging
import os
import signal
import socket
import sys
import time
import types
from typing import Any, Callable, Dict

from .callbacks import JobView, read_meta, time_limit
from .copies import make_writable
from .failures import Failure
from .forks import Forks
from .frames import DONE, MESSAGE_LIMIT, ORDER, POINTS, SUMMARY, pack, split
from .leftovers import Leftovers
from .lifelines import all_die_with, die_with_parent, stand_back
from .memory import Memory
from .output import Output, flush_streams
from .payload import Broken, Payload, find_first, preload
from .privileges import obey_modes
from .scratch import Scratch
from .stub import load_results
from .values import decode, encode

FLUSH_BYTES = 1 << 16


class Executor:
    """Runs jobs as they come from the queue, and says over the other socket how they ended."""

    payload: Payload
    settings: Dict[str, Any]

    def __init__(self, control: socket.socket, queue: socket.socket, *, scratch: str, points: Any) -> None:
        self.control = control
        self.queue = queue
        self.scratch = Scratch(scratch)
        self.points = points
        self.output = Output(1)
        self.memory = Memory()
        self.forks = Forks()
        self.leftovers = Leftovers()
        self._unsent = bytearray()
        self._importing = False
        self._forking = False
        os.register_at_fork(after_in_child=self._let_go)

    def _let_go(self) -> None:
        """In a process that user code forks (as multiprocessing does): it is not the executor.

        If it kept our end of the sockets, the worker would not see the executor end before it did.
        """
        if not self._forking:
            self.control.close()
            self.queue.close()

    def stand_by(self, modules: list[str]) -> bool:
        """Import modules ahead, then wait for a payload and take it on; False when there comes none."""
        self.scratch.enter()
        ahead = preload(modules)
        self.scratch.clean()
        buffer = bytearray()
        while True:
            chunk = self.control.recv(1 << 16)
            buffer += chunk
            for _, body in split(buffer):
                told = json.loads(body)
                os.chdir(told["payload"])  # an executor whose payload is gone should fail here
                os.environ.update(told["environ"])
                self.payload, self.settings = Payload(told["payload"]), told["settings"]
                find_first(told["payload"], ahead)
                make_writable(self.payload)
                return True
            if not chunk:
                return False

    def serve(self) -> None:
        """Until the worker closes the queue."""
        message = bytearray(MESSAGE_LIMIT)
        while True:
            size = self.queue.recv_into(message)
            if not size:
                return
            head, _, data = bytes(message[ORDER.size : size]).partition(b"\n")
            job = json.loads(head)
            if "file" in job:
                with open(job["file"], "rb") as file:
                    head, _, data = file.read().partition(b"\n")
                os.unlink(job["file"])
                job = json.loads(head)
            (job["order"],) = ORDER.unpack_from(message)
            self.run(job, data)

    def run(self, job: dict[str, Any], data: bytes) -> None:
        """One job, in a scratch directory of its own; in a process of its own too with isolation = "fork"."""
        self.scratch.enter()
        self._set_environ(job)
        if self.settings["isolation"] == "fork":
            self._import_for_forks(data)
            self._in_fork(job, data)
        else:
            self._here(job, data)
        self.scratch.clean()  # while the worker reads how it ended

    def _import_for_forks(self, data: bytes) -> None:
        """Import the function's module in this process, so that forks need not; failures show in the fork."""
        with contextlib.suppress(BaseException):
            self._function(decode(data, self.settings["allow_pickle"])[0])
        # The collector of a fork leaves alone what was there before: else its first full run writes to, and
        # so copies, all of it (with wntr imported it takes 190 ms instead of 5).
        gc.freeze()

    def _in_fork(self, job: dict[str, Any], data: bytes) -> None:
        """What can be done before the fork is: each page that the fork writes to is copied for it."""
        flush_streams()
        self.memory.rss_mb()
        parent = os.getpid()
        self._forking = True
        child = os.fork()
        self._forking = False
        if child == 0:
            try:
                die_with_parent()
                self.leftovers.alone()
                if os.getppid() != parent:  # it died before we asked
                    os._exit(1)
                self._here(job, data)
                flush_streams()
                self.forks.ended()
            finally:
                os._exit(0)
        status = self.forks.wait(child)
        if status is not None:  # the fork said nothing: end as it ended, and the worker sees why
            if os.WIFSIGNALED(status):
                os.kill(os.getpid(), os.WTERMSIG(status))
            os._exit(os.WEXITSTATUS(status))

    def _here(self, job: dict[str, Any], data: bytes) -> None:
        started = time.time()
        clock = time.perf_counter()
        header: Dict[str, Any] = {"state": "finished"}
        body = b""
        self.points.install(self._send_points)
        self.leftovers.before()
        try:
            body = self._outcome(job, data)
            self._result_point(job, body)
        except BaseException as error:  # noqa: BLE001 (sys.exit of user code is a failure too)
            header = self._failure(error)
        self.points.uninstall()
        renew = self.leftovers.after(self.payload)
        header["duration"] = time.perf_counter() - clock
        header["started"] = started
        header["order"] = job["order"]
        header["rss_mb"] = self.memory.rss_mb()
        if renew:
            header["renew"] = renew
        if header["state"] == "failed":
            body = self.output.tail()
            if self.settings["kept_dir"]:
                kept = os.path.join(self.settings["kept_dir"], "%s-%d" % (job["id"], job["attempt"]))
                header["traceback"] += self.scratch.keep(kept)
        self.output.clear()
        self._send(DONE, json.dumps(header).encode() + b"\n" + body)
        self._flush()

    def _outcome(self, job: dict[str, Any], data: bytes) -> bytes:
        """The returned value as JSON, once the job's callbacks have run (as in RQ's Worker.perform_job)."""
        asked = job.get("asked")
        if not asked:
            return encode(self._call(job, data))
        if job["stopped"]:
            self._callback("stopped", "started", job, data)
            return b"null"
        try:
            # The worker stops executors that take too long; but then nothing is left that could call back.
            with time_limit(asked["timeout"] if asked["success"] or asked["failure"] else 0):
                value = self._call(job, data)
            body = encode(value)
            self._callback("success", "finished", job, data, value)
            return body
        except BaseException as error:
            self._callback("failure", "failed", job, data, type(error), error, error.__traceback__)
            raise

    def _callback(self, kind: str, status: str, job: Dict[str, Any], data: bytes, *args: Any) -> None:
        """Call the job's callback of that kind, if it has one. What it raises fails the job."""
        asked = job["asked"]
        if not asked[kind]:
            return
        name, timeout = asked[kind]
        view = JobView(job, data, status, self.settings["allow_pickle"])
        with time_limit(timeout):
            self.payload.function(name)(view, None, *args)

    def _failure(self, error: BaseException) -> dict[str, Any]:
        failure = Failure(error, self.payload)
        return {
            "state": "failed",
            "error": failure.error,
            "fingerprint": failure.fingerprint,
            "traceback": failure.traceback,
            # No job can run if the module does not import; a full disk or memory may be this node's alone.
            "broken": isinstance(error, Broken)
            or (self._importing and not isinstance(error, (MemoryError, OSError))),
        }

    def _call(self, job: Dict[str, Any], data: bytes) -> Any:
        self._importing = False
        name, args, kwargs = decode(data, self.settings["allow_pickle"])
        self._importing = True
        function = self._function(name)
        self._importing = False
        value = function(*args, **kwargs)
        if isinstance(value, types.CoroutineType):
            import asyncio

            return asyncio.run(value)
        return value

    def _function(self, name: str) -> Callable[..., Any]:
        """The payload's function of that name; what its module sets while it is imported stays."""
        if not self.payload.knows(name):
            with self.scratch.of_modules():
                self.payload.function(name)
            self.leftovers.imported()
        return self.payload.function(name)

    def _result_point(self, job: dict[str, Any], body: bytes) -> None:
        """The returned numbers as one point, for dashboards: its time is its place in the ensemble."""
        if not job["ensemble"] or not self.settings["points"]:
            return
        value = json.loads(body)
        returned = value if isinstance(value, dict) else {"value": value}
        numbers = {"index": job["index"]}
        for name, number in returned.items():
            if isinstance(number, (int, float)) and not isinstance(number, bool) and name != "index":
                with contextlib.suppress(OverflowError):  # too large for InfluxDB
                    numbers[name] = float(number)
        time_ns = int(job["created"] * 1e6) * 1000 + job["index"] * 1000
        tags = {"ensemble": job["ensemble"]}
        try:
            line = self.points.encode("result", numbers, tags, time_ns)
        except ValueError:
            fitting = {name: number for name, number in numbers.items() if self._fits(name)}
            line = self.points.encode("result", fitting, tags, time_ns)
        self._send(SUMMARY, (line + "\n").encode())

    def _fits(self, name: str) -> bool:
        """Whether InfluxDB takes a field of that name."""
        try:
            self.points.encode("result", {name: 0.0})
        except ValueError:
            return False
        return True

    def _send_points(self, lines: str) -> None:
        self._send(POINTS, lines.encode())

    def _send(self, kind: int, body: bytes) -> None:
        """Small frames leave together, at the end of the job."""
        self._unsent += pack(kind, body)
        if len(self._unsent) > FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        self.control.sendall(self._unsent)
        self._unsent.clear()

    def _set_environ(self, job: dict[str, Any]) -> None:
        os.environ.pop("CLOUDBURST_JOB_META", None)
        if "asked" in job:
            meta = read_meta(job["asked"], self.settings["allow_pickle"])
            if meta:
                os.environ["CLOUDBURST_JOB_META"] = json.dumps(meta, default=str)
        os.environ["CLOUDBURST_JOB"] = job["id"]
        os.environ["CLOUDBURST_ENSEMBLE"] = job["ensemble"]
        os.environ["CLOUDBURST_INDEX"] = str(job["index"])
        os.environ["CLOUDBURST_ATTEMPT"] = str(job["attempt"])


def main() -> None:
    fd, queue_fd, lifeline, scratch, line_py, modules = sys.argv[1:7]
    all_die_with(int(lifeline))
    stand_back()
    obey_modes()
    control, queue = socket.socket(fileno=int(fd)), socket.socket(fileno=int(queue_fd))
    control.set_inheritable(False)
    queue.set_inheritable(False)
    faulthandler.enable(all_threads=False)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    sys.argv = ["worker"]
    executor = Executor(control, queue, scratch=scratch, points=load_results(line_py))
    if executor.stand_by(json.loads(modules)):
        executor.serve()
