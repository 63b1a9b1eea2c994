"""The executor: runs jobs of one payload, one after another, in the payload's own interpreter.

It imports the modules that it is told to, and is told its payload only then: an executor that has none yet
stands by for whichever payload of its environment is next.

It is started by the worker as ``python __main__.py FD QUEUE_FD LIFELINE_FD SCRATCH_DIR PRELOAD``.
QUEUE_FD is the socket through which jobs come, FD the one for frames (see ``frames``). LIFELINE_FD is a pipe
that nothing is written into; it breaks when the worker dies. PRELOAD is a JSON list of modules.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
import time
import types
from typing import Any, Callable, Dict, Optional, Set

from .callbacks import JobView, read_meta, time_limit
from .channel import Channel
from .copies import make_writable
from .descriptors import Kept
from .failures import Failure
from .forks import Forks, Gone
from .frames import BEGUN, DONE, ORDER, POINTS, POINTS_LIMIT, SUMMARY, split
from .leftovers import Leftovers
from .lifelines import all_die_with, die_with_parent, stand_back
from .logs import capture
from .memory import Memory
from .output import Output, answer_signals, flush_streams
from .payload import Payload, find_first, preload
from .privileges import obey_modes
from .scratch import Scratch
from .seeds import Seeds, numbered
from .stub import collect, load_results
from .values import decode, encode, plain
from .variables import put


class Executor:
    """Runs jobs as they come from the queue, and says over the other socket how they ended."""

    payload: Payload
    settings: Dict[str, Any]
    seeds: Optional[Seeds]

    def __init__(self, channel: Channel, output: Output, *, scratch: str) -> None:
        self.channel = channel
        self.output = output
        self.scratch = Scratch(scratch)
        self._points_file = os.path.join(scratch, "points")
        self.points = load_results(self._points_file)
        self.memory = Memory()
        self.forks = Forks()
        self.leftovers = Leftovers()
        self._written = 0
        self._importing = False
        self._begun: Set[str] = set()
        self._renewed = False
        self._forking = False
        os.register_at_fork(after_in_child=self._let_go)

    def _let_go(self) -> None:
        """In a process that user code forks (as multiprocessing does): it is not the executor.

        If it kept our end of the sockets, the worker would not see the executor end before it did.
        """
        if not self._forking:
            self.channel.close()

    def stand_by(self, modules: list[str]) -> bool:
        """Import modules ahead, then wait for a payload and take it on; False when there comes none."""
        self.scratch.enter()
        ahead = preload(modules)
        self.scratch.clean()
        buffer = bytearray()
        while True:
            chunk = self.channel.payload()
            buffer += chunk
            for _, body in split(buffer):
                told = json.loads(body)
                os.chdir(told["payload"])  # an executor whose payload is gone should fail here
                os.environ.update(told["environ"])
                self.payload, self.settings = Payload(told["payload"]), told["settings"]
                find_first(told["payload"], ahead)
                self.seeds = Seeds(self.payload) if self.settings["seed"] else None
                make_writable(self.payload)
                return True
            if not chunk:
                return False

    def serve(self) -> None:
        """Until the worker closes the queue, or was told to renew this executor: others run the rest."""
        while not self._renewed:
            message = self.channel.job()
            if not message:
                return
            head, _, data = message[ORDER.size :].partition(b"\n")
            job = json.loads(head.decode())
            if "file" in job:
                with open(job["file"], "rb") as file:
                    head, _, data = file.read().partition(b"\n")
                os.unlink(job["file"])
                job = json.loads(head)
            (job["order"],) = ORDER.unpack_from(message)
            self.run(job, data)
        self.channel.await_end()

    def run(self, job: dict[str, Any], data: bytes) -> None:
        """One job, in a scratch directory of its own; in a process of its own too with isolation = "fork"."""
        self.output.put_back()
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
            if self.seeds is not None:
                self.seeds.look()
        # The collector of a fork leaves alone what was there before: else its first full run writes to, and
        # so copies, all of it (with wntr imported it takes 190 ms instead of 5).
        gc.freeze()

    def _in_fork(self, job: dict[str, Any], data: bytes) -> None:
        """What can be done before the fork is: each page that the fork writes to is copied for it."""
        flush_streams()
        self.memory.rss_mb()
        started, clock, parent = time.time(), time.perf_counter(), os.getpid()
        self.leftovers.processes.before()
        self.leftovers.written.flush()  # else each fork would write it
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
        if status is None:
            return
        if os.WIFSIGNALED(status):  # end as it ended, and the worker sees why
            os.kill(os.getpid(), os.WTERMSIG(status))
        header = self._failure(Gone(os.WEXITSTATUS(status)))
        header["renew"] = self.leftovers.processes.after()
        self._tell(job, header, b"", started, clock)

    def _here(self, job: dict[str, Any], data: bytes) -> None:
        started, clock = time.time(), time.perf_counter()
        header: Dict[str, Any] = {"state": "finished"}
        body, value, series = b"", None, {}
        self._written = 0
        self.points.install(self._send_points)
        self.leftovers.before()
        try:
            value = self._outcome(job, data)
            body = encode(value)
        except BaseException as error:  # noqa: BLE001 (sys.exit of user code is a failure too)
            header = self._failure(error)
        renew = self.leftovers.after(self.payload)
        try:
            series = self.points.uninstall(collect(self._points_file))
        except BaseException as error:  # noqa: BLE001 (too many points)
            header = self._failure(error)
        if header["state"] == "finished":
            with contextlib.suppress(Exception):  # it never costs the value
                self._summarize(job, value)
        if renew:
            header["renew"] = renew
            self._renewed = True
        if series:
            header["series"] = series
        self._tell(job, header, body, started, clock)

    def _tell(
        self, job: dict[str, Any], header: dict[str, Any], body: bytes, started: float, clock: float
    ) -> None:
        """Tell the worker how the job ended, and forget what it printed."""
        header["duration"] = time.perf_counter() - clock
        header["started"] = started
        header["order"] = job["order"]
        header["rss_mb"] = self.memory.rss_mb()
        if header["state"] == "failed":
            body = self.output.ends()
            if self.settings["kept_dir"]:
                kept = os.path.join(self.settings["kept_dir"], "%s-%d" % (job["id"], job["attempt"]))
                header["traceback"] += self.scratch.keep(kept)
        self.output.clear()
        self.channel.send(DONE, json.dumps(header).encode() + b"\n" + body)
        self.channel.flush()

    def _outcome(self, job: dict[str, Any], data: bytes) -> Any:
        """The returned value, plain, once the job's callbacks have run (as in RQ's Worker.perform_job)."""
        asked = job.get("asked")
        if not asked:
            return plain(self._call(job, data))
        if job["stopped"]:
            self._callback("stopped", "started", job, data)
            return None
        try:
            # The worker stops executors that take too long; but then nothing is left that could call back.
            limit_s = asked["timeout"] if asked["success"] or asked["failure"] else 0
            returned = self._call(job, data, limit_s)
            value = plain(returned)
            encode(value)
            self._callback("success", "finished", job, data, returned)
            return value
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
        failure, kind = Failure(error, self.payload), type(error)
        return {
            "state": "failed",
            "error": failure.error,
            "fingerprint": failure.fingerprint,
            "traceback": failure.traceback,
            # No job can run if the module does not import; a full disk or memory may be this node's alone.
            "broken": self._importing and not issubclass(kind, (MemoryError, OSError)),
        }

    def _call(self, job: Dict[str, Any], data: bytes, limit_s: float = 0) -> Any:
        """What the function returns. Its module is imported before its time begins, and keeps no handler."""
        self._importing = False
        name, args, kwargs = decode(data, self.settings["allow_pickle"])
        self._importing = True
        function = self._function(name)
        self._importing = False
        self._say_begun(job)
        if self.seeds is not None:
            self.seeds.before(job["seed"], job["index"])
        with time_limit(limit_s) if limit_s else contextlib.nullcontext():
            value = function(*args, **kwargs)
            if isinstance(value, types.CoroutineType):
                import asyncio

                return asyncio.run(value)
            return value

    def _say_begun(self, job: Dict[str, Any]) -> None:
        """Once for each ensemble; at once, because from now on the job may say what it likes."""
        if job["ensemble"] not in self._begun:
            self._begun.add(job["ensemble"])
            self.channel.send(BEGUN, ORDER.pack(job["order"]))
            self.channel.flush()

    def _function(self, name: str) -> Callable[..., Any]:
        """The payload's function of that name; what its module sets while it is imported stays."""
        if not self.payload.knows(name):
            with self.scratch.of_modules():
                self.payload.function(name)
            self.leftovers.imported()
        return self.payload.function(name)

    def _summarize(self, job: dict[str, Any], value: Any) -> None:
        """The returned numbers as one point, for dashboards: its time is its place in the ensemble."""
        if not job["ensemble"] or not self.settings["points"]:
            return
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
        self.channel.send(SUMMARY, (line + "\n").encode())

    def _fits(self, name: str) -> bool:
        """Whether InfluxDB takes a field of that name."""
        try:
            self.points.encode("result", {name: 0.0})
        except ValueError:
            return False
        return True

    def _send_points(self, lines: str) -> None:
        data = lines.encode()
        self._written += len(data)
        if self._written > POINTS_LIMIT:
            raise ValueError("a job may write {:,} bytes of points".format(POINTS_LIMIT))
        self.channel.send(POINTS, data)

    def _set_environ(self, job: dict[str, Any]) -> None:
        os.environ.pop("CLOUDBURST_JOB_META", None)
        if "asked" in job:
            meta = read_meta(job["asked"], self.settings["allow_pickle"])
            if meta:
                put("CLOUDBURST_JOB_META", json.dumps(meta, default=str))
        put("CLOUDBURST_JOB", job["id"])
        put("CLOUDBURST_ENSEMBLE", job["ensemble"])
        put("CLOUDBURST_INDEX", str(job["index"]))
        put("CLOUDBURST_ATTEMPT", str(job["attempt"]))
        put("CLOUDBURST_SEED", str(numbered(job["seed"], job["index"])))


def main() -> None:
    fd, queue_fd, lifeline_fd, scratch, modules = sys.argv[1:6]
    output = Output()
    lifeline = Kept(int(lifeline_fd))
    os.close(int(lifeline_fd))
    all_die_with(lifeline.fd)
    stand_back()
    obey_modes()
    answer_signals()
    capture()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["worker"]
    channel = Channel(int(fd), int(queue_fd))
    executor = Executor(channel, output, scratch=scratch)
    if executor.stand_by(json.loads(modules)):
        executor.serve()
