"""The executor: runs jobs of one payload, one after another, in the payload's own interpreter.

It imports the modules that it is told to, and is told its payload only then: an executor that has none yet
stands by for whichever payload of its environment is next.

It is one file, however long, because that interpreter knows nothing of CloudBurst. It needs nothing but the
standard library, runs on Python 3.8 and later, and is started by the worker as
``python executor.py FD QUEUE_FD LIFELINE_FD SCRATCH_DIR LINE_PY PRELOAD``; PRELOAD is a JSON list of modules.

QUEUE_FD is a socket that keeps the bounds of messages. Each message is a job: eight bytes by which the worker
recognises it, JSON header, newline, data as the client's serializer wrote it (if that is large, the header
names a file that holds all but the eight bytes). It is taken when its turn has come, not before: the worker
may take the others back.

FD is one end of a stream socket, for what we say, and for the payload that we are told. Frames: four bytes of
length (big endian), one byte of kind, then the body.

LIFELINE_FD is a pipe that nothing is written into; it breaks when the worker dies.

====  ==============================================================================
kind  body
====  ==============================================================================
P     points of the running job, in line protocol
D     JSON header, newline, the returned value as JSON; or the captured output
T     from the worker, once and before any job: the payload's directory, its settings and variables, as JSON.
      Not through the queue, from which the worker may take back what we have not taken
====  ==============================================================================

stdout and stderr are a file that the worker opened for appending. After each job it is emptied; its last
part goes with the D frame of a job that failed.
"""

from __future__ import annotations

import base64
import contextlib
import faulthandler
import fcntl
import functools
import gc
import hashlib
import importlib
import importlib.machinery
import importlib.util
import json
import logging
import os
import pickle
import resource
import select
import shutil
import signal
import socket
import stat
import struct
import sys
import tempfile
import time
import traceback
import types
from typing import Any, Callable, Dict, Iterator, Optional

HEADER = struct.Struct(">IB")
ORDER = struct.Struct(">Q")
POINTS, DONE, TAKE_ON = b"PDT"
QUEUE_KIND = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
INLINE_BYTES = 32 * 1024 if sys.platform == "linux" else 1024
"""Data of a job that goes into a message; more goes into a file."""
MESSAGE_LIMIT = INLINE_BYTES + 4096
RESULT_LIMIT = 64 * 1024
OUTPUT_LIMIT = 64 * 1024
PR_SET_PDEATHSIG = 1
NICE = 5
RSS_INTERVAL_S = 0.1
FLUSH_BYTES = 1 << 16


def pack(kind: int, body: bytes) -> bytes:
    """One frame."""
    return HEADER.pack(len(body), kind) + body


def split(buffer: bytearray) -> list[tuple[int, bytes]]:
    """Take the complete frames off the front of a bytearray: a list of (kind, body)."""
    frames = []
    offset = 0
    while len(buffer) - offset >= HEADER.size:
        length, kind = HEADER.unpack_from(buffer, offset)
        end = offset + HEADER.size + length
        if len(buffer) < end:
            break
        frames.append((kind, bytes(buffer[offset + HEADER.size : end])))
        offset = end
    del buffer[:offset]
    return frames


class Broken(Exception):
    """The function cannot be called at all: its module does not import, or does not have it."""


class Refused(Exception):
    """The job's data is not something that this executor runs."""


class JobTimeoutException(Exception):
    """A job with callbacks, or a callback, has used up its time; named as in RQ (rq/timeouts.py)."""


class Payload:
    """The user's modules: finds functions in them, and nowhere else."""

    def __init__(self, directory: str) -> None:
        self.directory = os.path.realpath(directory)
        self._functions: Dict[str, Callable[..., Any]] = {}

    def function(self, name: str) -> Callable[..., Any]:
        """The function of that dotted name (Broken, or what its module raises while it is imported)."""
        found = self._functions.get(name)
        if found is None:
            found = self._functions[name] = self._find(name)
        return found

    def _find(self, name: str) -> Callable[..., Any]:
        parts = name.split(".")
        if len(parts) < 2:
            raise Broken("%r names no module: use module.function, such as worker.work" % name)
        spec = importlib.util.find_spec(parts[0])
        if spec is None:
            raise Broken("the payload has no module %r (function %r)" % (parts[0], name))
        places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or [])
        if not any(place and self.contains(place) for place in places):
            raise Broken(
                "%r is not a module of the payload (function %r): only the payload's own functions are run; "
                "rename the module if it has the name of an installed one" % (parts[0], name)
            )
        module, rest = importlib.import_module(parts[0]), parts[1:]
        while len(rest) > 1 and hasattr(module, "__path__") and not hasattr(module, rest[0]):
            module, rest = importlib.import_module(module.__name__ + "." + rest[0]), rest[1:]
        if hasattr(module, "__path__") and len(rest) > 1:
            with contextlib.suppress(ModuleNotFoundError):
                module, rest = importlib.import_module(module.__name__ + "." + rest[0]), rest[1:]
        target: Any = module
        for attribute in rest:
            if not hasattr(target, attribute):
                own = (n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__)
                here = sorted(n for n in own if callable(getattr(module, n)) and not n.startswith("_"))
                raise Broken(
                    "module %r has no function %r; it has: %s"
                    % (module.__name__, ".".join(rest), ", ".join(here) or "none")
                )
            target = getattr(target, attribute)
        if not callable(target):
            raise Broken("%r is not a function but a %s" % (name, type(target).__name__))
        function: Callable[..., Any] = target
        return function

    def has(self, name: str) -> bool:
        """Whether a file of that relative name comes with the payload."""
        return not os.path.isabs(name) and os.path.exists(os.path.join(self.directory, name))

    def contains(self, path: str) -> bool:
        """Whether the file belongs to the payload."""
        return os.path.realpath(path).startswith(self.directory + os.sep)


def decode(data: bytes, allow_pickle: bool) -> tuple[str, list[Any], dict[str, Any]]:
    """Function name, args and kwargs of job data (Refused when it may not be read)."""
    if data[:1] == b"\x80":
        if not allow_pickle:
            raise Refused(
                "this stack does not run pickled jobs: enqueue with Queue(..., serializer=JSONSerializer) "
                "from rq.serializers"
            )
        call = pickle.loads(data)
    else:
        try:
            call = json.loads(data)
        except ValueError:
            raise Refused(
                "the job's data is neither JSON nor a pickle; it begins with %r" % data[:40]
            ) from None
    try:
        name, instance, args, kwargs = call
    except (TypeError, ValueError):
        raise Refused("the job's data is not [function, null, [arguments], {}]") from None
    if instance is not None or not isinstance(name, str):
        raise Refused(
            "only functions named as text can be run, such as 'worker.work', not methods of objects"
        )
    return name, args, kwargs


def encode(value: Any) -> bytes:
    """The returned value as JSON (Refused when it is not, or too large)."""
    try:
        text = json.dumps(value, default=_plain, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused(
            "what the function returned is not JSON (%s): return numbers, text, lists and dicts" % error
        ) from None
    body = text.encode()
    if len(body) > RESULT_LIMIT:
        raise Refused(
            "what the function returned has {:,} bytes as JSON, the limit is {:,}: write large results as "
            "points (cloudburst.results.write) or to a file store".format(len(body), RESULT_LIMIT)
        )
    return body


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return value.tolist()
    raise TypeError("%s found in it" % type(value).__name__)


class Failure:
    """What the worker is told of an exception: one line, a fingerprint, the user's part of the traceback."""

    def __init__(self, error: BaseException, payload: Payload) -> None:
        self.error = _headline(error, payload)
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if payload.contains(frame.filename)]
        place = "%s:%s:%s" % (own[-1].filename, own[-1].name, own[-1].lineno) if own else str(error)
        kind = "%s.%s|" % (type(error).__module__, type(error).__qualname__)
        place = place.replace(payload.directory, "")
        self.fingerprint = hashlib.sha256((kind + place).encode("utf-8", "replace")).hexdigest()[:8]
        if isinstance(error, (Broken, Refused)):
            self.traceback = str(error)
        else:
            tb = error.__traceback__
            while tb is not None and tb.tb_frame.f_code.co_filename == __file__:
                tb = tb.tb_next
            shown = tb if own else error.__traceback__
            self.traceback = "".join(traceback.format_exception(type(error), error, shown))


def _headline(error: BaseException, payload: Payload) -> str:
    text = str(error).strip().split("\n")[0][:300]
    if isinstance(error, (Broken, Refused)):
        return str(error)
    if isinstance(error, SystemExit):
        return "SystemExit: the function called sys.exit(%s); let it return or raise instead" % text
    line = "%s: %s" % (type(error).__name__, text) if text else type(error).__name__
    if isinstance(error, ModuleNotFoundError) and error.name:
        return "%s: %s" % (line, _missing(error.name, error, payload))
    if isinstance(error, ImportError) and "cannot open shared object file" in text:
        return "%s: the node lacks a system library: name its package in cloudburst.toml, apt = [...]" % line
    name = getattr(error, "filename", None)
    if isinstance(error, FileNotFoundError) and isinstance(name, str) and payload.has(name):
        return "%s: each job runs in a directory of its own; open Path(__file__).parent / %r" % (line, name)
    return line


def _missing(module: str, error: BaseException, payload: Payload) -> str:
    """Who imports the module that is not there, and what to do about it."""
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    importer = next((name for name in reversed(files) if name != __file__ and not name.startswith("<")), "")
    top = module.split(".", maxsplit=1)[0]
    if module != top and top in sys.modules:
        return "the %s that is installed has none; see its version in the Pipfile.lock" % top
    advice = 'add the package that brings it to the Pipfile, such as %s = "*"' % top
    _, installed, inside = importer.rpartition(os.sep + "site-packages" + os.sep)
    if installed:
        return "%s needs %s without saying so: %s" % (inside.split(os.sep)[0].split(".")[0], top, advice)
    who = os.path.relpath(importer, payload.directory) if payload.contains(importer) else "the payload"
    return "%s imports it: %s" % (who, advice)


class JobView:
    """What a callback sees of its job: attributes of rq.job.Job, read-only, and none that needs Redis."""

    def __init__(self, header: Dict[str, Any], data: bytes, status: str, allow_pickle: bool) -> None:
        asked = header["asked"]
        name, args, kwargs = decode(data, allow_pickle)
        self.__dict__.update(
            id=header["id"],
            func_name=name,
            args=args,
            kwargs=kwargs,
            meta=read_meta(asked, allow_pickle),
            description=asked["description"],
            origin=asked["origin"],
            timeout=asked["timeout"],
            created_at=_datetime(asked["created_at"]),
            enqueued_at=_datetime(asked["enqueued_at"]),
            retries_left=asked["retries_left"],
            worker_name=asked["worker"],
            _status=status,
        )

    def get_id(self) -> str:
        job_id: str = self.__dict__["id"]
        return job_id

    def get_status(self, refresh: bool = True) -> str:
        status: str = self.__dict__["_status"]
        return status

    def get_meta(self, refresh: bool = True) -> Any:
        return self.__dict__["meta"]

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            "a callback's job has no %r here: callbacks run where user code runs, without Redis" % name
        )

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a callback's job is read-only: %s cannot be set" % name)

    def __repr__(self) -> str:
        return "<JobView %s: %s>" % (self.__dict__["id"], self.__dict__["description"])


def _datetime(text: str) -> Any:
    """What RQ wrote as an aware datetime; None for nothing."""
    if not text:
        return None
    import datetime

    found = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")
    return found.replace(tzinfo=datetime.timezone.utc)


def read_meta(asked: Dict[str, Any], allow_pickle: bool) -> Any:
    """The job's meta; what cannot be read is {"unserialized": ...}, as RQ has it."""
    raw = base64.b64decode(asked["meta"])
    if not raw:
        return {}
    try:
        return pickle.loads(raw) if allow_pickle and raw[:1] == b"\x80" else json.loads(raw)
    except Exception:  # noqa: BLE001 (whatever unpickling raises)
        return {"unserialized": raw}


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise JobTimeoutException in the body when it takes longer; 0: no limit."""

    def late(_number: int, _frame: Any) -> None:
        raise JobTimeoutException("Task exceeded maximum timeout value (%g seconds)" % seconds)

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Output:
    """The file behind stdout and stderr."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def tail(self) -> bytes:
        """The last part of it."""
        _flush()
        size = os.fstat(self.fd).st_size
        return os.pread(self.fd, OUTPUT_LIMIT, max(size - OUTPUT_LIMIT, 0))

    def clear(self) -> None:
        _flush()
        if os.fstat(self.fd).st_size:
            os.ftruncate(self.fd, 0)


class Scratch:
    """The directory that a job runs in: empty when it begins, whatever the one before has done to its own."""

    def __init__(self, parent: str) -> None:
        self.parent = parent
        self.directory = ""
        self._made = 0

    def enter(self) -> None:
        """Go into an empty directory, which is the one for temporary files, too."""
        try:
            os.chdir(self.directory)
        except OSError:  # it is gone, or there was none yet
            self._made += 1
            self.directory = os.path.join(self.parent, "job-%d" % self._made)
            os.mkdir(self.directory, 0o700)
            os.chdir(self.directory)
        os.environ["TMPDIR"] = os.environ["TEMP"] = os.environ["TMP"] = self.directory
        tempfile.tempdir = None

    def clean(self) -> None:
        """An empty directory serves the next job, too; any other is removed."""
        with contextlib.suppress(OSError):
            if not os.listdir(self.directory) and stat.S_IMODE(os.stat(self.directory).st_mode) == 0o700:
                return
        os.chdir(self.parent)
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory = ""


class Memory:
    """Resident memory of this process; looked up at most ten times a second."""

    def __init__(self) -> None:
        self._mb = 0
        self._next = 0.0

    def rss_mb(self) -> int:
        """In MiB, lately; where /proc does not say, the most there ever was."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + RSS_INTERVAL_S
            self._mb = self._look_up()
        return self._mb

    @staticmethod
    def _look_up() -> int:
        try:
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * resource.getpagesize() >> 20
        except OSError:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB; bytes on macOS
            return peak >> 20 if sys.platform == "darwin" else peak >> 10


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


class Forks:
    """Waits for forks. One that has said that its job has ended may go while the next one comes.

    Taking down a process with wntr imported takes as long as forking it, 5 ms: both go on at once.
    """

    def __init__(self) -> None:
        self._said, self._say = os.pipe()
        self._leaving = 0

    def ended(self) -> None:
        """In the fork: all that is left to do is to exit."""
        os.write(self._say, b".")

    def wait(self, child: int) -> Optional[int]:
        """Until the fork says so; its wait status if it ends without."""
        self._last()  # never two: their memory is still in use
        self._leaving = child
        try:
            handle = os.pidfd_open(child)
        except (AttributeError, OSError):  # Python 3.8, or a kernel that has or allows no such thing
            status = self._last()
        else:
            # Not by the end of the pipe: processes that user code has left behind may hold it open.
            poll = select.poll()
            poll.register(self._said, select.POLLIN)
            poll.register(handle, select.POLLIN)
            poll.poll()
            os.close(handle)
            status = 0
        if select.select([self._said], [], [], 0)[0]:
            os.read(self._said, 1)
            return None
        return self._last() or status

    def _last(self) -> int:
        """The wait status of the one that is leaving, once it has left."""
        if not self._leaving:
            return 0
        child, self._leaving = self._leaving, 0
        return os.waitpid(child, 0)[1]


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
            self.payload.function(decode(data, self.settings["allow_pickle"])[0])
        # The collector of a fork leaves alone what was there before: else its first full run writes to, and
        # so copies, all of it (with wntr imported it takes 190 ms instead of 5).
        gc.freeze()

    def _in_fork(self, job: dict[str, Any], data: bytes) -> None:
        """What can be done before the fork is: each page that the fork writes to is copied for it."""
        _flush()
        self.memory.rss_mb()
        parent = os.getpid()
        self._forking = True
        child = os.fork()
        self._forking = False
        if child == 0:
            try:
                _die_with_parent()
                if os.getppid() != parent:  # it died before we asked
                    os._exit(1)
                self._here(job, data)
                _flush()
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
        try:
            body = self._outcome(job, data)
            self._result_point(job, body)
        except BaseException as error:  # noqa: BLE001 (sys.exit of user code is a failure too)
            header = self._failure(error)
        self.points.uninstall()
        header["duration"] = time.perf_counter() - clock
        header["started"] = started
        header["order"] = job["order"]
        header["rss_mb"] = self.memory.rss_mb()
        if header["state"] == "failed":
            body = self.output.tail()
            if self.settings["kept_dir"]:
                header["traceback"] += self._keep(job)
        self.output.clear()
        self._send(DONE, json.dumps(header).encode() + b"\n" + body)
        self._flush()

    def _outcome(self, job: dict[str, Any], data: bytes) -> bytes:
        """The returned value as JSON, once the job's callbacks have run (as in RQ's Worker.perform_job)."""
        asked = job.get("asked")
        if not asked:
            return encode(self._call(data))
        if job["stopped"]:
            self._callback("stopped", "started", job, data)
            return b"null"
        try:
            # The worker stops executors that take too long; but then nothing is left that could call back.
            with time_limit(asked["timeout"] if asked["success"] or asked["failure"] else 0):
                value = self._call(data)
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

    def _call(self, data: bytes) -> Any:
        self._importing = False
        name, args, kwargs = decode(data, self.settings["allow_pickle"])
        self._importing = True
        function = self.payload.function(name)
        self._importing = False
        value = function(*args, **kwargs)
        if isinstance(value, types.CoroutineType):
            import asyncio

            return asyncio.run(value)
        return value

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
        self._send_points(line + "\n")

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

    def _keep(self, job: Dict[str, Any]) -> str:
        """Copy what the job has left in its scratch directory to where it stays; a line that says where."""
        kept = os.path.join(self.settings["kept_dir"], "%s-%d" % (job["id"], job["attempt"]))
        try:
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(self.scratch.directory, kept, symlinks=True)
        except OSError as error:
            return "\nIts scratch directory could not be kept: %s\n" % error
        return "\nIts scratch directory was kept: %s:%s\n" % (socket.gethostname(), kept)


def _die_with_parent() -> None:
    """Linux: this process is killed when the one that started it dies, however it dies."""
    with contextlib.suppress(Exception):
        _libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@functools.lru_cache(maxsize=None)
def _libc() -> Any:
    """The C library; kept, because forks should not have to load it."""
    import ctypes

    return ctypes.CDLL(None)


def _all_die_with(lifeline: int) -> None:
    """Linux: when the pipe breaks, the kernel kills all of our process group, what jobs have started too.

    Not with _die_with_parent(): the kernel would kill us first, and with us forget what we have asked for.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | fcntl.FASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # it broke before we asked
        os._exit(1)


def _stand_back() -> None:
    """Let the services have the CPU when they want it: they want little, and all executors wait for them.

    Linux: when memory runs out, the kernel kills executors before the worker or Redis.
    """
    os.nice(NICE)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("800")


def _load_results(path: str) -> Any:
    """The module that user code imports as ``cloudburst.results``; the package itself is not needed."""
    spec = importlib.util.spec_from_file_location("cloudburst.results", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    package = types.ModuleType("cloudburst")
    package.__path__ = []
    setattr(package, "results", module)  # noqa: B010 (a module has no such attribute to a type checker)
    sys.modules["cloudburst"] = package
    sys.modules["cloudburst.results"] = module
    spec.loader.exec_module(module)
    return module


def preload(modules: list[str]) -> set[str]:
    """Import modules of the environment; the names of all that came with them.

    One that cannot be imported is no error yet: the job that needs it will say so.
    """
    before = set(sys.modules)
    for name in modules:
        try:
            importlib.import_module(name)
        except BaseException as error:  # noqa: BLE001 (whatever a module does when it is imported)
            logging.warning("preload: %s cannot be imported (%s: %s)", name, type(error).__name__, error)
    return set(sys.modules) - before


def find_first(payload_dir: str, ahead: set[str]) -> None:
    """From now on the payload's modules are found first, also where one of that name has come ``ahead``."""
    directory = os.path.realpath(payload_dir)
    sys.argv = [os.path.join(payload_dir, "worker")]
    sys.path.insert(0, directory)
    files = {name.partition(".")[0] for name in os.listdir(directory)}
    for top in files & {name.partition(".")[0] for name in ahead}:
        spec = importlib.machinery.PathFinder.find_spec(top, [directory])
        if spec is not None and spec.origin is not None:  # a mere directory of that name hides nothing
            for name in [name for name in ahead if name.partition(".")[0] == top]:
                sys.modules.pop(name, None)


def main() -> None:
    fd, queue_fd, lifeline, scratch, line_py, modules = sys.argv[1:7]
    os.set_inheritable(int(lifeline), False)
    if hasattr(fcntl, "F_SETSIG"):
        _all_die_with(int(lifeline))
    _stand_back()
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
    del sys.path[0]
    executor = Executor(control, queue, scratch=scratch, points=_load_results(line_py))
    if executor.stand_by(json.loads(modules)):
        executor.serve()


if __name__ == "__main__":
    main()
